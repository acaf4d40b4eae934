#!/usr/bin/env python3
"""The counters equal what containerd itself reported, on a real cluster whose daemons are restarted meanwhile.

The exporter starts before the workloads exist. Then containers crash, are killed, evicted and deleted; the kubelet,
containerd and the API server are restarted, each with a container dying meanwhile; a Deployment is rolled out, pods
are deleted (one by force), a static pod's mirror is deleted. At the end everything is removed, the counters come to
rest, and every (namespace, workload type, workload, container, exit code) is compared with containerd's own word.

What may differ, each named in the report and nothing else:
- unreported: no pod object ever showed the end of this attempt (two ends between two status writes, or a re-list after
  the API server's restart): the attempt must be counted with exit code "unknown", so the sum per container is equal;
- gone first: the pod's object went while the container ran, since it was deleted by force, or since a static pod's file was
  removed and its mirror with it: no object showed this end. Must not be counted.

Usage: counts.py [--minutes N] (how long containers crash between the steps; default 3). Exit status 1 on a difference.
"""

import argparse
import collections
import json
import os
import signal
import time

from cluster import HERE, Cluster, Failed, Watch, main, say, scratch, table, until
from ends import Shown
from exporter import Exporter
from truth import Truth

NAMESPACE = "e2e-counts"
KEY = ("namespace", "workload_type", "workload", "container", "exit_code")
WORKLOADS = HERE / "workloads"


