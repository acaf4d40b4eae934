#!/usr/bin/env python3
"""A workload that crashes exactly once is seen by increase() in a real Prometheus, whatever version and format.

Pods of a small API server of this test's own crash once each, spread over time. Prometheus servers scrape the exporter
every 5 s with zero_for=15s; afterwards increase() must read 1 for every pod. A second job scrapes with zero_for=0s: it must
miss crashes, which proves that the test can fail.

Usage: zero_first.py PROMETHEUS… (binaries; each is asked for its version). Exit status 1 on a difference.
"""

import argparse
import http.server
import json
import threading
import time
import urllib.parse
import urllib.request

import scraper
from cluster import main, say, scratch, table, until
from exporter import Exporter

PODS, INTERVAL, SPREAD = 20, 5, 1.1
METRIC = "exitcode_container_terminations_total"


class Api:
    """As much of the Kubernetes API as the exporter needs: pods and (no) events, listed and watched."""

    def __init__(self):
        self.changed = threading.Condition()
        self.log, self.version = [], 100
        handler = type("Handler", (Handler,), {"api": self})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def kubeconfig(self, path):
        """Writes a kubeconfig for it."""
        server = f"http://127.0.0.1:{self.server.server_address[1]}"
        path.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "t",
            "clusters": [{"name": "t", "cluster": {"server": server}}], "users": [{"name": "t", "user": {}}],
            "contexts": [{"name": "t", "context": {"cluster": "t", "user": "t"}}]}))
        return path

    def put(self, name, kind, state):
        """Adds or changes a pod."""
        with self.changed:
            self.version += 1
            self.log.append((self.version, kind, pod(name, str(self.version), state)))
            self.changed.notify_all()

    def pods(self):
        """The pods now."""
        return list({entry["metadata"]["name"]: entry for _, _, entry in self.log}.values())


def pod(name, version, state):
    """A bare pod with one container."""
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "uid": f"uid-{name}", "resourceVersion": version},
        "spec": {"nodeName": "node-1", "restartPolicy": "Never", "containers": [{"name": "app", "image": "i"}]},
        "status": {"phase": "Failed" if "terminated" in state else "Running", "containerStatuses": [{
            "name": "app", "restartCount": 0, "image": "i", "containerID": f"containerd://{name}", "state": state}]},
    }


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers lists and watches."""

    api = None

    def do_GET(self):
        path = urllib.parse.urlsplit(self.path)
        query = {key: values[0] for key, values in urllib.parse.parse_qs(path.query).items()}
        mine = path.path == "/api/v1/pods"
        if query.get("watch") in ("1", "true"):
            if query.get("sendInitialEvents") == "true":
                self.answer(400, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 400,
                                  "reason": "BadRequest", "message": "no streaming lists here"})
            else:
                self.watch(mine, int(query.get("resourceVersion") or 0))
        elif mine or path.path.endswith("/events"):
            with self.api.changed:
                items, version = (self.api.pods() if mine else []), str(self.api.version)
            kind = "PodList" if mine else "EventList"
            self.answer(200, {"kind": kind, "apiVersion": "v1", "metadata": {"resourceVersion": version}, "items": items})
        else:
            self.answer(404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404,
                              "reason": "NotFound", "message": "not found"})

    def answer(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def watch(self, mine, version):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        while True:
            with self.api.changed:
                self.api.changed.wait_for(lambda: mine and self.api.version > version, timeout=20)
                news = [entry for entry in self.api.log if entry[0] > version] if mine else []
                version = self.api.version if mine else version
            try:
                for _, kind, body in news:
                    self.wfile.write(json.dumps({"type": kind, "object": body}).encode() + b"\n")
                if not news:
                    self.wfile.write(json.dumps({"type": "BOOKMARK", "object": {
                        "apiVersion": "v1", "kind": "Pod" if mine else "Event",
                        "metadata": {"resourceVersion": str(version)}}}).encode() + b"\n")
                self.wfile.flush()
            except OSError:
                return

    def log_message(self, *_):
        pass


class Prometheus(scraper.Prometheus):
    """A Prometheus server that scrapes the exporter in several ways at once."""

    def __init__(self, binary, folder, target):
        newer = int(scraper.version(binary)[1]) >= 3
        protocols = {"default": None}
        if newer:
            protocols |= {"text": ["PrometheusText0.0.4"], "openmetrics": ["OpenMetricsText1.0.0"]}
        self.jobs = [f"{job}-{zero}" for job in protocols for zero in ("15s", "0s")]
        scrapes = []
        for job, wanted in protocols.items():
            for zero in ("15s", "0s"):
                scrape = {"job_name": f"{job}-{zero}", "params": {"zero_for": [zero]},
                          "static_configs": [{"targets": [target]}]}
                scrapes.append(scrape | ({"scrape_protocols": wanted} if wanted else {}))
        super().__init__(binary, folder, scrapes, INTERVAL)

    def up(self):
        """Whether all jobs scrape well."""
        try:
            found = self.get("/api/v1/query", query="sum(up)")["result"]
        except OSError:
            return False
        return bool(found) and float(found[0]["value"][1]) == len(self.jobs)

    def increases(self, job):
        """Rounded increase of each pod's counter as one job saw it."""
        found = self.get("/api/v1/query", query=f'round(increase({METRIC}{{job="{job}"}}[5m]))')["result"]
        return {entry["metric"]["workload"]: float(entry["value"][1]) for entry in found}

    def last(self, job):
        """How many pods' counters read 1 at the end."""
        return len(self.get("/api/v1/query", query=f'{METRIC}{{job="{job}"}} == 1')["result"])

    def format(self, job):
        """The format that a job scraped: OpenMetrics names a counter's family without _total."""
        query = {"match_target": f'{{job="{job}"}}'}
        names = {entry["metric"] for entry in self.get("/api/v1/targets/metadata", **query)}
        return "text" if METRIC in names else "openmetrics" if METRIC.removesuffix("_total") in names else "?"


