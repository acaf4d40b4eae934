#!/usr/bin/env python3
"""Probe kills in long crash loops, where the kubelet stops sending events: most are still named, and nothing else is.

Containers are killed by their probes for minutes, beside others that end by themselves with the same or other codes. What
the kubelet killed, and why, its own log says per container id, also where it dropped the event. Compared end by end with the
exporter's log: at least 99 % of the probe kills must be called so, and no other end.

Usage: liveness.py [--minutes N] (default 10). Exit status 1 on a difference.
"""

import argparse
import collections
import json
import time

from causes import BY_TURNS, KILLED, SCRATCH
from cluster import Cluster, main, say, scratch, table, until
from exporter import Exporter
from things import FAILING, POLITE, POLITE_143, STUBBORN, container, controller
from truth import Truth

NAMESPACE = "e2e-liveness"
LIVENESS, STARTUP = {"livenessProbe": FAILING}, {"startupProbe": FAILING}
# So long that a busy machine can't make it fail.
PASSING = {"livenessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 2, "timeoutSeconds": 20}}
EMPTY = [{"name": "s", "emptyDir": {}}]


def objects():
    """Crash loops with and without the probes' doing."""
    return [
        controller("DaemonSet", "deadlocked", container(STUBBORN, **LIVENESS)),
        controller("Deployment", "polite", container(POLITE_143, **LIVENESS), grace=5),
        controller("Deployment", "ends-with-zero", container(POLITE, **LIVENESS), grace=5),
        controller("Deployment", "slow-start", container(STUBBORN, **STARTUP)),
        controller("Deployment", "slow-start-143", container(POLITE_143, **STARTUP), grace=5),
        controller("Deployment", "by-turns", container(BY_TURNS, **SCRATCH, **LIVENESS), volumes=EMPTY),
        # These end by themselves: at once with the code of a kill, in their own fault, while their probe is well.
        controller("Deployment", "dies-at-once", container("exit 137", **LIVENESS)),
        controller("Deployment", "aborts", container("sleep 0.3; exit 134", **STARTUP)),
        controller("Deployment", "healthy", container("sleep 3; exit 137", **PASSING)),
    ]


# (workload, exit code) of containers that end by themselves, whatever their failing probe says.
OWN_FAULT = {("dies-at-once", "137"), ("aborts", "134"), ("by-turns", "5")}


class Kills:
    """What the kubelet's log says it killed since this was made: container id -> cause."""

    def __init__(self, cluster):
        self.path = cluster.dir / "log" / "kubelet.log"
        self.start = self.path.stat().st_size

    def read(self):
        found = {}
        with open(self.path, encoding="utf-8", errors="replace") as log:
            log.seek(self.start)
            for match in KILLED.finditer(log.read()):
                for words, cause in (("failed liveness probe", "liveness_probe"), ("failed startup probe", "startup_probe")):
                    if match[3] == NAMESPACE and words in match[5]:
                        found.setdefault(match[2], cause)
        return found


def events(cluster):
    """Number of Killing events that the API has, and what their counts add up to."""
    found = cluster.get("-n", NAMESPACE, "events", "--field-selector=reason=Killing")["items"]
    return len(found), sum(event.get("count") or 1 for event in found)


def compare(truth, kills, exporter, removed_at):
    """Ends by workload, container and code: by probes or not, done and seen. Returns (probe kills, missed, wrongly called).

    Either is right where both happened: a kill of a container that was ending by itself or was being deleted. The API tells the
    time in whole seconds, and the rule allows one for that: within it, nobody can say whether the kill or the deletion came first.
    """
    done, either, seen = collections.Counter(), collections.Counter(), collections.Counter()
    for attempt in truth.ended():
        workload, code = truth.workload(attempt)[1], str(attempt.end[0])
        cause = kills.get(attempt.id, "other")
        both = cause != "other" and ((workload, code) in OWN_FAULT or int(attempt.finished_at) >= int(removed_at) - 1)
        (either if both else done)[(workload, code, cause)] += 1
    labels = ("workload", "exit_code", "cause")
    for (workload, code, cause), count in exporter.group(
            "exitcode_container_terminations_total", labels, {NAMESPACE}).items():
        seen[(workload, code, cause if cause.endswith("_probe") else "other")] += count
    rows, total, missed, wrong = [], 0, 0, 0
    for key in sorted({*done, *either, *seen}):
        less, more = max(0, done[key] - seen[key]), max(0, seen[key] - done[key] - either[key])
        if key[2] != "other":
            total, missed, wrong = total + done[key], missed + less, wrong + more
        rows.append((*key, done[key], either[key] or "", seen[key],
                     "" if key[2] == "other" else "missed" if less else "NOT DONE" if more else ""))
    print(table(rows, ("workload", "exit code", "ended by", "done", "either", "seen", "")))
    return total, missed, wrong


def run():
    """Parses the options, lets containers be killed, compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10, help="how long")
    options = parser.parse_args()
    cluster, folder = Cluster(), scratch("liveness")
    cluster.namespace(NAMESPACE)
    truth, log = Truth(cluster, [NAMESPACE]), Kills(cluster)
    exporter = Exporter(folder, kubeconfig=cluster.kubeconfig)
    try:
        exporter.wait_until_ready()
        say(f"crash loops for {options.minutes:g} minutes")
        cluster.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects()}), NAMESPACE)
        time.sleep(options.minutes * 60)
        number, counted = events(cluster)
        removed_at = time.time()
        cluster.kubectl("-n", NAMESPACE, "delete", "deployments,daemonsets", "--all", "--wait=false")
        until("the end of all pods", 120, lambda: not cluster.pods(NAMESPACE), every=1)
        exporter.settle({NAMESPACE}, quiet=4)
        total, missed, wrong = compare(truth, log.read(), exporter, removed_at)
        say(f"{total} probe kills by the kubelet's log, {number} Killing events in the API (counts add up to {counted}); "
            f"{missed} missed, {wrong} called so wrongly")
    finally:
        exporter.stop()
        truth.stop()
        cluster.remove_namespace(NAMESPACE)
    good = total > 0 and wrong == 0 and missed <= max(1, total // 100)
    say("probe kills are told from other ends" if good else f"FAILED; logs in {folder}")
    return 0 if good else 1


if __name__ == "__main__":
    main(run)
