#!/usr/bin/env python3
"""The shipped manifests on a real cluster, in a namespace that enforces `restricted`, with the image that the Dockerfile describes.

Assembles the image twice (equal, and by crane's word valid), imports it into the node's containerd, and then:
- the base: the API server takes it, and every overlay, without a warning; the pod becomes ready; pods that the standard
  `restricted` forbids are refused in its namespace; real ends are counted; after a rolling update counting goes on, and
  Prometheus' counts over both are the truth; the shipped scrape configurations give the series their own labels and no other;
- the components that can be combined, together: two replicas, annotations, operator, network policy, custom owners;
- a volume: what ended while the pod was gone is counted when it is back, and no count is lost;
- OpenShift's: no fixed uid, here that of the image; and tokens: who may get /metrics is answered, nobody else;
- Roles only: in a namespace of a tenant, without a right in the cluster;
- what is deleted leaves nothing behind.

Usage: deployed.py PROMETHEUS (one with Kubernetes discovery: Debian built its own without). Needs the static build of the exporter.
Prints size and cold start. Exit status 1 on a difference.
"""

import argparse
import gzip
import json
import urllib.error
import urllib.request

from cluster import HERE, PROJECT, Cluster, Failed, main, say, scratch, until
from deploying import (NAMESPACE, Crashes, Door, Prometheus, Times, assemble, deployment, kustomization, left_behind,
                       of_this_run, run, scrape, static_binary, tool)
from exporter import parse, refused

CRASHES, TENANT, VOLUME = "e2e-deployed", "e2e-tenant", "e2e-deployed"
COUNTER = "exitcode_container_terminations_total"
COMBINED = ("prometheus-operator", "annotations", "two-replicas", "network-policy", "custom-owners")
SECONDS = 2


def image(cluster, folder):
    """Assembles and imports the image; says how large it is."""
    archive, again = folder / "image.tar", folder / "again.tar"
    mine = of_this_run()
    printed = assemble(archive, *mine).strip()
    assemble(again, *mine)
    if archive.read_bytes() != again.read_bytes():
        raise Failed("the same binary gave two images")
    run(tool("crane"), "validate", "--tarball", archive)
    cluster.ctr("images", "import", str(archive))
    size = len(archive.read_bytes())
    say(f"image {printed}, {len(gzip.compress(static_binary().read_bytes())) / 1e6:.1f} MB as a registry stores it, "
        f"{size / 1e6:.1f} MB unpacked")


def counted(pods, code, namespace=CRASHES):
    """How many ends with this code each of the exporter's pods has counted."""
    return [int(sum(value for labels, value in parse(scrape(pod))[COUNTER]
                    if labels["namespace"] == namespace and labels["exit_code"] == str(code))) for pod in pods]


