#!/usr/bin/env python3
"""The shipped rules on a real cluster: repeated 1, 2 and 137 arrive at a real Alertmanager once and resolve; a rollout, a
drain, a scale-down and a node restart of apps that exit 0, 1, 143 and 137 on SIGTERM raise nothing above info.

Each Prometheus scrapes two exporters (one is restarted on the way) in both shipped ways, evaluates the rules with a tenth
of their windows, and sends to an Alertmanager with the shipped routes and inhibition. About seven minutes.

Usage: alerts.py PROMETHEUS:ALERTMANAGER… (pairs of binaries). Exit status 1 on a difference.
"""

import argparse
import json
import subprocess
import sys
import time
import urllib.request

from alerting import Inbox, Server
from cluster import PROJECT, Cluster, Failed, last_wrong, main, say, scratch, table, until
from exporter import Exporter

CRASHING, QUIET = "alerts-crash", "alerts-quiet"
METRIC = "exitcode_container_terminations_total"
COUNT = "namespace_workload_container:exitcode_terminations:count30m"
# The exporter's own alerts wait a tenth as long here too, and are true while somebody restarts the cluster's API server.
OWN = "ExitcodeExporter"
ALERTS = f'ALERTS{{alertname!~"{OWN}.+"}}'
IMAGE = "image: local/busybox:1, imagePullPolicy: Never"

# Workload: the alert it must raise, its container's command and more of the container.
CRASHES = {
    "exit-one": ("ExitcodeRepeatedError1", "1#application", "sleep 1; exit 1", ""),
    "exit-two": ("ExitcodeRepeatedError2", "2#application", "sleep 1; exit 2", ""),
    # Slow, so that the first kill is told before the third makes it critical.
    "memory-hog": ("ExitcodeOutOfMemoryLimit", "137#oom_limit", "sleep 14; exec dd if=/dev/zero of=/dev/null bs=200M count=10",
                   "resources: {limits: {memory: 32Mi}}"),
    "hangs": ("ExitcodeLivenessProbeKills", "137#liveness_probe", "trap '' TERM; while true; do sleep 1; done",
              "livenessProbe: {exec: {command: [sh, -c, exit 1]}, periodSeconds: 1, failureThreshold: 1}"),
}
CODES = (0, 1, 143, 137)


def deployment(name, team, command, more="", replicas=1, grace=1):
    """A Deployment with one container, as YAML."""
    more = f", {more}" if more else ""
    return f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}, team: {team}}}}}
    spec:
      terminationGracePeriodSeconds: {grace}
      containers:
      - {{name: app, {IMAGE}, command: [sh, -c, {json.dumps(command)}]{more}}}
---"""


def wanted(workload, severity="warning"):
    """The labels with which a workload's alert must arrive."""
    return tuple(sorted({
        "alertname": CRASHES[workload][0], "severity": severity, "namespace": CRASHING, "workload_type": "deployment",
        "workload": workload, "container": "app", "team": "checkout"}.items()))


def firing(inbox, server):
    """The workloads whose warning has arrived at their team."""
    seen = inbox.seen(server.name)
    return {workload for workload in CRASHES if seen["firing", "team-checkout", wanted(workload)]}


def same_counts(servers, exporter):
    """Whether every server's recorded counts are the exporter's own counters: once, in whole numbers."""
    def key(labels):
        return tuple(sorted(labels.items()))
    truth = {key(labels): value for labels, value in exporter.metrics()[METRIC] if labels["namespace"] == CRASHING}
    wrong = {}
    for server in servers:
        got = {key(labels): value for labels, value in server.query(f'{COUNT}{{namespace="{CRASHING}"}}')}
        if got != truth:
            wrong[server.name] = {k: (truth.get(k), got.get(k)) for k in truth | got if truth.get(k) != got.get(k)}
    return wrong


def same_series(server):
    """Both shipped ways to scrape show the same series, under the workloads' namespaces and without the target's pod."""
    by_job = {}
    for labels, value in server.query("{__name__=~\"exitcode_container_.*_total|exitcode_workload_pods\"}"):
        job_name = labels.pop("job")
        by_job.setdefault(job_name, {})[tuple(sorted(labels.items()))] = value
        if set(labels) & {"pod", "service", "endpoint", "exported_namespace", "exported_container"}:
            return f"{job_name}: labels {sorted(labels)}"
    own = {labels["namespace"] for labels, _ in server.query("exitcode_exporter_build_info")}
    if own != {"monitoring"}:
        return f"the exporter's own metrics are in {own}"
    if set(by_job.get("shipped", {})) != set(by_job.get("override", {})) or not by_job.get("shipped"):
        return f"shipped and override differ: {len(by_job.get('shipped', {}))}, {len(by_job.get('override', {}))}"
    return None


