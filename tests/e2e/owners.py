#!/usr/bin/env python3
"""Whose pod it is, for every kind of owner, with exactly the role that is shipped, and with less.

Runs the exporter under the shipped ClusterRole (and nothing else), lets one container of every kind of workload end on a
real kubelet, and compares workload_type and workload. Then takes permissions away and sees what the README says.
"""

import json
import re

import cluster as real
from cluster import PROJECT, Failed, say, until
from exporter import Exporter, refused

NAMESPACE = "e2e-owners"
ACCOUNT = "exitcode-exporter-e2e"
GROUP = "e2e.example.org"
BUSY = {"name": "app", "image": "local/busybox:1", "imagePullPolicy": "Never", "command": ["sh", "-c", "sleep 2; exit 7"]}


def custom_kind(kind, plural):
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP, "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": kind + "List"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }


def owned_by(owner):
    metadata = owner["metadata"]
    return [{"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": metadata["name"],
             "uid": metadata["uid"], "controller": True}]


def pod(name, owner=None, generate=False):
    metadata = {"generateName" if generate else "name": name, "namespace": NAMESPACE}
    if owner:
        metadata["ownerReferences"] = owned_by(owner)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata,
            "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [BUSY]}}


class Cast:
    """The workloads, made anew for each part."""

    def __init__(self, cluster):
        self.cluster = cluster
        for kind, plural in (("Workflow", "workflows"), ("Pipeline", "pipelines")):
            cluster.apply(json.dumps(custom_kind(kind, plural)))
        until("the custom kinds", 30, lambda: {"workflows", "pipelines"} <= set(re.findall(r"\w+", cluster.kubectl(
            "get", "--raw", f"/apis/{GROUP}/v1", check=False))))

    def create(self, thing):
        return json.loads(self.cluster.kubectl("create", "-f", "-", "-o", "json", stdin=json.dumps(thing)))

    def enter(self):
        """All workloads; their containers end 2 s after they start."""
        self.cluster.namespace(NAMESPACE)
        self.cluster.apply((real.HERE / "workloads" / "owners.yaml").read_text(), NAMESPACE)
        self.create(pod("run-", generate=True))
        custom = {"apiVersion": f"{GROUP}/v1", "metadata": {"name": "release", "namespace": NAMESPACE}}
        pipeline = self.create({**custom, "kind": "Pipeline"})
        workflow = {**custom, "kind": "Workflow", "metadata": {
            "name": "release-1", "namespace": NAMESPACE, "ownerReferences": owned_by(pipeline)}}
        self.create(pod("step", self.create(workflow)))
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"generateName": "migrate-", "namespace": NAMESPACE},
               "spec": {"backoffLimit": 0, "template": {"spec": pod("x")["spec"]}}}
        self.create(job)

    def leave(self):
        self.cluster.remove_namespace(NAMESPACE)