def status(pod, token=None):
    """The status of a request for /metrics, with or without a token."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"http://{pod['status']['podIP']}:10137/metrics", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def expect(what, found, wanted):
    """Fails with both if they differ."""
    if found != wanted:
        raise Failed(f"{what}: {found}, not {wanted}")


class Test:
    """The steps, in the order of `run`."""

    def __init__(self, prometheus):
        self.binary = prometheus
        self.cluster, self.folder = Cluster(), scratch("deployed")
        self.crashes = self.door = None
        self.servers = []

    def run(self):
        self.clear()
        try:
            image(self.cluster, self.folder)
            self.crashes = Crashes(self.cluster, CRASHES)
            self.door = Door(self.cluster, self.crashes.running())
            self.base()
            self.every_overlay_is_taken()
            self.restricted()
            self.counts()
            self.combined()
            self.persistent()
            self.openshift()
            self.authorized()
            self.tenant()
        finally:
            self.clear()
            for thing in [self.door, *self.servers]:
                if thing is not None:
                    getattr(thing, "stop", getattr(thing, "close", None))()
        say("the shipped manifests work as they are")
        return 0

    def clear(self):
        """Removes everything that this test made, and proves that the labels find it all."""
        for server in self.servers:
            server.stop()
        self.servers = []
        cluster = self.cluster
        cluster.kubectl("delete", "clusterrolebinding", "e2e-deployed-reader", "--ignore-not-found", check=False)
        for place in ("deploy/overlays/persistent", "deploy/overlays/auth-kubernetes", "deploy/overlays/custom-owners"):
            cluster.kubectl("delete", "-k", str(PROJECT / place), "--ignore-not-found", "--timeout=120s", check=False)
        for name in (CRASHES, TENANT):
            cluster.remove_namespace(name)
        cluster.kubectl("delete", "pv", VOLUME, "--ignore-not-found", check=False)
        left = left_behind(cluster)
        expect("left behind", left, [])
        cluster.kubectl("delete", "-f", str(HERE / "workloads" / "monitoring-crds.yaml"), "--ignore-not-found", check=False)

    def apply(self, place):
        """Applies a kustomization; a warning of the API server (an unknown field, a breach of `restricted`) is a failure."""
        return self.cluster.kubectl("apply", "--warnings-as-errors", "-k", str(place))

    def base(self):
        """The base, applied; and how long until it is ready."""
        watch = Times(self.cluster)
        self.apply(kustomization(self.folder, "base", self.door, ["."]))
        pod, = deployment(self.cluster)
        watch.stop()
        seen = watch.seen[pod["metadata"]["name"]]
        say(f"cold start: {seen['running'] - seen['created']:.1f} s from the pod's creation until it ran, "
            f"{seen['ready'] - seen['created']:.1f} s until it was ready")
        expect("user", pod["spec"]["securityContext"]["runAsUser"], 65534)

    def every_overlay_is_taken(self):
        """The API server would take every overlay, strictly."""
        cluster = self.cluster
        cluster.kubectl("apply", "-f", str(HERE / "workloads" / "monitoring-crds.yaml"))
        cluster.kubectl("wait", "--for=condition=Established", "crd/servicemonitors.monitoring.coreos.com",
                        "crd/prometheusrules.monitoring.coreos.com", "--timeout=30s")
        until("the operator's kinds", 30, lambda: all(word in cluster.kubectl(
            "get", "--raw", "/apis/monitoring.coreos.com/v1", check=False) for word in ("servicemonitors", "prometheusrules")))
        overlays = sorted(path.parent for path in (PROJECT / "deploy" / "overlays").glob("*/kustomization.yaml"))
        for overlay in overlays:
            cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "--warnings-as-errors", "-k", str(overlay))
        broken = cluster.kubectl("kustomize", str(overlays[0])).replace("automountServiceAccountToken: true", "automountToken: true")
        refused = cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=broken, check=False)
        if "unknown field" not in refused:
            raise Failed(f"a field that nobody knows was not refused: {refused}")
        say(f"the API server takes {len(overlays)} overlays: {', '.join(path.name for path in overlays)}")

    def restricted(self):
        """The namespace refuses what `restricted` forbids, the exporter's own pod without its security context included."""
        template = self.cluster.get("-n", NAMESPACE, "deployment", NAMESPACE)["spec"]["template"]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe", "namespace": NAMESPACE}, "spec": template["spec"]}
        self.cluster.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))
        container = pod["spec"]["containers"][0]
        breaches = {
            "runAsNonRoot": lambda: pod["spec"].__delitem__("securityContext"),
            "capabilities": lambda: container["securityContext"].__delitem__("capabilities"),
            "privileged": lambda: container["securityContext"].update(privileged=True, allowPrivilegeEscalation=True),
            "host namespaces": lambda: pod["spec"].update(hostNetwork=True),
        }
        for word, breach in breaches.items():
            breach()
            said = self.cluster.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod), check=False)
            if 'violates PodSecurity "restricted' not in said or word not in said:
                raise Failed(f"a pod that breaks {word} was not refused for it: {said}")
        say("restricted is enforced: the pod is admitted, and refused without its security context")

    def counts(self):
        """Real ends are counted, by the exporter and by Prometheus, over a rolling update."""
        cluster = self.cluster
        plain = Prometheus(self.binary, cluster, self.folder, "scrape.yaml", SECONDS)
        override = Prometheus(self.binary, cluster, self.folder, "scrape-override.yaml", SECONDS)
        self.servers = [plain, override]
        for server in self.servers:
            until("a scrape", 60, lambda server=server: server.value('up{job="exitcode-exporter"}') == 1)
        self.crashes.add(5, 3)
        first, = deployment(cluster)
        until("5 ends", 30, lambda: counted([first], 3) == [5])
        total = f'sum(max_over_time({COUNTER}{{namespace="{CRASHES}",exit_code="3"}}[10m]))'
        for server in self.servers:
            until("5 ends in Prometheus", 30, lambda server=server: server.value(total) == 5)
        cluster.kubectl("-n", NAMESPACE, "rollout", "restart", "deployment/exitcode-exporter")
        second, = deployment(cluster)
        expect("another pod after the rollout", first["metadata"]["uid"] != second["metadata"]["uid"], True)
        expect("what ended before is not counted again", counted([second], 3), [0])
        self.crashes.add(4, 3)
        until("4 more ends", 30, lambda: counted([second], 3) == [4])
        for server in self.servers:
            until("9 ends in Prometheus, over both pods", 30, lambda server=server: server.value(total) == 9)
            self.labels(server)
        say("5 ends before and 4 after a rolling update: Prometheus shows 9, with honor_labels and without")

    def labels(self, server):
        """A workload's series carry its own labels and no pod of the exporter; `up` carries the exporter's namespace."""
        wanted = {"__name__", "job", "instance", "namespace", "workload_type", "workload", "container", "container_type",
                  "exit_code", "reason", "cause"}
        samples = server.query(f'{COUNTER}{{exit_code="3",workload_type="barepod"}}')
        expect("there are samples", bool(samples), True)
        for labels, _ in samples:
            expect("labels of a sample", set(labels), wanted)
            expect("namespace of a sample", labels["namespace"], CRASHES)
        up, = until("one target", 30, lambda: len(found := server.query('up{job="exitcode-exporter"} == 1')) == 1 and found)
        expect("labels of up", (set(up[0]), up[0]["namespace"]), ({"__name__", "job", "instance", "namespace"}, NAMESPACE))

    def combined(self):
        """Several components in one kustomization: two exporters, found by annotations, both count everything."""
        cluster = self.cluster
        self.apply(self.combination())
        pods = deployment(cluster)
        expect("replicas", len(pods), 2)
        server = Prometheus(self.binary, cluster, self.folder, "scrape-annotations.yaml", SECONDS)
        self.servers.append(server)
        until("both scraped", 60, lambda: server.value('sum(up{job="annotated-services"})') == 2)
        self.crashes.add(3, 6)
        until("3 ends, by both", 30, lambda: counted(pods, 6) == [3, 3])
        once = f'sum(max without (instance) (max_over_time({COUNTER}{{namespace="{CRASHES}",exit_code="6"}}[10m])))'
        until("3 ends in Prometheus, once", 30, lambda: server.value(once) == 3)
        for kind in ("servicemonitor", "prometheusrule", "networkpolicy", "poddisruptionbudget"):
            cluster.kubectl("-n", NAMESPACE, "get", kind, "exitcode-exporter")
        rules = cluster.get("clusterrole", "exitcode-exporter-owners")["rules"]
        expect("owner kinds by the label", [rule["resources"] for rule in rules], [["rollouts", "workflows", "cronworkflows"]])
        say(f"combined: {', '.join(COMBINED)}: two exporters count 3 ends each, Prometheus shows 3")

    def combination(self):
        place = kustomization(self.folder, "combined", self.door, ["base"], [f"components/{name}" for name in COMBINED])
        # This test has no minute between two pods, and none between two scrapes.
        file = place / "kustomization.yaml"
        whole = json.loads(file.read_text())
        quick = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": NAMESPACE, "namespace": NAMESPACE},
                 "spec": {"minReadySeconds": 1}}
        zero_for = {"apiVersion": "v1", "kind": "Service", "metadata": {
            "name": NAMESPACE, "namespace": NAMESPACE, "annotations": {"prometheus.io/param_zero_for": f"{2 * SECONDS + 5}s"}}}
        whole["patches"] += [{"patch": json.dumps(quick)}, {"patch": json.dumps(zero_for)}]
        file.write_text(json.dumps(whole))
        return place

    def persistent(self):
        """With a volume the counts outlive the pod, and what ended meanwhile is added."""
        cluster = self.cluster
        cluster.kubectl("delete", "-k", str(self.folder / "combined"), "--timeout=120s")
        expect("left behind by the combination", left_behind(cluster), [])
        disk = self.folder / "disk"
        disk.mkdir(mode=0o755)
        cluster.apply(json.dumps({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": VOLUME}, "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Retain",
                "local": {"path": str(disk)}, "claimRef": {"namespace": NAMESPACE, "name": "exitcode-exporter"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "kubernetes.io/hostname", "operator": "Exists"}]}]}}}}))
        self.apply(kustomization(self.folder, "persistent", self.door, ["overlays/persistent"]))
        pod, = deployment(cluster)
        self.crashes.add(2, 11)
        until("2 ends", 30, lambda: counted([pod], 11) == [2])
        cluster.kubectl("-n", NAMESPACE, "delete", "pod", pod["metadata"]["name"])
        pod, = deployment(cluster)
        expect("counts after the pod was deleted", counted([pod], 11), [2])
        cluster.kubectl("-n", NAMESPACE, "scale", "deployment/exitcode-exporter", "--replicas=0")
        cluster.kubectl("-n", NAMESPACE, "wait", "--for=delete", f"pod/{pod['metadata']['name']}", "--timeout=60s")
        self.crashes.add(3, 11)
        cluster.kubectl("-n", NAMESPACE, "scale", "deployment/exitcode-exporter", "--replicas=1")
        pod, = deployment(cluster)
        until("2 ends from before and 3 from meanwhile", 30, lambda: counted([pod], 11) == [5])
        owner = [(path.stat().st_uid, oct(path.stat().st_mode & 0o777)) for path in disk.iterdir() if path.is_file()]
        cluster.kubectl("delete", "-k", str(self.folder / "persistent"), "--timeout=120s")
        cluster.kubectl("delete", "pv", VOLUME)
        say(f"a volume: 2 ends are kept when the pod is deleted, 3 that came meanwhile are added; its files belong to {owner}")

    def openshift(self):
        """Without a fixed uid it runs as any that it is given."""
        place = kustomization(self.folder, "openshift", self.door, ["overlays/openshift"])
        self.apply(place)
        pod, = deployment(self.cluster)
        expect("a uid in the pod", pod["spec"]["securityContext"].get("runAsUser"), None)
        expect("what an answer to /readyz says", scrape(pod, "/readyz").strip(), "ok")
        self.cluster.kubectl("delete", "-k", str(place), "--timeout=120s")
        say("OpenShift's overlay: ready, without a fixed uid")

    def authorized(self):
        """Tokens that may get /metrics are answered, others are not, and the probes work without."""
        cluster = self.cluster
        if "--auth " not in run(static_binary(), "--help"):
            say("skipped: tokens (this exporter does not know them)")
            return
        self.apply(kustomization(self.folder, "authorized", self.door, ["overlays/auth-kubernetes"]))
        pod, = deployment(cluster)
        for account in ("reader", "stranger"):
            cluster.kubectl("-n", CRASHES, "create", "serviceaccount", account)
        # Labelled, so that it is found with the rest.
        cluster.apply(json.dumps({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "e2e-deployed-reader", "labels": {"app.kubernetes.io/instance": NAMESPACE}},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "exitcode-exporter-metrics-reader"},
            "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": CRASHES}]}))
        tokens = {account: cluster.kubectl("-n", CRASHES, "create", "token", account).strip() for account in ("reader", "stranger")}
        until("an answer to the reader", 40, lambda: status(pod, tokens["reader"]) == 200)
        answers = {"reader": status(pod, tokens["reader"]), "stranger": status(pod, tokens["stranger"]), "nobody": status(pod)}
        expect("answers", answers, {"reader": 200, "stranger": 403, "nobody": 401})
        cluster.kubectl("delete", "clusterrolebinding", "e2e-deployed-reader")
        cluster.kubectl("delete", "-k", str(self.folder / "authorized"), "--timeout=120s")
        say(f"tokens: {answers}")

    def tenant(self):
        """Roles only, in a namespace of somebody who has no right in the cluster; other namespaces are out of sight."""
        cluster = self.cluster
        cluster.namespace(TENANT)
        cluster.kubectl("label", "namespace", TENANT, "pod-security.kubernetes.io/enforce=restricted")
        self.apply(kustomization(self.folder, "tenant", self.door, ["base"], ["components/namespaced"], namespace=TENANT))
        pod, = deployment(cluster, TENANT)
        mine = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "mine", "namespace": TENANT}, "spec": {
            "restartPolicy": "Never", "securityContext": {"runAsNonRoot": True, "runAsUser": 1, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "app", "image": "local/busybox:1", "imagePullPolicy": "Never", "command": ["sh", "-c", "exit 9"],
                            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}]}}
        cluster.apply(json.dumps(mine))
        self.crashes.add(1, 9)
        until("the tenant's own end", 60, lambda: counted([pod], 9, TENANT) == [1])
        expect("another namespace's ends", counted([pod], 9), [0])
        expect("forbidden calls with Roles only", refused(parse(scrape(pod))), [])
        log = cluster.kubectl("-n", TENANT, "logs", pod["metadata"]["name"])
        if "events about nodes are out of sight" not in log:
            raise Failed("the log does not say that events about nodes are out of sight")
        kinds = {name.partition("/")[0] for name in left_behind(cluster)}
        expect("cluster-wide roles of a tenant", [kind for kind in kinds if kind.startswith("clusterrole")], [])
        cluster.kubectl("delete", "-k", str(self.folder / "tenant"), "--timeout=120s")
        say("Roles only: the tenant's ends are counted, others' are not, and the log says what is out of sight")


def start():
    """Reads the arguments and runs the test."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prometheus")
    return Test(parser.parse_args().prometheus).run()


if __name__ == "__main__":
    main(start)