def rolled_out(cluster):
    """Waits until all quiet deployments stand."""
    for code in CODES:
        cluster.kubectl("-n", QUIET, "rollout", "status", f"deployment/exits-{code}", "--timeout=120s")


def everyday(cluster):
    """What operators do to apps that serve well: rollout, drain, scale-down, node restart."""
    say("rollout")
    cluster.kubectl("-n", QUIET, "rollout", "restart", "deployment")
    rolled_out(cluster)
    say("drain")
    drained = set()
    for pod in cluster.pods(QUIET):
        drained.add(pod["metadata"]["uid"])
        # Others are of the rollout, and on their way out.
        if "deletionTimestamp" not in pod["metadata"]:
            cluster.evict(QUIET, pod["metadata"]["name"])

    def standing(count):
        pods = cluster.pods(QUIET)
        return len(pods) == count and all(
            pod["metadata"]["uid"] not in drained and "deletionTimestamp" not in pod["metadata"]
            and any("running" in one["state"] for one in pod["status"].get("containerStatuses", [])) for pod in pods)

    until("new pods in place of the drained", 120, lambda: standing(2 * len(CODES)))
    say("scale-down")
    cluster.kubectl("-n", QUIET, "scale", "deployment", "--all", "--replicas=1")
    until("one pod of each", 90, lambda: standing(len(CODES)))
    say("node restart: kubelet and containers")
    running = [cluster.task_pid(cluster.container_id(QUIET, pod["metadata"]["name"], "app")) for pod in cluster.pods(QUIET)]

    def stop_containers():
        for pid in running:
            subprocess.run(["kill", "-TERM", str(pid)], check=False)
        time.sleep(3)

    cluster.restart("kubelet", meanwhile=stop_containers)
    until("restarted containers", 120, lambda: all(
        status["restartCount"] == 1 and "running" in status["state"]
        for pod in cluster.pods(QUIET) for status in pod["status"]["containerStatuses"]))


def judge(servers, inbox):
    """Compares what arrived and what ever fired with what must; returns the differences."""
    wrong, rows = [], []
    for server in servers:
        seen = inbox.seen(server.name)
        allowed = {}
        for workload in CRASHES:
            must = {"warning": 1, "critical": 1 if workload == "memory-hog" else None}
            for severity, times in must.items():
                for status in ("firing", "resolved"):
                    key = (status, "team-checkout", wanted(workload, severity))
                    allowed[key] = times
                    # A warning that a critical one hides resolves unseen, or with it; that of memory outlives the critical one
                    # (two kills more), and is then seen again.
                    most = 2 if (workload, severity) == ("memory-hog", "warning") else 1
                    if seen[key] > most or (times and not seen[key] and (severity, status) != ("warning", "resolved")):
                        wrong.append(f"{server.name}: {workload}, {severity}, {status} arrived {seen[key]} times")
                rows.append((server.name, workload, CRASHES[workload][0], severity,
                             *(seen[status, "team-checkout", wanted(workload, severity)] for status in ("firing", "resolved"))))
            note = inbox.annotations(server.name).get(CRASHES[workload][0], {})
            page, anchor = CRASHES[workload][1].split("#")
            link = f"/runbooks/{page}?namespace={CRASHING}&workload_type=deployment&workload={workload}&container=app#{anchor}"
            if not note.get("runbook_url", "").endswith(link) or workload not in note.get("summary", ""):
                wrong.append(f"{server.name}: {workload}: annotations {note}")
                continue
            with urllib.request.urlopen(note["runbook_url"], timeout=15) as answer:
                text = answer.read().decode()
            if f'id="{anchor}"' not in text or CRASHING not in text or workload not in text:
                wrong.append(f"{server.name}: {workload}: {note['runbook_url']} does not show this workload's commands")
        wrong += [f"{server.name}: arrived too: {key}" for key in seen
                  if key not in allowed and key[1] != "nobody" and not dict(key[2])["alertname"].startswith(OWN)]
        until(f"an answer of {server.name}", 60, lambda server=server: server.query("vector(1)"))
        fired = server.query(f'max_over_time({ALERTS[:-1]},alertstate="firing",severity!="info"}}[30m])')
        names = {(dict(labels)["alertname"], dict(labels).get("workload")) for labels, _ in fired}
        wrong += [f"{server.name}: fired too: {name}" for name in names - {(a, w) for w, (a, *_) in CRASHES.items()}]
    print(table(rows, ("server", "workload", "alert", "severity", "fired", "resolved")))
    return wrong


