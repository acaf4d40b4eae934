"""Prometheus and Alertmanager as the alerts' test runs them: with the shipped configuration, and a receiver that remembers."""

import collections
import http.server
import json
import re
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request

from cluster import PROJECT, Failed, end_process
from exporter import free_port

SECONDS = 3


class Inbox:
    """The receiver of all notifications, by Alertmanager and receiver: (seconds, status, alerts)."""

    def __init__(self):
        self.lock, self.notes = threading.Lock(), []
        inbox = self

        class Handler(http.server.BaseHTTPRequestHandler):
            """Takes a webhook."""

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                _, server, receiver = self.path.split("/")
                with inbox.lock:
                    inbox.notes.append((server, receiver, body["alerts"]))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def seen(self, server):
        """How often each alert arrived there: {(status, receiver, labels as a sorted tuple): times}."""
        with self.lock:
            return collections.Counter(
                (alert["status"], receiver, tuple(sorted(alert["labels"].items())))
                for name, receiver, alerts in self.notes if name == server for alert in alerts)

    def annotations(self, server):
        """The annotations that came with each alert name first."""
        with self.lock:
            return {alert["labels"]["alertname"]: alert["annotations"]
                    for name, _, alerts in reversed(self.notes) if name == server for alert in reversed(alerts)}


def job(file, name, targets):
    """The job of a shipped scrape configuration, with our targets as the discovery would show them, every three seconds."""
    text = (PROJECT / "deploy" / "prometheus" / file).read_text().split("scrape_configs:\n", 1)[1]
    found = {"__meta_kubernetes_service_name": "exitcode-exporter", "__meta_kubernetes_endpoint_port_name": "metrics",
             "__meta_kubernetes_namespace": "monitoring", "container": "exporter", "service": "exitcode-exporter",
             "endpoint": "metrics"}
    groups = [{"targets": [target], "labels": {**found, "pod": f"exporter-{n}"}} for n, target in enumerate(targets)]
    text, times = re.subn(r"kubernetes_sd_configs: .*", lambda _: f"static_configs: {json.dumps(groups)}", text)
    if times != 1:
        raise Failed(f"{file} has no line kubernetes_sd_configs")
    return (text.replace("job_name: exitcode-exporter", f"job_name: {name}")
            .replace("scrape_interval: 30s", f"scrape_interval: {SECONDS}s").replace("65s", f"{2 * SECONDS + 5}s"))


class Server:
    """A Prometheus with its Alertmanager."""

    def __init__(self, prometheus, alertmanager, folder, targets, inbox, rules):
        version = subprocess.run([prometheus, "--version"], capture_output=True, text=True, timeout=30, check=True)
        self.name = "prometheus-" + re.search(r"version (\d+\.\d+)", version.stdout + version.stderr)[1]
        self.place = folder / self.name
        self.place.mkdir()
        self.url, sender = f"http://127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        routes = (PROJECT / "deploy" / "alertmanager" / "alertmanager.yaml").read_text()
        routes = routes.replace("http://127.0.0.1:9/", f"{inbox.url}/{self.name}/")
        routes = routes.replace("group_wait: 30s", "group_wait: 1s").replace("group_interval: 5m", "group_interval: 5s")
        for receiver in ("default", "nobody"):
            routes = routes.replace(f"- name: {receiver}\n", f"- name: {receiver}\n    webhook_configs: "
                                    f"[{{url: \"{inbox.url}/{self.name}/{receiver}\"}}]\n")
        (self.place / "alertmanager.yml").write_text(routes)
        config = (f"global: {{scrape_interval: {SECONDS}s, scrape_timeout: {SECONDS}s, evaluation_interval: {SECONDS}s}}\n"
                  f"rule_files: ['{rules}']\n"
                  f"alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{sender}']}}]}}]}}\nscrape_configs:\n"
                  + job("scrape.yaml", "shipped", targets) + job("scrape-override.yaml", "override", targets))
        (self.place / "prometheus.yml").write_text(config)
        self.processes = [
            self.run("alertmanager", alertmanager, f"--config.file={self.place / 'alertmanager.yml'}",
                     f"--storage.path={self.place / 'alertmanager'}", f"--web.listen-address={sender}",
                     "--cluster.listen-address="),
            self.run("prometheus", prometheus, f"--config.file={self.place / 'prometheus.yml'}",
                     f"--storage.tsdb.path={self.place / 'data'}",
                     f"--web.listen-address={self.url.removeprefix('http://')}"),
        ]

    def run(self, name, *command):
        """Starts a process with its log in a file."""
        with open(self.place / f"{name}.log", "wb") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def query(self, text):
        """The samples of an instant query: [(labels, value)]."""
        if any(process.poll() is not None for process in self.processes):
            raise Failed(f"{self.name} or its Alertmanager ended; logs in {self.place}")
        try:
            query = urllib.parse.urlencode({"query": text})
            with urllib.request.urlopen(f"{self.url}/api/v1/query?{query}", timeout=20) as answer:
                found = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise Failed(f"{self.name}: {text}: {error.read().decode()}") from None
        except OSError:
            return []
        return [({k: v for k, v in entry["metric"].items() if k != "__name__"}, float(entry["value"][1])) for entry in found]

    def stop(self):
        """Ends both."""
        for process in reversed(self.processes):
            end_process(process)
