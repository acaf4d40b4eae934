#!/usr/bin/env python3
"""Load against a real API server: thousands of pods whose statuses are written by a generator that keeps the truth.

Needs the generator `churn` beside the cluster's scripts. The controller manager rests meanwhile: it would collect the
generator's pods, whose owners do not exist. Compares every (namespace, workload, container, exit code, reason), and prints
what the exporter needed: peak memory, CPU until synced and per event.

With --saved the exporter saves its state, is restarted at the end, and must still show the same.

Usage: churn.py [--pods N] [--rate PER_SECOND] [--seconds N] [--saved]. Exit status 1 on a difference.
"""

import argparse
import collections
import json
import os
import pathlib
import subprocess
import time

from cluster import Cluster, Failed, folder, main, say, scratch, table, until
from exporter import Exporter

NAMESPACES = 20
PREFIX = "e2e-churn"


def usage(pid):
    """(CPU seconds so far, peak resident MiB) of a process."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    peak = next(line for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), int(peak.split()[1]) / 1024


def generate(cluster, binary, *options, at_load=lambda: None):
    """Runs the generator to its end; calls `at_load` when the pods are there."""
    environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
    with subprocess.Popen([binary, "--prefix", PREFIX, "--namespaces", str(NAMESPACES), *options],
                          env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as generator:
        try:
            for line in generator.stderr:
                say(f"churn: {line.strip()}")
                if "created" in line:
                    at_load()
            if generator.wait() != 0:
                raise Failed("the generator failed")
        finally:
            generator.kill()


def expected(path):
    """The generator's truth by (namespace, workload type, workload, container, exit code, reason)."""
    found = collections.Counter()
    for line in path.read_text().splitlines():
        row = json.loads(line)
        code, reason = (str(row["exit_code"]), row["reason"]) if row["seen"] else ("unknown", "NotObserved")
        found[(row["namespace"], row["workload_type"], row["workload"], row["container"], code, reason)] += row["count"]
    return found


def build(place):
    """Builds the generator and returns its path."""
    binary = str(place / "churn-generator")
    subprocess.run(["go", "build", "-o", binary, "./churn"], cwd=folder(), check=True, timeout=900,
                   env={**os.environ, "GOFLAGS": "-mod=readonly"})
    return binary


def names(prefix=PREFIX, namespaces=NAMESPACES):
    """The generator's namespaces."""
    return {f"{prefix}-{number}" for number in range(namespaces)}


def compare(truth, exporter):
    """Prints what differs; returns how many keys do."""
    labels = ("namespace", "workload_type", "workload", "container", "exit_code", "reason")
    got = exporter.group("exitcode_container_terminations_total", labels, names())
    rows = [(*key, truth[key], got[key]) for key in sorted({*truth, *got}) if truth[key] != got[key]]
    if rows:
        print(table(rows[:40], (*labels, "done", "seen")))
    say(f"{sum(truth.values())} terminations done, {sum(got.values())} counted, {len(truth)} series, {len(rows)} differ")
    return len(rows)


def restarted(exporter, place, arguments, cluster):
    """Stops the exporter and starts it again; prints what its file needs, and how long it takes until ready."""
    kib = exporter.sum("exitcode_exporter_state_size_bytes") / 1024
    took = exporter.sum("exitcode_exporter_state_save_duration_seconds")
    exporter.stop()
    begun = time.monotonic()
    again = Exporter(place, arguments, cluster.kubeconfig, "exporter-again", "warn")
    until("/readyz of the exporter", 60, lambda: again.fetch("/readyz")[0] == 200, every=0.01)
    seconds = time.monotonic() - begun
    say(f"the file has {kib:.0f} KiB, the last save took {took * 1000:.0f} ms; ready {seconds:.2f} s after a restart")
    if seconds > 5:
        again.stop()
        raise Failed("a restart took over 5 s until ready")
    until("/metrics after the restart", 10, lambda: again.fetch("/metrics")[0] == 200, every=0.01)
    return again


def remove(cluster, prefix=PREFIX, namespaces=NAMESPACES):
    """Removes the generator's namespaces; its pods have no kubelet that would end them."""
    for name in names(prefix, namespaces):
        cluster.request("DELETE", f"/api/v1/namespaces/{name}/pods", {"gracePeriodSeconds": 0})
        cluster.kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=false")


def run():
    """Parses the options, makes the load, compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pods", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=60, help="terminations a second")
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--saved", action="store_true", help="with saved state, and a restart at the end")
    options = parser.parse_args()
    cluster, place = Cluster(), scratch("churn")
    binary = build(place)
    manager, exporter = cluster.stop("kube-controller-manager"), None
    try:
        generate(cluster, binary, "--pods", str(options.pods), "--only", "create")
        arguments = ["--state-dir", str(place / "state")] if options.saved else []
        exporter = Exporter(place, arguments, cluster.kubeconfig, level="warn")
        exporter.wait_until_ready(60)
        cpu, peak = usage(exporter.process.pid)
        say(f"{options.pods} pods: synced with {cpu:.2f} s of CPU, {peak:.0f} MiB peak")
        truth = place / "truth.ndjson"
        marks = []
        before = exporter.sum("exitcode_exporter_watch_events_total", resource="pods")
        generate(cluster, binary, "--pods", str(options.pods), "--rate", str(options.rate),
                 "--duration", f"{options.seconds}s", "--truth", str(truth),
                 at_load=lambda: marks.append((time.monotonic(), usage(exporter.process.pid)[0])))
        marks.append((time.monotonic(), usage(exporter.process.pid)[0]))
        exporter.settle(names(), quiet=3)
        events = exporter.sum("exitcode_exporter_watch_events_total", resource="pods") - before
        more, peak = usage(exporter.process.pid)
        say(f"{events:.0f} events: {(more - cpu) / max(events, 1) * 1e6:.0f} us of CPU each (scrapes included), {peak:.0f} MiB peak")
        seconds, used = (marks[-1][n] - marks[0][n] for n in (0, 1))
        say(f"{used:.2f} s of CPU in the {seconds:.0f} s of load: {used / seconds:.1%} of a core")
        wrong = compare(expected(truth), exporter)
        if options.saved:
            exporter = restarted(exporter, place, arguments, cluster)
            wrong += compare(expected(truth), exporter)
    finally:
        try:
            if exporter:
                exporter.stop()
            remove(cluster)
        finally:
            cluster.start(manager)
    say(f"FAILED; logs in {place}" if wrong else "all terminations counted exactly once")
    return 1 if wrong else 0


if __name__ == "__main__":
    main(run)
