{{- define "exitcode-exporter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* The release's name, followed by the chart's unless it says so already. */}}
{{- define "exitcode-exporter.fullname" -}}
{{- $name := include "exitcode-exporter.name" . }}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) }}
{{- default $full .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "exitcode-exporter.selector" -}}
app.kubernetes.io/name: {{ include "exitcode-exporter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* Labels of a pod: those of an object but for the chart's version, which would restart pods for nothing. */}}
{{- define "exitcode-exporter.podLabels" -}}
{{ include "exitcode-exporter.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: exporter
app.kubernetes.io/part-of: exitcode-exporter
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "exitcode-exporter.labels" -}}
{{ include "exitcode-exporter.podLabels" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "exitcode-exporter.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "exitcode-exporter.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name: needed where serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "exitcode-exporter.subject" -}}
- kind: ServiceAccount
  name: {{ include "exitcode-exporter.serviceAccount" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}

{{- define "exitcode-exporter.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end }}
{{- end }}

{{- /* What the exporter may read: the rules of the ClusterRole, or of each Role. */}}
{{- define "exitcode-exporter.rules" -}}
- apiGroups: [""]
  resources: [pods, events]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [replicationcontrollers]
  verbs: [get]
- apiGroups: [apps]
  resources: [replicasets, deployments, statefulsets, daemonsets]
  verbs: [get]
- apiGroups: [batch]
  resources: [jobs, cronjobs]
  verbs: [get]
{{- end }}

{{- define "exitcode-exporter.args" -}}
- --listen-address=:{{ .Values.port }}
{{- with .Values.namespaces }}
- --namespaces={{ join "," . }}
{{- end }}
{{- with .Values.excludeNamespaces }}
- --exclude-namespaces={{ join "," . }}
{{- end }}
{{- range .Values.copyLabels }}
- --copy-label={{ . }}
{{- end }}
{{- with .Values.runbookUrl }}
- --runbook-url={{ trimSuffix "/" . }}/
{{- end }}
{{- if .Values.persistence.enabled }}
- --state-dir=/var/lib/exitcode-exporter
{{- end }}
{{- if .Values.auth.kubernetes }}
- --auth=kubernetes
{{- end }}
{{- with .Values.webConfig }}
{{- if .existingSecret }}
- --web.config.file=/etc/exitcode-exporter/{{ .key }}
{{- end }}
{{- end }}
{{- range .Values.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end }}

{{- define "exitcode-exporter.scheme" -}}
{{- if and .Values.webConfig.existingSecret (or .Values.webConfig.tls .Values.webConfig.clientCertificates) }}HTTPS{{ else }}HTTP{{ end }}
{{- end }}

{{- /* The check of a probe: (dict "root" $ "path" "/livez"). */}}
{{- define "exitcode-exporter.check" -}}
{{- if and .root.Values.webConfig.existingSecret .root.Values.webConfig.clientCertificates -}}
tcpSocket:
  port: metrics
{{- else -}}
httpGet:
  path: {{ .path }}
  port: metrics
  {{- if eq (include "exitcode-exporter.scheme" .root) "HTTPS" }}
  scheme: HTTPS
  {{- end }}
{{- end }}
{{- end }}

{{- /* Where the links of alerts and dashboards begin; ends with a slash. */}}
{{- define "exitcode-exporter.runbooks" -}}
{{- if .Values.runbookUrl }}
{{- trimSuffix "/" .Values.runbookUrl }}/
{{- else }}
{{- printf "%s://%s.%s.svc:%v/runbooks/" (include "exitcode-exporter.scheme" . | lower) (include "exitcode-exporter.fullname" .) .Release.Namespace .Values.port }}
{{- end }}
{{- end }}

{{- /* A file of the chart with its runbook links led there: (list $ "files/…"). Never evaluated: {{ }} in it is Prometheus'. */}}
{{- define "exitcode-exporter.file" -}}
{{- $root := index . 0 }}
{{- $root.Files.Get (index . 1) | replace "http://exitcode-exporter.exitcode-exporter.svc:10137/runbooks/" (include "exitcode-exporter.runbooks" $root) }}
{{- end }}

{{- /* Seconds of an interval in s or m. */}}
{{- define "exitcode-exporter.seconds" -}}
{{- hasSuffix "m" . | ternary (mul 60 (trimSuffix "m" . | int)) (trimSuffix "s" . | int) }}
{{- end }}

{{- /* What no schema can say. */}}
{{- define "exitcode-exporter.validate" -}}
{{- if and .Values.persistence.enabled (gt (int .Values.replicas) 1) }}
{{- fail "persistence.enabled with replicas above 1: two exporters can't write one state; choose one of them" }}
{{- end }}
{{- if and .Values.extraOwnerRules .Values.rbac.create (not .Values.namespaces) (not .Values.rbac.aggregateOwners) }}
{{- fail "extraOwnerRules are added by rbac.aggregateOwners, which is false" }}
{{- end }}
{{- end }}
