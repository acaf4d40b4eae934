"""The dashboards as Grafana reads them: their queries with the variables filled in, and a Prometheus to ask.

Shared by the test of every query (panels.py) and by what draws the pictures (pictures.py).
"""

import http.server
import json
import pathlib
import re
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

from cluster import PROJECT, Failed, end_process, until
from exporter import Exporter, free_port

DASHBOARDS = PROJECT / "dashboards"
RULES = PROJECT / "deploy" / "rules" / "exitcode.rules.yml"
INTERVAL = 5  # seconds between scrapes and between evaluations of the rules

# What somebody chose in the dashboards' variables. In the demo, the one workload meets its memory limit, and the other's
# pods are evicted: together they have something in each panel.
WORKLOADS = ("index", "disk-eater")
CHOSEN = {
    "cluster": ".*", "namespace": ".*", "instance": ".*", "workload_type": ".*",
    "__rate_interval": "1m", "__interval": "15s", "__range": "15m",
}


def dashboards():
    """Every dashboard by its file's name."""
    return {path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(DASHBOARDS.glob("*.json"))}


def filled(text, dashboard, workload):
    """A query with the variables replaced by what was chosen."""
    chosen = {**CHOSEN, "workload": workload}
    for variable in dashboard["templating"]["list"]:
        if variable["name"] == "namespace" and not variable["includeAll"]:
            chosen["namespace"] = "search"

    def value(match):
        name = match[1] or match[2]
        if name.isdigit():  # a group of label_replace()
            return match[0]
        if name not in chosen:
            raise Failed(f"{dashboard['title']}: no value for the variable {name}")
        return chosen[name]
    return re.sub(r"\$(?:\{(\w+)(?::\w+)?\}|(\w+))", value, text)


def queries(dashboard, workload=WORKLOADS[0]):
    """What the dashboard asks Prometheus: (where, kind, query), kind one of instant, range, values."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            kind = "instant" if target.get("instant") else "range"
            yield f"{panel['title']} ({target['refId']})", kind, filled(target["expr"], dashboard, workload)
    for annotation in dashboard["annotations"]["list"]:
        if "expr" in annotation:
            yield f"annotation {annotation['name']}", "range", filled(annotation["expr"], dashboard, workload)
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield f"variable {variable['name']}", "values", filled(variable["query"]["query"], dashboard, workload)


class Prometheus:
    """A Prometheus server that scrapes targets and evaluates the shipped rules."""

    def __init__(self, binary, folder, jobs, rules):
        version = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=20, check=True)
        self.name = "Prometheus " + re.search(r"version (\d+\.\d+)", version.stdout + version.stderr)[1]
        self.port = free_port()
        self.jobs = jobs
        data = folder / self.name.replace(" ", "-")
        data.mkdir()
        config = {
            # The demo's cluster has no name; the label is what people with several clusters set.
            "global": {"scrape_interval": f"{INTERVAL}s", "evaluation_interval": f"{INTERVAL}s"},
            "rule_files": [str(rules)],
            "scrape_configs": [{
                "job_name": name, "honor_labels": True, "params": {"zero_for": [f"{2 * INTERVAL + 5}s"]},
                "static_configs": [{"targets": [target], "labels": {"cluster": "demo"}}],
            } for name, target in jobs.items()],
        }
        (data / "prometheus.yml").write_text(json.dumps(config))
        with open(data / "log", "wb") as log:
            self.process = subprocess.Popen(
                [binary, f"--config.file={data}/prometheus.yml", f"--storage.tsdb.path={data}/tsdb",
                 f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

    def get(self, path, **query):
        """The data of an API answer."""
        url = f"http://127.0.0.1:{self.port}{path}?" + urllib.parse.urlencode(query)
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise Failed(f"{self.name}: {error.read().decode(errors='replace')}: {query}") from None

    def up(self):
        """Whether all jobs scrape well."""
        if self.process.poll() is not None:
            raise Failed(f"{self.name} ended with {self.process.returncode}")
        try:
            found = self.get("/api/v1/query", query="sum(up)")["result"]
        except (OSError, Failed):
            return False
        return bool(found) and float(found[0]["value"][1]) == len(self.jobs)

    def ask(self, kind, query, seconds=900, step=15, at=None):
        """What Grafana would get: a list of series, or of a variable's values."""
        now = at or time.time()
        if kind == "values":
            what, label = re.fullmatch(r"label_values\((.*), (\w+)\)", query).groups()
            return self.get(f"/api/v1/label/{label}/values", start=now - seconds, end=now, **{"match[]": what})
        if kind == "instant":
            return self.get("/api/v1/query", query=query, time=now)["result"]
        end = now // step * step
        return self.get("/api/v1/query_range", query=query, start=end - seconds, end=end, step=step)["result"]

    def stop(self):
        """Ends it."""
        end_process(self.process)


class Neighbours:
    """Stands in for cAdvisor, the kubelet's probes, node-exporter and kube-state-metrics: made-up, round values for a few
    of the demo's pods, so that the queries beside ours have something to find. They measure nothing."""

    def __init__(self):
        self.began = time.time()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                text = outer.text().encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.target = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def text(self):
        """The metrics now."""
        age = time.time() - self.began
        climb = 20 + int(age) % 40  # MiB: climbs to the limit of 64 and falls
        lines = []
        for namespace, pod, used in (("search", "index-0", climb), ("search", "child-oom-5d4f8c7b9-abcde", climb / 2), ("shop", "checkout-6b7c8d9f5-vwxyz", 30)):
            where = f'namespace="{namespace}",pod="{pod}",container="app"'
            lines += [
                f"container_memory_working_set_bytes{{{where}}} {used * 2 ** 20}",
                f"container_spec_memory_limit_bytes{{{where}}} {64 * 2 ** 20}",
                f"container_cpu_usage_seconds_total{{{where}}} {age * 0.2}",
                f"container_cpu_cfs_periods_total{{{where}}} {int(age * 10)}",
                f"container_cpu_cfs_throttled_periods_total{{{where}}} {int(age * 2)}",
                f"container_oom_events_total{{{where}}} {int(age / 10)}",
            ]
        lines += [
            f'prober_probe_total{{probe_type="Liveness",result="failed",namespace="infra",pod="gateway-7c9d-x",container="app"}} {int(age / 4)}',
            "node_memory_MemTotal_bytes 8000000000",
            "node_memory_MemAvailable_bytes 1000000000",
            f"node_vmstat_oom_kill {int(age / 10)}",
            f'kube_replicaset_created{{namespace="search",replicaset="index-5d4f8c7b9"}} {int(self.began)}',
        ]
        return "\n".join(lines) + "\n"

    def stop(self):
        """Ends it."""
        self.server.shutdown()


class Stage:
    """The demo, what stands in for its neighbours, and Prometheus servers that scrape both."""

    def __init__(self, folder, binaries, rules=RULES):
        self.things = []
        try:
            self.exporter = self.add(Exporter(folder, ["demo"]))
            self.exporter.wait_until_ready()
            neighbours = self.add(Neighbours())
            jobs = {"exitcode-exporter": self.exporter.url.removeprefix("http://"), "neighbours": neighbours.target}
            self.servers = [self.add(Prometheus(binary, folder, jobs, pathlib.Path(rules).resolve())) for binary in binaries]
            for server in self.servers:
                until(f"scrapes of {server.name}", 60, server.up)
        except BaseException:
            self.stop()
            raise

    def add(self, thing):
        """Remembers what must be ended."""
        self.things.append(thing)
        return thing

    def stop(self):
        """Ends everything."""
        for thing in reversed(self.things):
            thing.stop()
