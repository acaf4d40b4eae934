#!/usr/bin/env python3
"""Does each thing that can end a container to a container of its own, and compares the counted cause with what was done.

Phases follow each other, since some of what is done hits everything on the node. In each: apply the objects of its
scenarios, act, wait until every expected count is there, let the counters come to rest, and compare: every expected
(container, exit code, cause) with its count, and nothing else may be counted for these workloads.

Usage: causes.py [--only PHASE,…] [--record DIR]
--record keeps, in a folder for each phase, the watch streams of pods and events as gzipped NDJSON, containerd's exits (exits),
what the kubelet's log says it killed (kills) and what was done (causes.tsv): recordings that tests can replay. They end before
the phase is cleared away. Exit status 1 on a difference.
"""

import argparse
import collections
import gzip
import json
import os
import pathlib
import re
import signal
import time

import things
from cluster import Cluster, Failed, Watch, main, say, scratch, table, until
from ends import Shown
from exporter import Exporter
from things import FAILING, POLITE, POLITE_143, STUBBORN, container, controller, job, memory, pod, sidecar
from truth import Truth

NAMESPACE = "e2e-causes"
KILLED = re.compile(r'"Message for Container of pod" containerName="([^"]*)" containerStatusID=\{[^}]*"ID":"([0-9a-f]+)"\} '
                    r'pod="([^/"]*)/([^"]*)" containerMessage="([^"]*)"')


class Scenario:
    """One thing done to one workload, and what must be counted for it.

    `expected`: (container, exit code, cause, count); a count "2+" means at least 2, "0+" means it may happen.
    """

    def __init__(self, thing, expected, act=None, also=()):
        self.kind = {"Pod": "barepod"}.get(thing["kind"], thing["kind"].lower())
        self.name = thing["metadata"]["name"]
        self.things, self.expected, self.act = [thing, *also], expected, act


# What is done to a pod. Each takes the test and the scenario's name, which is the pod's name.

def delete(test, name):
    test.running(name)
    test.kubectl("delete", "pod", name, "--wait=false")


def evict(test, name):
    test.running(name)
    test.cluster.evict(NAMESPACE, name)


def drain(test, name):
    test.running(name)
    try:
        test.cluster.kubectl("drain", "node-1", f"--pod-selector=e2e={name}", "--force", "--timeout=60s")
    finally:
        test.cluster.kubectl("uncordon", "node-1")


def preempt(test, name):
    test.running(name)
    test.apply([pod("preemptor", container(POLITE, resources={"requests": {"cpu": "1500m"}}),
                    priorityClassName="e2e-high")])


def pass_deadline(kind):
    """Sets a deadline that is over already, once the container runs."""
    def act(test, name):
        own = until(f"pod of {name}", 90, lambda: [
            p["metadata"]["name"] for p in test.cluster.pods(NAMESPACE) if p["metadata"].get("labels", {}).get("e2e") == name])
        test.running(own[0])
        test.kubectl("patch", kind, name, "--type=merge", "-p", '{"spec": {"activeDeadlineSeconds": 1}}')
    return act


def kill_from_outside(how, name_of_container="app"):
    def act(test, name):
        test.running(name)
        test.cluster.signal_container(NAMESPACE, name, name_of_container, how)
    return act


def kill_sandbox(test, name):
    test.running(name)
    uid = test.cluster.get("-n", NAMESPACE, "pod", name)["metadata"]["uid"]
    for line in test.cluster.ctr("containers", "ls").splitlines()[1:]:
        info = json.loads(test.cluster.ctr("containers", "info", line.split()[0], check=False) or "{}")
        labels = info.get("Labels", {})
        if labels.get("io.cri-containerd.kind") == "sandbox" and labels.get("io.kubernetes.pod.uid") == uid:
            test.cluster.ctr("tasks", "kill", "-s", "SIGKILL", info["ID"])
            return
    raise Failed(f"no sandbox of {name}")


def change_image(group, name_of_container):
    def act(test, name):
        test.running(name)
        patch = {"spec": {group: [{"name": name_of_container, "image": things.SECOND_IMAGE}]}}
        test.kubectl("patch", "pod", name, "--type=strategic", "-p", json.dumps(patch))
    return act


def resize(group, name_of_container):
    def act(test, name):
        test.running(name)
        patch = {"spec": {group: [{"name": name_of_container, "resources": memory("48Mi")}]}}
        test.kubectl("patch", "pod", name, "--subresource=resize", "--type=strategic", "-p", json.dumps(patch))
    return act