def role(cluster, change=lambda rules: rules, extra=()):
    """Grants the shipped ClusterRole's rules, changed, to an account of its own."""
    shipped = cluster.kubectl("create", "--dry-run=client", "-o", "json", "-f", str(PROJECT / "deploy" / "base" / "clusterrole.yaml"))
    rules = change(json.loads(shipped)["rules"]) + list(extra)
    cluster.apply(json.dumps({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": ACCOUNT},
        "rules": rules}))
    cluster.apply(json.dumps({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": ACCOUNT},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": ACCOUNT},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": "default"}]}))


def kubeconfig(cluster, folder):
    """A kubeconfig that holds the account's token and nothing else."""
    cluster.apply(json.dumps({"apiVersion": "v1", "kind": "ServiceAccount",
                              "metadata": {"name": ACCOUNT, "namespace": "default"}}))
    config = json.loads(cluster.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
    token = cluster.kubectl("-n", "default", "create", "token", ACCOUNT, "--duration", "1h").strip()
    config["users"][0]["user"] = {"token": token}
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    path.chmod(0o600)
    return path


def seen(exporter):
    """Workloads with a counted end."""
    return set(exporter.group("exitcode_container_terminations_total", ("workload_type", "workload"), {NAMESPACE}))


def compare(title, exporter, expected):
    """Waits for exactly these workloads, and prints what differs."""
    try:
        until(title, 150, lambda: expected <= seen(exporter), every=1)
    except Failed:
        pass
    found = seen(exporter)
    rows = [(*name, "missing" if name not in found else "not expected" if name not in expected else "ok")
            for name in sorted(expected | found)]
    say(f"{title}\n" + real.table(rows, ["workload_type", "workload", ""]))
    if found != expected:
        raise Failed(f"{title}: other workloads than expected")


ALWAYS = {("deployment", "web"), ("replicaset", "plain-set"), ("replicationcontroller", "ancient"),
          ("statefulset", "store"), ("daemonset", "agent"), ("job", "import"), ("barepod", "alone"), ("barepod", "run")}


def only_lists(rules):
    return [rule for rule in rules if "get" not in rule["verbs"]]


def only_pods(rules):
    return [{**rule, "resources": ["pods"]} for rule in only_lists(rules)]


def part(cluster, cast, folder, name, check):
    cast.leave()
    exporter = Exporter(folder, kubeconfig=kubeconfig(cluster, folder), name=name)
    try:
        exporter.wait_until_ready()
        cast.enter()
        check(exporter)
    finally:
        exporter.stop()


def shipped_role(exporter):
    compare("under the shipped role", exporter,
            ALWAYS | {("cronjob", "nightly"), ("job", "migrate"), ("workflow", "release-1")})
    failures = refused(exporter.metrics())
    if failures:
        raise Failed(f"a watch was refused under the shipped role: {failures}")


def custom_role(exporter):
    compare("with the custom kinds granted", exporter,
            ALWAYS | {("cronjob", "nightly"), ("job", "migrate"), ("pipeline", "release")})
    if exporter.sum("exitcode_exporter_owner_lookups_total", result="forbidden"):
        raise Failed("a look-up was forbidden although all kinds are granted")


def without_owners_and_events(exporter):
    # A Job that may not be read is the last owner known, under its own name.
    until("ends", 150, lambda: ALWAYS <= (names := seen(exporter)) and len(names) >= len(ALWAYS) + 3, every=1)
    found = seen(exporter)
    if not ALWAYS <= found or ("cronjob", "nightly") in found:
        raise Failed(f"without get on owners: {sorted(found)}")
    if not exporter.sum("exitcode_exporter_owner_lookups_total", result="forbidden"):
        raise Failed("no look-up was counted as forbidden")
    if not exporter.sum("exitcode_exporter_watch_failures_total", resource="events", reason="forbidden"):
        raise Failed("the forbidden watch of events is not counted")
    if exporter.sum("exitcode_exporter_synced", resource="events") or exporter.fetch("/readyz")[0] != 200:
        raise Failed("without events: synced must be 0 and /readyz 200")
    if "verb" not in exporter.log.read_text() or "events" not in exporter.log.read_text():
        raise Failed("the log does not say what is missing")
    say("without get on owners and without events: counts go on, and what is missing is said")


def nothing_granted(cluster, folder):
    role(cluster, lambda rules: [])
    exporter = Exporter(folder, kubeconfig=kubeconfig(cluster, folder), name="nothing")
    try:
        def reason():
            status, _, text = exporter.fetch("/readyz")
            return text if status == 503 and "forbidden" in text.lower() else None
        text = until("/readyz with the reason", 30, reason)
        for word in ("list", "pods", "cluster"):
            if word not in text:
                raise Failed(f"/readyz does not name {word}: {text}")
        if exporter.fetch("/livez")[0] != 200:
            raise Failed("/livez must be 200 without any permission")
        say(f"without any permission /readyz says: {text.strip()}")
        role(cluster)
        until("readiness once the role is granted", 60, lambda: exporter.fetch("/readyz")[0] == 200, every=1)
    finally:
        exporter.stop()


def run():
    cluster = real.Cluster()
    folder = real.scratch("owners")
    cast = Cast(cluster)
    try:
        nothing_granted(cluster, folder)
        part(cluster, cast, folder, "shipped", shipped_role)
        granted = {"apiGroups": [GROUP], "resources": ["workflows", "pipelines"], "verbs": ["get"]}
        role(cluster, extra=[granted])
        part(cluster, cast, folder, "custom", custom_role)
        role(cluster, only_pods)
        part(cluster, cast, folder, "pods-only", without_owners_and_events)
    finally:
        cast.leave()
        cluster.kubectl("delete", "clusterrole,clusterrolebinding", ACCOUNT, "--ignore-not-found", check=False)
        cluster.kubectl("-n", "default", "delete", "serviceaccount", ACCOUNT, "--ignore-not-found", check=False)
        for plural in ("workflows", "pipelines"):
            cluster.kubectl("delete", "crd", f"{plural}.{GROUP}", "--ignore-not-found", check=False)
    say("every kind of owner is named as it should be")
    return 0


if __name__ == "__main__":
    real.main(run)
