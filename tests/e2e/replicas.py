#!/usr/bin/env python3
"""The shipped recording rules show the truth with one exporter, with two, and while the two restart one after the other.

Containers of a small API server of this test's own crash in bursts, so the truth is known to the second. Eight exporters watch
it, in groups that a Prometheus tells apart by the label `cluster`:

  one      one exporter that never restarts
  two      two that never restart
  rolling  two that restart one after the other, the second when the first was scraped for longer than the longest window,
           each with crashes while it is down: what minReadySeconds is for
  hasty    two that restart within one window: may show less for the rest of it, never more
  alone    one that restarts, with crashes while it is down: must show less, or this test could not see a loss

At every second that no crash is near to, nor to the edge of a window, and no late scrape or evaluation, each recorded rule of
one, two and rolling must equal the truth, for every workload. No group may ever show more. Windows are 0.03 of the shipped ones.

Usage: replicas.py PROMETHEUS. Takes two and a half minutes. Exit status 1 on a difference.
"""

import argparse
import contextlib
import json
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import zero_first
from cluster import PROJECT, Failed, end_process, main, say, scratch, table, until
from exporter import Exporter, free_port

SCALE = 0.03
# An end is in Prometheus after a scrape and an evaluation; in a series that is new to an exporter, when it has read 0 for 3 s.
SOON, LATE = 3.5, 6.5
LONGEST = 30 * 60 * SCALE
# How often each workload's container ends in a burst, and how.
WORKLOADS = {"web-0": (1, 1, "Error"), "api-0": (2, 2, "Error"), "cache-0": (3, 137, "OOMKilled")}
GROUPS = {"one": 1, "two": 2, "rolling": 2, "hasty": 2, "alone": 1}
EXACT = ("one", "two", "rolling")
# The recorded rules: windows, and whether they are by workload.
RULES = {
    "namespace_workload_container:exitcode_terminations:count30m": (30, True),
    "namespace_workload:exitcode_unexpected_terminations:count10m": (10, True),
    "node:exitcode_unexpected_terminations:count10m": (10, False),
    "namespace:exitcode_terminations:count5m": (5, False),
    "namespace:exitcode_restarts:count5m": (5, False),
}


class Api(zero_first.Api):
    """Pods whose containers can end and start again."""

    def __init__(self):
        super().__init__()
        self.restarts = dict.fromkeys(WORKLOADS, 0)
        self.crashes = []
        for name in WORKLOADS:
            self.show(name, "ADDED")

    def show(self, name, kind="MODIFIED"):
        """The pod as the kubelet would write it now."""
        count, (_, code, reason) = self.restarts[name], WORKLOADS[name]
        status = {"name": "app", "restartCount": count, "image": "i", "containerID": f"containerd://{name}-{count}",
                  "state": {"running": {"startedAt": now()}}}
        if count:
            status["lastState"] = {"terminated": {"exitCode": code, "reason": reason, "startedAt": now(), "finishedAt": now(),
                                                  "containerID": f"containerd://{name}-{count - 1}"}}
        with self.changed:
            self.version += 1
            self.log.append((self.version, kind, {
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name, "namespace": "shop", "uid": f"uid-{name}", "resourceVersion": str(self.version)},
                "spec": {"nodeName": "node-1", "restartPolicy": "Always", "containers": [{"name": "app", "image": "i"}]},
                "status": {"phase": "Running", "containerStatuses": [status]}}))
            self.changed.notify_all()

    def burst(self):
        """Every workload's container ends, as often as it does."""
        at = time.time()
        for name, (times, _, _) in WORKLOADS.items():
            for _ in range(times):
                self.restarts[name] += 1
                self.show(name)
                self.crashes.append((at, name))