def debug(stays, quick=None, then=None):
    """Adds ephemeral containers: one that stays and one that ends, then lets `then` end the pod."""
    def act(test, name):
        test.running(name)
        scripts = {"stays": stays, **({"quick": quick} if quick else {})}
        patch = {"spec": {"ephemeralContainers": [container(script, key) for key, script in scripts.items()]}}
        test.kubectl("patch", "pod", name, "--subresource=ephemeralcontainers", "--type=strategic", "-p",
                     json.dumps(patch))
        test.armed(name, "stays")
        if quick:
            until(f"{name}/quick ended", 60, lambda: any(
                "terminated" in entry["state"] for entry in test.cluster.get("-n", NAMESPACE, "pod", name)["status"].get(
                    "ephemeralContainerStatuses", []) if entry["name"] == "quick"))
            time.sleep(2)  # The API's times are whole seconds; the pod's end must not share one with this.
        then(test, name)
    return act


RESTART_ON_RESIZE = {"resizePolicy": [{"resourceName": "memory", "restartPolicy": "RestartContainer"}],
                     "resources": memory("32Mi")}
HOOK_FAILS = {"lifecycle": {"postStart": {"exec": {"command": ["sh", "-c", "exit 1"]}}}}
SLOW_HOOK = {"lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", "sleep 100"]}}}}
QUICK_HOOK = {"lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", "sleep 1"]}}}}
EAT = "sleep 1; exec dd if=/dev/zero of=/dev/null bs=200M count=10"
EAT_IN_CHILD = "sleep 1; dd if=/dev/zero of=/dev/null bs=200M count=10; sleep 1; exit 1"
# Each second run hangs until the probe ends it; the others end by themselves, with another code.
BY_TURNS = ("if [ -e /scratch/x ]; then busybox rm /scratch/x; sleep 0.5; exit 5; fi; touch /scratch/x; " + STUBBORN)
SCRATCH = {"volumeMounts": [{"name": "s", "mountPath": "/scratch"}]}
LIVENESS, STARTUP = {"livenessProbe": FAILING}, {"startupProbe": FAILING}
BEGINNING = [("app", "128", "start_failed", "0+")]


def own():
    """What containers do to themselves, and what one pod's spec brings about."""
    return [
        Scenario(pod("completed", container("exit 0"), restartPolicy="Never"), [("app", "0", "completed", 1)]),
        Scenario(controller("Deployment", "completes", container("sleep 1; exit 0")), [("app", "0", "completed", "2+")]),
        Scenario(job("application", container("exit 3")), [("app", "3", "application", 1)]),
        Scenario(pod("segfault", container(things.segfault()), restartPolicy="Never"), [("app", "139", "fatal_signal", 1)]),
        Scenario(pod("aborted", container("exit 134"), restartPolicy="Never"), [("app", "134", "fatal_signal", 1)]),
        Scenario(pod("cannot-start", container(["/no/such/binary"])), [("app", "128", "start_failed", "2+")]),
        Scenario(pod("init-fails", container(STUBBORN), init=[sidecar(POLITE), container("sleep 1; exit 3", "migrate")],
                     restartPolicy="Never", grace=5),
                 [("migrate", "3", "application", 1), ("proxy", "0", "pod_completed", 1)]),
        Scenario(controller("StatefulSet", "oom-limit", container(EAT, resources=memory("32Mi"))),
                 [("app", "137", "oom_limit", "2+"), *BEGINNING]),
        Scenario(controller("Deployment", "oom-child", container(EAT_IN_CHILD, resources=memory("32Mi"))),
                 [("app", "1", "oom_limit", "2+"), *BEGINNING]),
        Scenario(pod("deadline", container(STUBBORN), restartPolicy="Never"),
                 [("app", "137", "deadline_exceeded", 1)], pass_deadline("pod")),
        Scenario(job("job-deadline", container(POLITE_143), grace=5),
                 [("app", "143", "pod_deleted", 1)], pass_deadline("job")),
        Scenario(pod("disk-eater", container("sleep 3; dd if=/dev/zero of=/scratch/x bs=1M count=30; " + STUBBORN, **SCRATCH),
                     volumes=[{"name": "s", "emptyDir": {"sizeLimit": "10Mi"}}]),
                 [("app", "137", "evicted", 1)]),
        Scenario(job("work-over", container("sleep 4; exit 0"), init=[sidecar(POLITE), sidecar(STUBBORN, "rude")], grace=4),
                 [("app", "0", "completed", 1), ("proxy", "0", "pod_completed", 1), ("rude", "137", "pod_completed", 1)]),
    ]