def crash_once(api):
    """Every pod crashes once, at moments that meet the scrapes in all phases."""
    for number in range(PODS):
        time.sleep(SPREAD)
        api.put(f"web-{number}", "MODIFIED", {"terminated": {
            "exitCode": 1, "reason": "Error", "containerID": f"containerd://web-{number}",
            "startedAt": stamp(-20), "finishedAt": stamp(0)}})


def stamp(offset):
    """A time as Kubernetes writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + offset))


def compare(servers):
    """One row a job; the number of jobs that show something else than they must."""
    rows, wrong = [], 0
    for server in servers:
        for job in server.jobs:
            seen = server.increases(job)
            ones, format_ = sum(value == 1 for value in seen.values()), server.format(job)
            wanted_format = {"text": "text", "openmetrics": "openmetrics"}.get(job.split("-")[0], format_)
            good = ones == PODS if job.endswith("15s") else ones <= PODS // 10
            good = good and server.last(job) == PODS and format_ == wanted_format and format_ != "?"
            wrong += not good
            rows.append((server.name, job, format_, PODS, server.last(job), ones, "" if good else "WRONG"))
    print(table(rows, ("server", "job and zero_for", "format", "crashed once", "counters at 1", "increase() of 1", "")))
    return wrong


def run():
    """Starts everything, crashes the pods, compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prometheus", nargs="+", help="Prometheus binaries")
    options = parser.parse_args()
    folder, api, servers, exporter = scratch("zero-first"), Api(), [], None
    try:
        for number in range(PODS):
            api.put(f"web-{number}", "ADDED", {"running": {"startedAt": stamp(-20)}})
        exporter = Exporter(folder, kubeconfig=api.kubeconfig(folder / "kubeconfig"))
        exporter.wait_until_ready()
        target = exporter.url.removeprefix("http://")
        servers = [Prometheus(binary, folder, target) for binary in options.prometheus]
        for server in servers:
            until(f"scrapes of {server.name}", 60, server.up)
        say(f"{PODS} pods crash once each, over {PODS * SPREAD:.0f} s")
        crash_once(api)
        time.sleep(15 + 3 * INTERVAL)  # zero_for, then two scrapes of the true value
        wrong = compare(servers)
    finally:
        for thing in (*servers, exporter):
            if thing is not None:
                thing.stop()
        api.server.shutdown()
    say(f"FAILED: {wrong} jobs; logs in {folder}" if wrong else "every first crash is seen by increase()")
    return 1 if wrong else 0


if __name__ == "__main__":
    main(run)
