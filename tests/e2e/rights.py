#!/usr/bin/env python3
"""The shipped rights are enough, none of them is too much, and without each of them happens what deploy/README.md says.

One exporter for each way to grant rights, all at once, each with an account of its own, on one set of workloads that end on
a real kubelet. For every owner kind of the role there is an owner that belongs to something else (a custom kind), so that
each rule decides one name.

- With exactly the shipped roles, behind a proxy that notes every call: none is forbidden, none is outside of the role, and
  every rule of the role is needed by some call.
- With the shipped role less one rule, for every rule: that one name changes, counts do not, and what is missing is counted.
- With Roles in one namespace only: no call is forbidden, and log and metrics say that events about nodes are out of sight.
- With a custom kind granted through the label exitcode-exporter/aggregate-to-owners: the climb goes on above it.

Exit status 1 on a difference.
"""

import contextlib
import http.client
import http.server
import json
import re
import threading

import cluster as real
from cluster import PROJECT, Failed, last_wrong, say, until
from exporter import Exporter
from owners import custom_kind, owned_by

NAMESPACE, ACCOUNTS = "e2e-rights", "e2e-rights-accounts"
GROUP, PREFIX = "e2e.example.org", "exitcode-e2e-rights"
CONTAINER = {"name": "app", "image": "local/busybox:1", "imagePullPolicy": "Never", "command": ["sh", "-c", "sleep 2; exit 7"]}
# Owner kinds of the shipped role: plural, API version, kind.
KINDS = {
    "replicationcontrollers": ("v1", "ReplicationController"), "replicasets": ("apps/v1", "ReplicaSet"),
    "deployments": ("apps/v1", "Deployment"), "statefulsets": ("apps/v1", "StatefulSet"),
    "daemonsets": ("apps/v1", "DaemonSet"), "jobs": ("batch/v1", "Job"), "cronjobs": ("batch/v1", "CronJob"),
}
# Servers that stream lists (1.35 and 1.36 do) need no `list`; older ones refuse the stream, and are listed.
ONLY_FOR_OLDER = {("", "pods", "list"), ("", "events", "list")}


class Proxy:
    """Passes an exporter's calls on to the API server and notes them: (group, resource, verb) and the status."""

    def __init__(self, cluster, token):
        self.calls, self.lock = [], threading.Lock()
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            """One connection of the exporter."""

            protocol_version = "HTTP/1.1"

            def do_GET(self):
                proxy.pass_on(self, cluster, token)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def pass_on(self, handler, cluster, token):
        far = http.client.HTTPSConnection(cluster.host, cluster.port, context=cluster.tls, timeout=600)
        try:
            far.request("GET", handler.path, headers={"Authorization": f"Bearer {token}", "Accept": handler.headers.get("Accept", "*/*")})
            answer = far.getresponse()
            with self.lock:
                self.calls.append((called(handler.path), answer.status))
            handler.send_response(answer.status)
            handler.send_header("Content-Type", answer.headers.get("Content-Type", ""))
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            while data := answer.read1(1 << 16):
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                handler.wfile.flush()
            handler.wfile.write(b"0\r\n\r\n")
        except OSError:
            handler.close_connection = True
        finally:
            far.close()

    def stop(self):
        """Ends it."""
        self.server.shutdown()


def called(path):
    """(API group, resource, verb) of a call; discovery has no resource."""
    place, _, query = path.partition("?")
    match = re.fullmatch(r"/(?:api|apis/([^/]+))/[^/]+(?:/namespaces/[^/]+)?(?:/([^/]+))?(?:/([^/]+))?", place)
    if re.fullmatch(r"/api/v1/namespaces/[^/]+", place):
        return ("", "namespaces", "get")
    if not match or not match[2]:
        return ("", "discovery", "get")
    verb = "get" if match[3] else "watch" if "watch=1" in query or "watch=true" in query else "list"
    return (match[1] or "", match[2], verb)