def probes():
    """Probes and hooks of containers and sidecars, also where nothing restarts."""
    app = container(STUBBORN)
    return [
        Scenario(controller("DaemonSet", "liveness", container(STUBBORN, **LIVENESS)),
                 [("app", "137", "liveness_probe", "3+")]),
        Scenario(controller("Deployment", "liveness-143", container(POLITE_143, **LIVENESS), grace=5),
                 [("app", "143", "liveness_probe", "3+")]),
        Scenario(controller("Deployment", "liveness-zero", container(POLITE, **LIVENESS), grace=5),
                 [("app", "0", "liveness_probe", "3+")]),
        Scenario(controller("Deployment", "liveness-exec", container(STUBBORN, livenessProbe={
            "exec": {"command": ["false"]}, "periodSeconds": 2, "failureThreshold": 2})),
                 [("app", "137", "liveness_probe", "2+")]),
        Scenario(controller("Deployment", "liveness-sidecar", app, init=[sidecar(STUBBORN, **LIVENESS)]),
                 [("proxy", "137", "liveness_probe", "2+")]),
        Scenario(job("liveness-job", container(STUBBORN, **LIVENESS)), [("app", "137", "liveness_probe", 1)]),
        Scenario(controller("Deployment", "by-turns", container(BY_TURNS, **SCRATCH, **LIVENESS),
                            volumes=[{"name": "s", "emptyDir": {}}]),
                 [("app", "137", "liveness_probe", "2+"), ("app", "5", "application", "2+")]),
        Scenario(controller("Deployment", "startup", container(STUBBORN, **STARTUP)), [("app", "137", "startup_probe", "2+")]),
        Scenario(controller("Deployment", "startup-143", container(POLITE_143, **STARTUP), grace=5),
                 [("app", "143", "startup_probe", "2+")]),
        Scenario(controller("Deployment", "startup-sidecar", app, init=[sidecar(STUBBORN, **STARTUP)]),
                 [("proxy", "137", "startup_probe", "2+")]),
        Scenario(job("startup-job", container(STUBBORN, **STARTUP)), [("app", "137", "startup_probe", 1)]),
        Scenario(pod("hook", container(STUBBORN, **HOOK_FAILS)), [("app", "137", "post_start_hook", "2+")]),
        Scenario(pod("hook-sidecar", app, init=[sidecar(STUBBORN, **HOOK_FAILS)]),
                 [("proxy", "137", "post_start_hook", "2+")]),
        # Probes that never fail must not be blamed for a crash.
        Scenario(controller("Deployment", "healthy-crash", container("sleep 3; exit 137", livenessProbe={
            "exec": {"command": ["true"]}, "periodSeconds": 1, "timeoutSeconds": 20})), [("app", "137", "killed", "2+")]),
    ]