def now():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class Groups:
    """The exporters of each group, and the file by which Prometheus finds them."""

    def __init__(self, folder, kubeconfig):
        self.folder, self.kubeconfig, self.started = folder, kubeconfig, 0
        self.targets = folder / "targets.json"
        self.members = {(group, n): None for group, size in GROUPS.items() for n in range(size)}

    def start_all(self):
        """Starts every exporter."""
        for member in self.members:
            self.start(*member)

    def start(self, group, n):
        """A new exporter with a new address, as a new pod has; found when it is ready."""
        self.started += 1
        self.members[group, n] = Exporter(self.folder, kubeconfig=self.kubeconfig, name=f"{group}-{n}-{self.started}", level="info")
        self.members[group, n].wait_until_ready()
        self.announce()

    def end(self, group, n):
        """Ends an exporter; it is found no more."""
        exporter, self.members[group, n] = self.members[group, n], None
        self.announce()
        exporter.stop()

    def announce(self):
        """What discovery would show now."""
        meta = {"__meta_kubernetes_service_name": "exitcode-exporter", "__meta_kubernetes_endpoint_port_name": "metrics",
                "__meta_kubernetes_namespace": "monitoring"}
        found = [{"targets": [f"127.0.0.1:{exporter.port}"], "labels": {**meta, "cluster": group, "pod": f"{group}-{n}"}}
                 for (group, n), exporter in self.members.items() if exporter]
        new = self.targets.with_suffix(".new")
        new.write_text(json.dumps(found))
        new.rename(self.targets)

    def stop(self):
        """Ends all of them."""
        for exporter in self.members.values():
            if exporter:
                exporter.stop()