class Cast:
    """The workloads: for each owner kind one that belongs to a Assembly, and one Assembly that belongs to a Platform."""

    def __init__(self, cluster):
        self.cluster = cluster
        for kind, plural in (("Assembly", "assemblies"), ("Platform", "platforms")):
            cluster.apply(json.dumps(custom_kind(kind, plural)))
        until("the custom kinds", 30, lambda: all(word in cluster.kubectl(
            "get", "--raw", f"/apis/{GROUP}/v1", check=False) for word in ("assemblies", "platforms")))

    def create(self, thing):
        return json.loads(self.cluster.kubectl("-n", NAMESPACE, "create", "-f", "-", "-o", "json", stdin=json.dumps(thing)))

    def custom(self, kind, name, owner=None):
        metadata = {"name": name, **({"ownerReferences": owned_by(owner)} if owner else {})}
        return self.create({"apiVersion": f"{GROUP}/v1", "kind": kind, "metadata": metadata})

    def enter(self):
        """Creates them all; their containers end 2 s after they start."""
        platform = self.custom("Platform", "platform")
        for plural, (api, kind) in KINDS.items():
            assembly = self.custom("Assembly", f"of-{plural}", platform if plural == "jobs" else None)
            thing = self.create({"apiVersion": api, "kind": kind, "metadata": {
                "name": plural, "ownerReferences": owned_by(assembly)}, "spec": spec(kind)})
            if kind == "CronJob":
                self.cluster.kubectl("-n", NAMESPACE, "create", "job", "--from=cronjob/cronjobs", "cronjobs-29999999")
            if kind == "Deployment":
                # A pod that no ReplicaSet stands above: a Deployment's own pods tell its name without a call.
                self.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "direct", "ownerReferences": owned_by(thing)},
                             "spec": {"restartPolicy": "Never", "containers": [CONTAINER]}})