def acts():
    """What others do to one pod."""
    return [
        Scenario(pod("killed", container(STUBBORN)), [("app", "137", "killed", 1)], kill_from_outside(signal.SIGKILL)),
        Scenario(pod("termed", container(POLITE_143)), [("app", "143", "killed", 1)], kill_from_outside(signal.SIGTERM)),
        Scenario(pod("deleted", container(POLITE), grace=10), [("app", "0", "pod_deleted", 1)], delete),
        Scenario(pod("deleted-143", container(POLITE_143), grace=10), [("app", "143", "pod_deleted", 1)], delete),
        Scenario(pod("outlives", container(STUBBORN), grace=3), [("app", "137", "grace_period_exceeded", 1)], delete),
        Scenario(pod("outlives-hook", container(STUBBORN, **SLOW_HOOK), grace=3),
                 [("app", "137", "grace_period_exceeded", 1)], delete),
        Scenario(pod("quick-hook", container(POLITE, **QUICK_HOOK), grace=20), [("app", "0", "pod_deleted", 1)], delete),
        Scenario(pod("evicted-by-api", container(POLITE_143), grace=10), [("app", "143", "drained", 1)], evict),
        Scenario(pod("drained", container(STUBBORN), grace=2), [("app", "137", "drained", 1)], drain),
        Scenario(pod("preempted", container(STUBBORN, resources={"requests": {"cpu": "1500m"}})),
                 [("app", "137", "preempted", 1)], preempt, also=[
                     {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "e2e-high"},
                      "value": 1000000}]),
        Scenario(pod("redefined", container(STUBBORN)), [("app", "137", "definition_changed", 1)],
                 change_image("containers", "app")),
        Scenario(pod("redefined-sidecar", container(STUBBORN), init=[sidecar(POLITE)], grace=10),
                 [("proxy", "0", "definition_changed", 1)], change_image("initContainers", "proxy")),
        Scenario(pod("resized", container(STUBBORN, **RESTART_ON_RESIZE)), [("app", "137", "resized", 1)],
                 resize("containers", "app")),
        Scenario(pod("resized-sidecar", container(STUBBORN), init=[sidecar(POLITE, **RESTART_ON_RESIZE)], grace=10),
                 [("proxy", "0", "resized", 1)], resize("initContainers", "proxy")),
        Scenario(pod("sandbox", [container(STUBBORN), container(POLITE_143, "second")], grace=5),
                 [("app", "137", "sandbox_changed", 1), ("second", "143", "sandbox_changed", 1)], kill_sandbox),
        Scenario(pod("debugged", container(POLITE), restartPolicy="Never", grace=5),
                 [("app", "0", "completed", 1), ("stays", "143", "pod_completed", 1), ("quick", "3", "application", 1)],
                 debug(POLITE_143, "exit 3", then=kill_from_outside(signal.SIGTERM))),
        Scenario(pod("debugged-deleted", container(POLITE), grace=10),
                 [("app", "0", "pod_deleted", 1), ("stays", "143", "pod_deleted", 1)],
                 debug(POLITE_143, then=delete)),
    ]


def lost():
    """Containers that are gone when kubelet and containerd come back."""
    return [
        Scenario(pod("lost", container(STUBBORN)), [("app", "255", "lost", 1)]),
        Scenario(pod("lost-never", container(STUBBORN), restartPolicy="Never"), [("app", "255", "lost", 1)]),
        Scenario(pod("vanished", container(STUBBORN)), [("app", "137", "lost", 1)]),
        Scenario(pod("untouched", container(STUBBORN)), []),
    ]


def tainted():
    """A NoExecute taint ends every pod of the node."""
    return [
        Scenario(pod("tainted", container(POLITE_143), grace=10), [("app", "143", "node_taint", 1)]),
        Scenario(pod("tainted-rude", container(STUBBORN), grace=2), [("app", "137", "node_taint", 1)]),
    ]


def pressure():
    """The kubelet evicts under node pressure. A pod without requests would be refused when the kubelet starts again."""
    return [Scenario(pod("pressed", container(STUBBORN, resources={"requests": {"memory": "8Mi"}})),
                     [("app", "137", "evicted", 1)])]


def node_oom():
    """The node's share for pods is used up, not the container's own limit: the pod has none."""
    script = "until [ -e /tmp/go ]; do sleep 0.2; done; exec dd if=/dev/zero of=/dev/null bs=400M count=10"
    return [Scenario(pod("oom-node", container(script), restartPolicy="Never"), [("app", "137", "oom_node", 1)])]