class Prometheus:
    """A Prometheus with the shipped scrape configuration and rules, a scrape a second."""

    def __init__(self, binary, folder, targets):
        subprocess.run([sys.executable, PROJECT / "deploy" / "rules" / "generate", "--scale", str(SCALE), "--out", folder],
                       check=True, timeout=60)
        text = (PROJECT / "deploy" / "prometheus" / "scrape.yaml").read_text()
        text, found = re.subn(r"kubernetes_sd_configs: .*", f"file_sd_configs: [{{files: ['{targets}'], refresh_interval: 1s}}]", text)
        if found != 1:
            raise Failed("scrape.yaml has no line kubernetes_sd_configs")
        text = text.replace("scrape_interval: 30s", "scrape_interval: 1s").replace("65s", "3s")
        (folder / "prometheus.yml").write_text(
            f"global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{folder}/exitcode.rules.yml']\n{text}")
        self.url = f"http://127.0.0.1:{free_port()}"
        with open(folder / "prometheus.log", "wb") as log:
            self.process = subprocess.Popen(
                [binary, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
                 f"--web.listen-address={self.url.removeprefix('http://')}"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def get(self, path, **query):
        """The result of an API answer."""
        if self.process.poll() is not None:
            raise Failed(f"Prometheus ended with {self.process.returncode}")
        with urllib.request.urlopen(f"{self.url}{path}?{urllib.parse.urlencode(query)}", timeout=20) as answer:
            return json.load(answer)["data"]["result"]

    def up(self):
        """How many targets are scraped well."""
        with contextlib.suppress(OSError):
            found = self.get("/api/v1/query", query="sum(up)")
            return float(found[0]["value"][1]) if found else 0
        return 0

    def history(self, rule, by_workload, begin, end):
        """What a rule showed at whole seconds: {(group, workload or ""): {second: value}}."""
        by = "cluster, workload" if by_workload else "cluster"
        found = self.get("/api/v1/query_range", query=f"sum by ({by}) ({rule})", start=begin, end=end, step=1)
        return {(entry["metric"]["cluster"], entry["metric"].get("workload", "")):
                {int(at): float(value) for at, value in entry["values"]} for entry in found}

    def late(self, begin, end):
        """Seconds at which the newest scrape of an exporter, or the newest evaluation, was older than it should be."""
        return {int(at) for metric in ("up", "namespace:exitcode_terminations:count5m")
                for entry in self.get("/api/v1/query_range", query=f"time() - min(timestamp({metric}))", start=begin, end=end, step=1)
                for at, age in entry["values"] if float(age) > 1.1}

    def stop(self):
        """Ends it."""
        end_process(self.process)


def story(api, groups):
    """What happens, in about two minutes."""
    api.burst()
    time.sleep(8)
    for group in ("rolling", "hasty", "alone"):
        groups.end(group, 0)
    time.sleep(2)
    api.burst()
    time.sleep(2)
    for group in ("rolling", "hasty", "alone"):
        groups.start(group, 0)
    first_is_back = time.time()
    say("the first of rolling and hasty, and the one that is alone, have restarted while containers crashed")
    time.sleep(8)
    api.burst()
    time.sleep(5)
    groups.end("hasty", 1)
    time.sleep(1)
    groups.start("hasty", 1)
    time.sleep(4)
    api.burst()
    say("the second of hasty has restarted within a window")
    time.sleep(max(0.0, first_is_back + LONGEST + 2 * LATE - time.time()))
    groups.end("rolling", 1)
    time.sleep(2)
    api.burst()
    time.sleep(2)
    groups.start("rolling", 1)
    say("the second of rolling has restarted, a window later, while containers crashed")
    time.sleep(8)
    api.burst()
    time.sleep(10)


def truth(crashes, workload, begin, end):
    """How many ends there were of a workload (or of all) after `begin` and until `end`."""
    return sum(1 for at, name in crashes if begin < at <= end and workload in ("", name))


def compare(api, server, begin, end):
    """Every recorded rule at every second; returns the rows of a table."""
    rows, late = [], server.late(begin - int(LONGEST) - 10, end)
    for rule, (minutes, by_workload) in RULES.items():
        window = minutes * 60 * SCALE
        history = server.history(rule, by_workload, begin, end)
        for group in GROUPS:
            checked, less = 0, 0
            for workload in WORKLOADS if by_workload else [""]:
                values = history.get((group, workload), {})
                for second in range(begin, end):
                    value = values.get(second, 0.0)
                    most = truth(api.crashes, workload, second - window - LATE, second)
                    if value > most:
                        raise Failed(f"{group}: {rule} of {workload or 'all'} shows {value}, and at most {most} ended")
                    if any(-1 < second - at < SOON or -1 < second - window - at < LATE for at, _ in api.crashes):
                        continue
                    if any(second - int(edge) - ago in late for edge in (0, window) for ago in range(8)):
                        continue
                    wanted = truth(api.crashes, workload, second - window, second)
                    checked, less = checked + 1, less + (value < wanted)
                    if group in EXACT and value != wanted:
                        raise Failed(f"{group}: {rule} of {workload or 'all'} shows {value}, {wanted} ended within {window:.0f} s "
                                     f"({second - begin:.0f} s after the beginning)")
            if checked < (end - begin) // 8:
                raise Failed(f"{rule}: only {checked} seconds could be compared; Prometheus was late at {len(late)}")
            rows.append((rule, group, checked, checked - less, less))
    return rows


def run():
    """Runs the story and compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prometheus")
    binary, folder = parser.parse_args().prometheus, scratch("replicas")
    api = Api()
    groups = server = None
    try:
        groups = Groups(folder, api.kubeconfig(folder / "kubeconfig"))
        groups.start_all()
        server = Prometheus(binary, folder, groups.targets)
        until("a scrape of every exporter", 60, lambda: server.up() == sum(GROUPS.values()))
        begin = time.time()
        say(f"{sum(GROUPS.values())} exporters are scraped")
        story(api, groups)
        # The first ends are new to every exporter. Whole seconds: what is asked for half past would be compared with the second before.
        rows = compare(api, server, int(begin + LATE) + 1, int(time.time()) - 1)
    finally:
        for thing in (server, groups):
            if thing is not None:
                thing.stop()
    say("seconds at which each rule was compared with the truth\n" + table(rows, ["rule", "exporters", "compared", "equal", "less"]))
    longest = {group: less for rule, group, _, _, less in rows if rule.endswith("exitcode_terminations:count30m")}
    if not longest["alone"] or not longest["hasty"]:
        raise Failed(f"a loss of one exporter, or of two within a window, was not seen: {longest}")
    say(f"{len(api.crashes)} ends: the same with one, with two, and while two restart a window apart; never too many")
    return 0


if __name__ == "__main__":
    main(run)