def crash(cluster, servers, inbox, exporters):
    """Crashes the workloads until their alerts have arrived everywhere; returns what was wrong."""
    cluster.apply("".join(deployment(name, "checkout", command, more) for name, (_, _, command, more) in CRASHES.items()),
                  CRASHING)
    began = time.monotonic()
    until("the alerts of all four at both Alertmanagers", 150,
          lambda: all(firing(inbox, server) == set(CRASHES) for server in servers))
    hog = "firing", "team-checkout", wanted("memory-hog", "critical")
    until("the third kill for memory is critical", 90, lambda: all(inbox.seen(server.name)[hog] for server in servers))
    say("all four alerts have arrived, that of memory as critical too; the workloads are removed")
    # Both ways scrape at times of their own.
    wrong = last_wrong(20, lambda: [found for server in servers if (found := same_series(server))])
    cluster.kubectl("-n", CRASHING, "delete", "deployment", "--all", "--wait=false")
    until("no pods", 60, lambda: not cluster.pods(CRASHING))
    # Two exporters, two scrapes of each: counted once, exactly. Then one of them restarts and knows nothing.
    if time.monotonic() - began > 150:
        raise Failed("the crashes took longer than the window of the rules: nothing can be compared")
    until("the recorded counts are the exporter's", 90, lambda: not same_counts(servers, exporters[0]), every=2)
    say("recorded counts equal the exporter's counters, with two exporters scraped twice each")
    return wrong


def run():
    """Starts everything, crashes, rolls out, compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", nargs="+", metavar="PROMETHEUS:ALERTMANAGER")
    options = parser.parse_args()
    folder, cluster, inbox = scratch("alerts"), Cluster(), Inbox()
    things = []
    try:
        for namespace in (CRASHING, QUIET):
            cluster.namespace(namespace)
        arguments = ("--namespaces", f"{CRASHING},{QUIET}", "--copy-label", "team")
        for name in ("first", "second"):
            things.append(Exporter(folder, arguments, kubeconfig=cluster.kubeconfig, name=name))
            things[-1].wait_until_ready()
        exporters = list(things)
        subprocess.run([sys.executable, PROJECT / "deploy" / "rules" / "generate", "--scale", "0.1", "--out", folder,
                        "--runbooks", f"{exporters[0].url}/runbooks"], check=True, timeout=60)
        targets = [exporter.url.removeprefix("http://") for exporter in exporters]
        for prometheus, _, alertmanager in (pair.partition(":") for pair in options.pairs):
            things.append(Server(prometheus, alertmanager, folder, targets, inbox, folder / "exitcode.rules.yml"))
        servers = things[2:]
        cluster.apply("".join(deployment(f"exits-{code}", "search", f"trap 'exit {code}' TERM; while true; do sleep 0.2; done",
                                         replicas=2, grace=10) for code in CODES), QUIET)
        for server in servers:
            until(f"scrapes of {server.name}", 60, lambda server=server: sum(v for _, v in server.query("up")) == 4)
        say(f"{', '.join(server.name for server in servers)}: scraping; workloads crash")
        wrong = crash(cluster, servers, inbox, exporters)
        exporters[1].stop()
        things.append(Exporter(folder, arguments, kubeconfig=cluster.kubeconfig, name="second-again", port=exporters[1].port))
        things[-1].wait_until_ready()
        rolled_out(cluster)
        everyday(cluster)
        # No answer at all is not "nothing".
        until("everything resolves", 330, lambda: all(
            server.query(f"count({ALERTS}) or vector(0)") == [({}, 0.0)] for server in servers), every=2)
        until("the last notifications", 90, lambda: all(
            seen["resolved", "team-checkout", wanted(workload, "critical")] >= seen["firing", "team-checkout", wanted(workload, "critical")]
            for server in servers for seen in [inbox.seen(server.name)] for workload in CRASHES))
        time.sleep(15)  # and none comes twice
        wrong += judge(servers, inbox)
    finally:
        for thing in reversed(things):
            try:
                thing.stop()
            except Failed as error:
                say(str(error))
        for namespace in (CRASHING, QUIET):
            cluster.remove_namespace(namespace)
        inbox.server.shutdown()
    for line in wrong:
        say(f"WRONG: {line}")
    say(f"FAILED; logs in {folder}" if wrong else "alerts arrive once and resolve; everyday work is quiet")
    return 1 if wrong else 0


if __name__ == "__main__":
    main(run)