class Test:
    """Cluster, exporter and truth of one run."""

    def __init__(self, record):
        self.cluster, self.folder = Cluster(), scratch("causes")
        self.record = pathlib.Path(record) if record else None
        self.exporter = self.truth = self.watch = None
        self.shown, self.skipped = Shown(), []

    def kubectl(self, *arguments):
        return self.cluster.kubectl("-n", NAMESPACE, *arguments)

    def apply(self, objects):
        self.cluster.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}), NAMESPACE)

    def running(self, name, seconds=90):
        """Waits until all containers of a pod run and those that catch SIGTERM do so."""
        def check():
            status = self.cluster.get("-n", NAMESPACE, "pod", name)["status"]
            return status.get("phase") == "Running" and all(
                "running" in entry["state"] for entry in status.get("containerStatuses", []))
        until(f"pod {name} running", seconds, check)
        for group in ("initContainers", "containers"):
            for one in self.cluster.get("-n", NAMESPACE, "pod", name)["spec"].get(group, []):
                if "trap" in " ".join(one.get("command", [])):
                    self.armed(name, one["name"])

    def armed(self, name, container_name):
        """Waits until a container's shell has set its trap: before that, SIGTERM does nothing to it."""
        found = until(f"{name}/{container_name} running", 60,
                      lambda: self.cluster.container_id(NAMESPACE, name, container_name))
        pid = until(f"task of {name}/{container_name}", 30, lambda: self.cluster.task_pid(found))
        until(f"trap of {name}/{container_name}", 30, lambda: handles(pid, signal.SIGTERM), every=0.1)

    def begin(self):
        cluster = self.cluster
        cluster.kubectl("delete", "priorityclass", "e2e-high", "--ignore-not-found")
        cluster.namespace(NAMESPACE)
        cluster.ctr("images", "tag", "--force", f"docker.io/{things.IMAGE}", f"docker.io/{things.SECOND_IMAGE}")
        self.truth = Truth(cluster, [NAMESPACE])
        self.truth.connected.wait(10)
        self.watch = Watch(cluster, f"/api/v1/namespaces/{NAMESPACE}/pods", self.shown.take)
        self.watch.start()
        self.exporter = Exporter(self.folder, kubeconfig=cluster.kubeconfig)
        self.exporter.wait_until_ready()

    def end(self):
        for thing in (self.truth, self.watch, self.exporter):
            if thing is not None:
                thing.stop()
        self.cluster.remove_namespace(NAMESPACE)
        self.cluster.kubectl("delete", "priorityclass", "e2e-high", "--ignore-not-found")

    def phase(self, name, scenarios, act=None):
        """Runs the scenarios of a phase and compares; returns the number of differences."""
        say(f"phase {name}: {len(scenarios)} scenarios")
        recording = Recording(self, self.record / name) if self.record else None
        self.apply([thing for scenario in scenarios for thing in scenario.things])
        for scenario in scenarios:
            if scenario.act:
                scenario.act(self, scenario.name)
        try:
            if act:
                act(self, scenarios)
        except Skip as reason:
            self.skipped.append(f"{name}: {reason}")
            say(f"SKIPPED {name}: {reason}")
            scenarios = []
        try:
            # The kubelet measures an emptyDir at the next full minute of its own, then after one or two more; then it evicts
            # within 10 s.
            until("all expected counts", 240, lambda: not self.differences(scenarios), every=2)
            self.exporter.settle({NAMESPACE}, quiet=3, seconds=8)
        except Failed:
            pass  # Crash loops never rest; what is missing shows in the comparison.
        wrong = self.differences(scenarios)
        self.report(scenarios, wrong)
        if recording:
            recording.end(scenarios)
        self.clear()
        return len(wrong)

    def clear(self):
        """Removes all objects of a phase; what this ends is not compared."""
        kinds = "deployments,statefulsets,daemonsets,jobs,pods"
        self.kubectl("delete", kinds, "--all", "--wait=false")
        until("the end of all pods", 120, lambda: not self.cluster.pods(NAMESPACE), every=1)

    def counted(self):
        """Counts by (workload type, workload, container, exit code, cause)."""
        labels = ("workload_type", "workload", "container", "exit_code", "cause")
        return self.exporter.group("exitcode_container_terminations_total", labels, {NAMESPACE})

    def differences(self, scenarios):
        """Keys whose count is not what was done: {key: (done, seen)}."""
        wanted, names = {}, {(s.kind, s.name) for s in scenarios}
        for scenario in scenarios:
            for one, code, cause, count in scenario.expected:
                wanted[(scenario.kind, scenario.name, one, code, cause)] = count
        # Two ends between two writes of a pod's status: of the first nobody can know more than that it was.
        unshown = collections.Counter((*self.truth.workload(attempt), attempt.container) for attempt in self.truth.ended()
                                      if attempt.id not in self.shown.ends)
        got = {key: count for key, count in self.counted().items()
               if key[:2] in names and not (key[3:] == ("unknown", "unknown") and count <= unshown[key[:3]])}
        return {key: (wanted.get(key, 0), got.get(key, 0)) for key in {*wanted, *got}
                if not fits(wanted.get(key, 0), got.get(key, 0))}

    def report(self, scenarios, wrong):
        got, rows = self.counted(), []
        for scenario in scenarios:
            for one, code, cause, count in scenario.expected:
                key = (scenario.kind, scenario.name, one, code, cause)
                rows.append((f"{scenario.kind}/{scenario.name}", one, code, cause, count, got.get(key, 0),
                             "WRONG" if key in wrong else ""))
        rows += [(f"{key[0]}/{key[1]}", *key[2:], 0, seen, "WRONG: not done") for key, (done, seen) in sorted(wrong.items())
                 if done == 0]
        print(table(rows, ("workload", "container", "exit code", "cause", "done", "seen", "")), flush=True)