class Test:
    """The steps of the test, in the order of `run`."""

    def __init__(self, minutes):
        self.cluster = Cluster()
        self.folder = scratch("counts")
        self.pause = minutes * 60 / 6
        self.static = self.cluster.dir / "manifests" / "e2e-static-crash.yaml"
        self.shown, self.outage = Shown(), (0.0, 0.0)
        self.truth = self.exporter = self.watch = None
        self.failures_before = self.failures_after = 0

    def run(self):
        cluster = self.cluster
        self.static.unlink(missing_ok=True)
        cluster.namespace(NAMESPACE)
        try:
            self.truth = Truth(cluster, [NAMESPACE])
            self.truth.connected.wait(10)
            self.watch = Watch(cluster, f"/api/v1/namespaces/{NAMESPACE}/pods", self.shown.take)
            self.watch.start()
            self.exporter = Exporter(self.folder, kubeconfig=cluster.kubeconfig)
            self.exporter.wait_until_ready()
            self.steps()
            return self.compare()
        finally:
            self.static.unlink(missing_ok=True)
            for thing in (self.exporter, self.watch, self.truth):
                if thing is not None:
                    thing.stop()
            cluster.remove_namespace(NAMESPACE)

    def steps(self):
        cluster = self.cluster
        say("workloads start")
        cluster.apply((WORKLOADS / "counts.yaml").read_text(), NAMESPACE)
        for _ in range(2):
            cluster.kubectl("-n", NAMESPACE, "create", "-f", str(WORKLOADS / "generated.yaml"))
        self.static.write_text((WORKLOADS / "static.yaml").read_text().replace("NAMESPACE", NAMESPACE))
        until("the Deployment steady", 90, lambda: self.available("steady") == 3)
        time.sleep(self.pause)
        say("the kubelet restarts, a container dies meanwhile")
        cluster.restart("kubelet", meanwhile=self.killer("killed-kubelet-down"))
        time.sleep(self.pause)
        say("containerd restarts, a container dies meanwhile")
        cluster.restart("containerd", meanwhile=self.killer("killed-containerd-down"))
        time.sleep(self.pause)
        self.failures_before = self.failures()
        say("the API server is killed and starts again, a container dies meanwhile")
        kill, began, down = self.killer("killed-apiserver-down"), time.time(), []
        cluster.restart("kube-apiserver", signal.SIGKILL, meanwhile=lambda: (kill(), down.append(time.time())))
        until("both watches of the exporter after the API server's restart", 180, lambda: self.heard_since(down[0]))
        self.outage = (began, time.time())
        time.sleep(self.pause)
        self.failures_after = self.failures()
        say("a Deployment is rolled out, pods are deleted, the static pod's mirror is deleted")
        self.deletions()
        time.sleep(self.pause)
        say("everything is removed")
        self.remove()

    def heard_since(self, moment):
        """Whether both watches of the exporter brought something since then."""
        heard = self.exporter.metrics()["exitcode_exporter_last_event_timestamp_seconds"]
        return len(heard) == 2 and all(value > moment for _, value in heard)

    def pid(self, pod):
        """The process of a pod's container, without asking Kubernetes: it may be down."""
        running = [a for a in self.truth.all() if a.pod == pod and a.end is None]
        if not running:
            raise Failed(f"no running container of {pod}")
        return until(f"task of {pod}", 20, lambda: self.cluster.task_pid(running[-1].id))

    def killer(self, pod):
        """What kills the container of a pod from outside; containerd is not asked any more when it is called."""
        pid = self.pid(pod)

        def kill():
            os.kill(pid, signal.SIGKILL)
            time.sleep(3)

        return kill

    def available(self, deployment):
        return self.cluster.get("-n", NAMESPACE, "deployment", deployment)["status"].get("availableReplicas", 0)

    def failures(self):
        return self.exporter.sum("exitcode_exporter_watch_failures_total")

    def deletions(self):
        kubectl = lambda *arguments: self.cluster.kubectl("-n", NAMESPACE, *arguments)
        kubectl("rollout", "restart", "deployment/steady")
        kubectl("rollout", "restart", "deployment/app-error")
        kubectl("delete", "pod", "quiet", "polite", "--wait=false")
        kubectl("delete", "pod", "forced", "--force", "--grace-period=0")
        mirror = next(p["metadata"]["name"] for p in self.cluster.pods(NAMESPACE)
                      if p["metadata"]["name"].startswith("static-crash"))
        kubectl("delete", "pod", mirror, "--wait=false")
        kubectl("rollout", "status", "deployment/steady", "--timeout=120s")

    def remove(self):
        # Not between its start and the status that tells of it: the mirror would go before it shows the last attempt.
        until("the static pod running", 90, lambda: any(
            "running" in entry["state"] for p in self.cluster.pods(NAMESPACE)
            if p["metadata"]["name"].startswith("static-crash")
            for entry in p["status"].get("containerStatuses", [])), every=0.2)
        self.static.unlink()
        until("the end of the static pod", 60, lambda: not any(
            p["metadata"]["name"].startswith("static-crash") for p in self.cluster.pods(NAMESPACE)), every=1)
        kinds = "deployments,statefulsets,daemonsets,replicasets,cronjobs,jobs,pods"
        self.cluster.kubectl("-n", NAMESPACE, "delete", kinds, "--all", "--wait=false")
        until("the end of all pods", 150, lambda: self.no_pods(), every=1)
        until("the end of all containers", 60, lambda: all(a.end or a.deleted for a in self.truth.all()), every=1)
        self.exporter.settle({NAMESPACE}, quiet=5, seconds=60)

    def no_pods(self):
        pods = self.cluster.pods(NAMESPACE)
        stray = [p["metadata"]["name"] for p in pods if not p["metadata"].get("deletionTimestamp")]
        if stray:
            self.cluster.kubectl("-n", NAMESPACE, "delete", "pod", *stray, "--ignore-not-found", "--wait=false")
        return not pods

    def compare(self):
        """Prints every container's counts beside containerd's; 1 if a difference has no name."""
        gone = {a.id for a in self.truth.all() if a.pod == "forced"} | self.gone_with_mirror()
        truth, got = self.truth.counts(leave_out=gone), self.counted()
        ends = len(self.truth.ended())
        rows, wrong = [], 0
        for container in sorted({key[:4] for key in (*truth, *got)}):
            wrong += self.compare_container(container, truth, got, rows)
        print(table(rows, ("workload", "container", "exit code", "containerd", "exporter", "difference")))
        say(f"{ends} ends reported by containerd, {len(gone)} of them after the pod's object was gone (not countable)")
        wrong += self.compare_restarts() + self.compare_health()
        say(f"{'FAILED: ' + str(wrong) + ' differences; logs in ' + str(self.folder) if wrong else 'counts are equal'}")
        return 1 if wrong else 0

    def gone_with_mirror(self):
        """The static pod's last attempt, if no object showed its end before the mirror was gone for good."""
        last = max((a for a in self.truth.ended() if a.pod.startswith("static-crash")), key=lambda a: a.finished_at)
        return set() if last.id in self.shown.ends else {last.id}

    def counted(self):
        """The exporter's counters; codes that the kubelet made up are as unknown as those it did not report."""
        found = collections.Counter()
        for labels, value in self.exporter.metrics()["exitcode_container_terminations_total"]:
            if labels.get("namespace") == NAMESPACE:
                if labels["reason"] in ("ContainerStatusUnknown", "RestartingAllContainers"):
                    labels = {**labels, "exit_code": "unknown"}
                found[tuple(labels[name] for name in KEY)] += int(value)
        return found

    def compare_container(self, container, truth, got, rows):
        codes = sorted({key[4] for key in (*truth, *got) if key[:4] == container and key[4] != "unknown"}, key=int)
        missing = wrong = 0
        for code in codes:
            there, here = truth[(*container, code)], got[(*container, code)]
            note = ""
            if here < there and there - here <= self.unreported(container, code):
                note = f"{there - here} unreported"
                missing += there - here
            elif here != there:
                note, wrong = "WRONG", wrong + 1
            rows.append((f"{container[1]}/{container[2]}", container[3], code, there, here, note))
        unknown = got[(*container, "unknown")]
        if unknown or missing:
            note = "" if unknown == missing else "WRONG: must be the sum of the unreported"
            wrong += unknown != missing
            rows.append((f"{container[1]}/{container[2]}", container[3], "unknown", missing, unknown, note))
        return wrong

    def unreported(self, container, code):
        """How many ends of a container with this code no pod object showed, or only around the API server's outage."""
        found = 0
        for attempt in self.truth.ended():
            key = (attempt.namespace, *self.truth.workload(attempt), attempt.container)
            if key == container and str(attempt.end[0]) == code:
                seen = self.shown.ends.get(attempt.id)
                found += seen is None or self.outage[0] - 1 <= seen <= self.outage[1]
        return found

    def compare_restarts(self):
        truth = +self.truth.restarts()
        got = self.exporter.group("exitcode_container_restarts_total", KEY[:4], {NAMESPACE})
        rows = [(f"{key[1]}/{key[2]}", key[3], truth[key], got[key])
                for key in sorted({*truth, *got}) if truth[key] != got[key]]
        if rows:
            print(table(rows, ("workload", "container", "restarts (containerd)", "restarts (exporter)")))
        say(f"{sum(truth.values())} restarts by containerd's attempt numbers, {sum(got.values())} counted")
        return len(rows)

    def nothing_pending(self):
        """Whether nothing waits at some moment soon; other namespaces of the cluster may be busy."""
        try:
            return until("nothing pending", 20, lambda: not self.exporter.sum("exitcode_exporter_pending_terminations"), 0.1)
        except Failed:
            return False

    def compare_health(self):
        metrics = self.exporter.metrics()
        checks = {
            "the exporter's own counters are there": all(f"exitcode_exporter_{name}_total" in metrics for name in (
                "undecodable_objects", "watch_failures", "baselines")),
            "no undecodable objects": self.exporter.sum("exitcode_exporter_undecodable_objects_total") == 0,
            "no watch failure before the API server's restart": self.failures_before == 0,
            "watch failures during the API server's restart": self.failures_after > 0,
            "no watch failure after it": self.failures() == self.failures_after,
            "no restart count decreased": self.exporter.sum(
                "exitcode_exporter_baselines_total", reason="restart_count_decreased") == 0,
            "nothing stays pending": self.nothing_pending(),
            "pods synced": self.exporter.sum("exitcode_exporter_synced", resource="pods") == 1,
            "events synced": self.exporter.sum("exitcode_exporter_synced", resource="events") == 1,
            "ready": self.exporter.fetch("/readyz")[0] == 200,
            "no end counted for a container that never ran": not any(
                labels.get("workload") == "too-big"
                for labels, _ in self.exporter.metrics()["exitcode_container_terminations_total"]),
            "the rejected pod counted as a pod failure": self.exporter.sum(
                "exitcode_pod_failures_total", workload="too-big", reason="OutOfmemory") == 1,
            "the evicted pod counted as a pod failure": self.exporter.sum(
                "exitcode_pod_failures_total", workload="disk-eater", reason="Evicted") == 1,
        }
        for text, holds in checks.items():
            if not holds:
                say(f"WRONG: {text}: not so")
        failures = [(labels["resource"], labels["reason"], int(value)) for labels, value
                    in self.exporter.metrics()["exitcode_exporter_watch_failures_total"] if value]
        say(f"watch failures: {failures}; unobserved pods: "
            f"{int(self.exporter.sum('exitcode_exporter_unobserved_pods_total'))}")
        attempts = [dict(pod=a.pod, container=a.container, id=a.id, attempt=a.number, end=a.end, task_exit=a.task_exit,
                         finished_at=a.finished_at, shown=self.shown.ends.get(a.id)) for a in self.truth.all()]
        (self.folder / "attempts.ndjson").write_text("".join(json.dumps(a) + "\n" for a in attempts))
        return sum(not holds for holds in checks.values())


def run():
    """Parses the options and runs the test."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=3, help="how long containers crash between the steps")
    return Test(parser.parse_args().minutes).run()


if __name__ == "__main__":
    main(run)