def spec(kind):
    """The smallest specification of a workload whose one container ends."""
    pod = {"terminationGracePeriodSeconds": 0, "containers": [CONTAINER]}
    template = {"metadata": {"labels": {"app": kind.lower()}}, "spec": pod}
    if kind in ("Job", "CronJob"):
        job = {"backoffLimit": 0, "template": {"spec": {**pod, "restartPolicy": "Never"}}}
        return job if kind == "Job" else {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": job}}
    selector = {"app": kind.lower()} if kind == "ReplicationController" else {"matchLabels": {"app": kind.lower()}}
    more = {"serviceName": "x"} if kind == "StatefulSet" else {"replicas": 0} if kind == "Deployment" else {}
    return {"selector": selector, "template": template, **more}


def named(plural, right=True):
    """The workload of a kind's pod: its Assembly with the right to read the kind, else the kind itself."""
    if right:
        return ("assembly", f"of-{plural}")
    return (KINDS[plural][1].lower(), plural)


EVERYTHING = {named(plural) for plural in KINDS}


class Grant:
    """An account with rights, and the exporter that has no others."""

    def __init__(self, cluster, folder, name, objects, arguments=(), proxied=False):
        self.cluster, self.name = cluster, name
        account = {"kind": "ServiceAccount", "name": name, "namespace": ACCOUNTS}
        cluster.apply(json.dumps({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": ACCOUNTS}}))
        for thing in objects:
            thing = {**thing, "metadata": {**thing["metadata"], "name": f"{PREFIX}-{name}-{thing['metadata']['name']}",
                                           "labels": {**thing["metadata"].get("labels", {}), "e2e": PREFIX}}}
            if "subjects" in thing:
                thing["subjects"] = [account]
                thing["roleRef"] = {**thing["roleRef"], "name": f"{PREFIX}-{name}-{thing['roleRef']['name']}"}
            cluster.apply(json.dumps(thing))
        token = cluster.kubectl("-n", ACCOUNTS, "create", "token", name, "--duration", "1h").strip()
        config = json.loads(cluster.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
        self.proxy = Proxy(cluster, token) if proxied else None
        if self.proxy:
            config["clusters"][0]["cluster"] = {"server": self.proxy.url}
        config["users"][0]["user"] = {"token": token}
        path = folder / f"{name}.kubeconfig"
        path.write_text(json.dumps(config))
        path.chmod(0o600)
        granted = [(verb, resource, group, thing["metadata"].get("namespace", ""), rule.get("resourceNames", [""])[0])
                   for thing in objects for rule in thing.get("rules") or []
                   for group in rule["apiGroups"] for resource in rule["resources"] for verb in rule["verbs"]]
        until(f"the rights of {name}", 60, lambda: all(cluster.may(f"{ACCOUNTS}:{name}", *one) for one in granted), every=0.1)
        self.exporter = Exporter(folder, arguments, kubeconfig=path, name=name)

    def seen(self):
        """The workloads whose ends were counted."""
        counts = self.exporter.group("exitcode_container_terminations_total", ("workload_type", "workload"), {NAMESPACE})
        return {workload for workload, count in counts.items() if count}

    def expect(self, workloads, what):
        """Waits for exactly these workloads."""
        def difference():
            found = self.seen()
            return found != workloads and f"missing {sorted(workloads - found)}, not expected {sorted(found - workloads)}"

        wrong = last_wrong(90, difference, every=0.5)
        if wrong:
            raise Failed(f"{what}: {wrong}")

    def forbidden(self):
        """How many look-ups and watches were forbidden."""
        watches = {resource: self.exporter.sum("exitcode_exporter_watch_failures_total", resource=resource, reason="forbidden")
                   for resource in ("pods", "events")}
        return int(self.exporter.sum("exitcode_exporter_owner_lookups_total", result="forbidden")), {k for k, v in watches.items() if v}

    def stop(self):
        """Ends the exporter and the proxy."""
        self.exporter.stop()
        if self.proxy:
            self.proxy.stop()


def shipped(cluster, *files):
    """The objects of shipped files."""
    return [json.loads(cluster.kubectl("create", "--dry-run=client", "-o", "json", "-f", str(PROJECT / "deploy" / file)))
            for file in files]


def less(rules, resource):
    """The rules without a resource."""
    kept = [{**rule, "resources": [one for one in rule["resources"] if one != resource]} for rule in rules]
    return [rule for rule in kept if rule["resources"]]


class Test:
    """The grants and what is expected of each."""

    def __init__(self):
        self.cluster, self.folder = real.Cluster(), real.scratch("rights")
        self.grants = {}

    def run(self):
        self.clear()
        try:
            self.cluster.namespace(ACCOUNTS)
            self.cluster.namespace(NAMESPACE)
            cast = Cast(self.cluster)
            self.enter()
            cast.enter()
            self.shipped_role()
            self.one_less()
            self.roles_only()
            self.aggregated()
        finally:
            with contextlib.ExitStack() as ends:
                ends.callback(self.clear)
                for grant in self.grants.values():
                    ends.callback(grant.stop)
        say("the shipped rights are enough, and each is needed")
        return 0

    def clear(self):
        """Removes what this test made."""
        for name in (NAMESPACE, ACCOUNTS):
            self.cluster.remove_namespace(name)
        self.cluster.kubectl("delete", "clusterrole,clusterrolebinding", "-l", f"e2e={PREFIX}", check=False)
        for plural in ("assemblies", "platforms"):
            self.cluster.kubectl("delete", "crd", f"{plural}.{GROUP}", "--ignore-not-found", check=False)

    def grant(self, name, objects, *arguments, proxied=False):
        self.grants[name] = Grant(self.cluster, self.folder, name, objects, arguments, proxied)

    def enter(self):
        """Starts an exporter for each grant."""
        role, *others = shipped(self.cluster, "base/clusterrole.yaml", "base/clusterrolebinding.yaml",
                                "base/clusterrole-owners.yaml", "base/clusterrolebinding-owners.yaml")
        self.role = role
        self.grant("shipped", [role, others[0]], proxied=True)
        state = shipped(self.cluster, "components/persistent/clusterrole.yaml", "components/persistent/clusterrolebinding.yaml")
        self.state = state[0]
        self.grant("state", [role, others[0], *state], "--state-dir", str(self.folder / "state"), proxied=True)
        self.grant("no-state", [role, others[0]], "--state-dir", str(self.folder / "no-state"))
        for resource in ["pods", "events", *KINDS]:
            self.grant(f"no-{resource}", [{**role, "rules": less(role["rules"], resource)}, others[0]])
        roles = shipped(self.cluster, "components/namespaced/role.yaml", "components/namespaced/rolebinding.yaml")
        roles = [{**one, "metadata": {**one["metadata"], "namespace": NAMESPACE}} for one in roles]
        self.grant("roles", roles, "--namespaces", NAMESPACE)
        self.grant("aggregated", [role, *others, {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "assemblies", "labels": {"exitcode-exporter/aggregate-to-owners": "true"}},
            "rules": [{"apiGroups": [GROUP], "resources": ["assemblies", "platforms"], "verbs": ["get"]}]}])
        for name, grant in self.grants.items():
            if name != "no-pods":
                grant.exporter.wait_until_ready()
        say(f"{len(self.grants)} exporters, each with its own rights")

    def shipped_role(self):
        """No call is forbidden, none is outside of the role, and each rule is used."""
        for name, roles in (("shipped", [self.role]), ("state", [self.role, self.state])):
            grant = self.grants[name]
            grant.expect(EVERYTHING, f"with the role {name}")
            granted = {(group, resource, verb) for role in roles for rule in role["rules"] for group in rule["apiGroups"]
                       for resource in rule["resources"] for verb in rule["verbs"]}
            calls = {call for call, _ in grant.proxy.calls if call[1] not in ("discovery", "assemblies")}
            refused = {call for call, status in grant.proxy.calls if status in (401, 403) and call[1] != "assemblies"}
            if refused or not calls <= granted:
                raise Failed(f"{name}: refused {sorted(refused)}, outside of the role {sorted(calls - granted)}")
            if granted - calls - ONLY_FOR_OLDER:
                raise Failed(f"{name}: granted and never needed {sorted(granted - calls - ONLY_FOR_OLDER)}")
            say(f"role {name}: {len(grant.proxy.calls)} calls of {len(calls)} kinds, none refused, every rule needed; "
                f"only older servers need {', '.join(sorted(' '.join(call[1:]) for call in granted - calls)) or 'nothing more'}")

    def one_less(self):
        """Without each rule: the names that it decides, and nothing else, are others; it is counted as forbidden."""
        rows = []
        for resource in KINDS:
            grant = self.grants[f"no-{resource}"]
            others = {"jobs": {named("cronjobs"): ("job", "cronjobs-29999999")}}.get(resource, {})
            wanted = (EVERYTHING - {named(resource), *others}) | {named(resource, False), *others.values()}
            grant.expect(wanted, f"without {resource}")
            if not grant.forbidden()[0] or grant.forbidden()[1]:
                raise Failed(f"without {resource}: forbidden {grant.forbidden()}")
            rows += [(f"get {resource}", "/".join(with_it), "/".join(without)) for with_it, without in
                     ((named(resource), named(resource, False)), *others.items())]
        say("without a rule the workload is the last owner known:\n" + real.table(rows, ["less", "with it", "without"]))
        grant = self.grants["no-events"]
        grant.expect(EVERYTHING, "without events")
        if grant.forbidden()[1] != {"events"} or grant.exporter.sum("exitcode_exporter_synced", resource="events"):
            raise Failed("without events: the forbidden watch must be counted, and events not be synced")
        if grant.exporter.fetch("/readyz")[0] != 200 or "grant verb watch on resource events" not in grant.exporter.log.read_text():
            raise Failed("without events: it must be ready, and the log must say what to grant")
        say("without events: all ends are counted, events are not synced, the log says what to grant")
        grant = self.grants["no-state"]
        grant.expect(EVERYTHING, "with a state, without the right to know the cluster")
        if "cannot tell which cluster this is" not in grant.exporter.log.read_text():
            raise Failed("with a state, without the right to know the cluster: the log must say so")
        say("with a state, without the right to know the cluster: all ends are counted, the log says what it can't tell")
        grant = self.grants["no-pods"]
        status, _, text = grant.exporter.fetch("/readyz")
        if status != 503 or "grant verb" not in text or "pods" not in text or grant.exporter.fetch("/livez")[0] != 200:
            raise Failed(f"without pods: it must be alive, and not ready for a reason: {status} {text}")
        say(f"without pods it is alive and not ready: {text.strip()[:160]}")

    def roles_only(self):
        """Roles in one namespace: nothing is forbidden, and it says what is out of sight."""
        grant = self.grants["roles"]
        grant.expect(EVERYTHING, "with Roles only")
        if grant.forbidden()[1]:
            raise Failed(f"with Roles only: forbidden {grant.forbidden()}")
        if "events about nodes are out of sight" not in grant.exporter.log.read_text():
            raise Failed("with Roles only: the log does not say that events about nodes are out of sight")
        for name, wanted in (("roles", 0), ("shipped", 1)):
            if self.grants[name].exporter.sum("exitcode_exporter_node_events_watched") != wanted:
                raise Failed(f"{name}: exitcode_exporter_node_events_watched is not {wanted}")
        say("Roles only: the same names, nothing forbidden, and log and metric say that node events are out of sight")

    def aggregated(self):
        """A labelled ClusterRole adds a kind: the climb goes on to what is above it."""
        grant = self.grants["aggregated"]
        above = (EVERYTHING - {named("jobs")}) | {("platform", "platform")}
        grant.expect(above, "with a custom kind through the label")
        if grant.forbidden() != (0, set()):
            raise Failed(f"with a custom kind granted: forbidden {grant.forbidden()}")
        say("a labelled ClusterRole adds a custom kind: assembly/of-jobs is now platform/platform")


if __name__ == "__main__":
    real.main(lambda: Test().run())