class Recording:
    """The streams of one phase, up to its comparison, with the truth beside them."""

    def __init__(self, test, folder):
        self.test, self.folder = test, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.before = {attempt.id for attempt in test.truth.all()}
        self.kubelet_log = test.cluster.dir / "log" / "kubelet.log"
        self.log_from = self.kubelet_log.stat().st_size
        self.watches = []
        for resource in ("pods", "events"):
            watch = Watch(test.cluster, f"/api/v1/namespaces/{NAMESPACE}/{resource}", lambda *_: None,
                          folder / f"{resource}.ndjson.gz", ignore_existing=True)
            watch.start()
            watch.synced.wait(20)
            self.watches.append(watch)

    def end(self, scenarios):
        """Ends the streams and writes what containerd, the kubelet's log and the table of scenarios say."""
        for watch in self.watches:
            watch.stop()
        ended = [attempt for attempt in self.test.truth.ended() if attempt.id not in self.before]
        exits = [dict(namespace=a.namespace, pod=a.pod, uid=a.uid, container=a.container, container_id=a.id,
                      exit_code=a.end[0], reason=a.end[1], finished_at=a.finished_at) for a in ended]
        for name, entries in (("exits", exits), ("kills", self.kills())):
            with gzip.open(self.folder / f"{name}.ndjson.gz", "wt", encoding="utf-8") as file:
                file.writelines(json.dumps(entry) + "\n" for entry in entries)
        causes = {(s.kind, s.name, one, code): cause for s in scenarios for one, code, cause, _ in s.expected}
        done = collections.Counter()
        for attempt in ended:
            key = (*self.test.truth.workload(attempt), attempt.container, str(attempt.end[0]))
            done[(NAMESPACE, *key, causes.get(key, "?"))] += 1
        rows = [("namespace", "workload_type", "workload", "container", "exit_code", "cause", "count"),
                *((*key, str(count)) for key, count in sorted(done.items()))]
        (self.folder / "causes.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))

    def kills(self):
        """What the kubelet's log says it killed, once per container id."""
        found = {}
        with open(self.kubelet_log, encoding="utf-8", errors="replace") as log:
            log.seek(self.log_from)
            for match in KILLED.finditer(log.read()):
                if match[3] == NAMESPACE:
                    found.setdefault(match[2], dict(
                        namespace=match[3], pod=match[4], container=match[1], container_id=match[2], message=match[5]))
        return list(found.values())


def handles(pid, number):
    """Whether a process catches or ignores a signal."""
    try:
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError:
        return False
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigCgt:", "SigIgn:"))]
    return any(mask >> (number - 1) & 1 for mask in masks)


class Skip(Exception):
    """This machine cannot do what the phase needs."""


def fits(wanted, got):
    """Whether a count is as expected."""
    if isinstance(wanted, str):
        return got >= int(wanted[:-1])
    return got == wanted


# What a phase does to the whole node.

def alone(test):
    """Skips a phase that would end the pods of others."""
    def others():
        return [p for p in test.cluster.get("pods", "-A")["items"] if p["metadata"]["namespace"] != NAMESPACE]

    try:
        # What an earlier test left may be on its way out.
        until("no other pods", 60, lambda: not others())
    except Failed:
        raise Skip(f"{len(others())} other pods on the node would be hit as well") from None


def lose(test, scenarios):
    """Kills containerd and the kubelet; then containers die with their shims, or are removed behind the kubelet's back."""
    cluster = test.cluster
    for scenario in scenarios:
        test.running(scenario.name)
    ids = {s.name: cluster.container_id(NAMESPACE, s.name, "app") for s in scenarios}
    pids = {name: cluster.task_pid(found) for name, found in ids.items()}
    kubelet = cluster.stop("kubelet", signal.SIGKILL)
    try:
        os.kill(pids["vanished"], signal.SIGKILL)
        until("the end of a task", 20, lambda: ids["vanished"] not in (cluster.ctr("tasks", "ls", check=False) or ""))
        cluster.ctr("containers", "rm", ids["vanished"])
        containerd = cluster.stop("containerd", signal.SIGKILL)
        try:
            for name in ("lost", "lost-never"):
                shim = parent(pids[name])
                os.kill(shim, signal.SIGKILL)
                os.kill(pids[name], signal.SIGKILL)
            time.sleep(1)
        finally:
            cluster.start(containerd)
        cluster.wait_for("containerd")
    finally:
        cluster.start(kubelet)
        cluster.wait_for("kubelet")


def parent(pid):
    """The parent of a process: a container's first process is the child of its shim."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
        return int(stat.read().rsplit(")", 1)[1].split()[1])


def taint(test, scenarios):
    """Taints the node until the pods are gone."""
    alone(test)
    for scenario in scenarios:
        test.running(scenario.name)
    test.cluster.kubectl("taint", "node", "node-1", "exitcode.test/e2e=now:NoExecute", "--overwrite")
    try:
        names = {s.name for s in scenarios}
        until("the end of tainted pods", 60, lambda: not any(
            p["metadata"]["name"] in names for p in test.cluster.pods(NAMESPACE)))
    finally:
        test.cluster.kubectl("taint", "node", "node-1", "exitcode.test/e2e-", check=False)


def press(test, scenarios):
    """Tells the kubelet that memory is short: a threshold above what is available."""
    cluster, config = test.cluster, test.cluster.dir / "kubelet.yaml"
    before = config.read_text()
    if "evictionHard: {}" not in before:
        raise Skip("the kubelet's configuration has no empty evictionHard")
    alone(test)
    test.running(scenarios[0].name)
    config.write_text(before.replace("evictionHard: {}", 'evictionHard: {memory.available: "99%"}'))
    try:
        cluster.restart("kubelet")
        # The reason comes before the end: a kubelet restarted between them can't find the container any more.
        until("an eviction", 180, lambda: any(evicted(p) for p in cluster.pods(NAMESPACE)), every=1)
    finally:
        config.write_text(before)
        cluster.restart("kubelet")
        cluster.kubectl("taint", "node", "node-1", "node.kubernetes.io/memory-pressure-", check=False)


def evicted(pod):
    """Whether the pod is evicted, and its containers have ended."""
    status = pod["status"]
    ended = all("terminated" in entry["state"] for entry in status.get("containerStatuses", []))
    return status.get("reason") == "Evicted" and ended


def shrink(test, scenarios):
    """Limits the memory of all pods without requests, as a node's allocatable memory does."""
    group = pathlib.Path("/sys/fs/cgroup/memory/kubepods/besteffort/memory.limit_in_bytes")
    if not group.exists():
        raise Skip("no cgroup v1 memory controller for pods")
    alone(test)
    test.running(scenarios[0].name)
    before = group.read_text()
    try:
        group.write_text(str(96 << 20))
        pid = test.cluster.task_pid(test.cluster.container_id(NAMESPACE, "oom-node", "app"))
        pathlib.Path(f"/proc/{pid}/root/tmp/go").touch()
        until("the end of the pod", 60, lambda: test.cluster.pods(NAMESPACE)[0]["status"]["phase"] == "Failed")
    finally:
        group.write_text("-1" if int(before) > 1 << 60 else before)


PHASES = {
    "own": (own, None), "probes": (probes, None), "acts": (acts, None), "lost": (lost, lose), "taint": (tainted, taint),
    "pressure": (pressure, press), "node-oom": (node_oom, shrink),
}


def run():
    """Parses the options and runs the phases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(PHASES), help="phases, separated by commas")
    parser.add_argument("--record", help="folder for recordings")
    options = parser.parse_args()
    test, wrong = Test(options.record), 0
    try:
        test.begin()
        for name in options.only.split(","):
            scenarios, act = PHASES[name]
            wrong += test.phase(name, scenarios(), act)
        evidence = {labels.get("evidence"): int(value) for labels, value
                    in test.exporter.metrics()["exitcode_exporter_cause_evidence_total"]}
        say(f"evidence: {evidence}")
    finally:
        test.end()
    say("not possible here: node_shutdown (needs systemd-logind), node_lost (needs a second node), "
        "SystemOOM events (need the kernel's log)")
    for text in test.skipped:
        say(f"skipped {text}")
    say(f"FAILED: {wrong} differences; logs in {test.folder}" if wrong else "every cause is what was done")
    # Where nobody reads along, what is skipped is not tested.
    return 1 if wrong or test.skipped and os.environ.get("EXITCODE_E2E_OUTPUT") else 0


if __name__ == "__main__":
    main(run)
