"""The exporter under test as a process of its own, and its metrics as Python values."""

import collections
import json
import os
import pathlib
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request

from cluster import PROJECT, Failed, until

LINE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)')
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')


def binary():
    """The exporter's binary: EXITCODE_EXPORTER, else the release build of this project."""
    path = pathlib.Path(os.environ.get("EXITCODE_EXPORTER", PROJECT / "target" / "release" / "exitcode-exporter"))
    if not path.exists():
        raise Failed(f"no exporter at {path}: build it or set EXITCODE_EXPORTER")
    return str(path)


def free_port():
    """A port that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def parse(text):
    """Samples of the text format: {name: [(labels, value)]}."""
    found = collections.defaultdict(list)
    for line in text.splitlines():
        match = LINE.match(line) if not line.startswith("#") else None
        if match:
            found[match[1]].append((dict(LABEL.findall(match[2] or "")), float(match[3])))
    return found


def refused(metrics):
    """Which watches the API server refused for want of a right: [(labels, times)]."""
    return [(labels, times) for labels, times in metrics["exitcode_exporter_watch_failures_total"]
            if times and labels["reason"] in ("forbidden", "unauthorized")]


class Exporter:
    """Runs the exporter with a port of its own or the one given; its log goes to a file, one JSON object a line.

    With a build of the feature `fault-points`, `fault` (NAME:N) is where it ends itself; `through` is a
    command that runs it."""

    def __init__(self, folder, arguments=(), kubeconfig=None, name="exporter", level="debug", port=None, fault=None,
                 through=()):
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / f"{name}.log"
        environment = {key: value for key, value in os.environ.items() if not key.startswith("EXITCODE_")}
        if kubeconfig:
            environment["KUBECONFIG"] = str(kubeconfig)
        if fault:
            environment["EXITCODE_FAULT_POINT"] = fault
        command = [*through, binary(), *arguments]
        if "demo" not in arguments:
            command += ["--log-format", "json", "--log-level", level]
        command += ["--listen-address", f"127.0.0.1:{self.port}"]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

    def fetch(self, path, headers=None):
        """Status, headers and text of a request."""
        if self.process.poll() is not None:
            raise Failed(f"the exporter ended with {self.process.returncode}; see {self.log}")
        request = urllib.request.Request(self.url + path, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=15) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read().decode()
        except OSError:
            return 0, {}, ""

    def wait_until_ready(self, seconds=30):
        """Waits until the first list is in."""
        until("/readyz of the exporter", seconds, lambda: self.fetch("/readyz")[0] == 200, every=0.2)

    def metrics(self):
        """All samples now."""
        status, _, text = self.fetch("/metrics")
        if status != 200:
            raise Failed(f"/metrics answered {status}")
        return parse(text)

    def sum(self, name, **labels):
        """Sum of a metric's samples that carry these labels."""
        return sum(value for have, value in self.metrics()[name] if labels.items() <= have.items())

    def group(self, name, labels, namespaces):
        """Sums of a counter by the named labels, for these namespaces."""
        found = collections.Counter()
        for have, value in self.metrics()[name]:
            if have.get("namespace") in namespaces:
                found[tuple(have.get(label, "") for label in labels)] += int(value)
        return found

    def settle(self, namespaces, quiet=6, seconds=60):
        """Waits until the counters of these namespaces stood still for `quiet` seconds, longer than anything is pending."""
        last = {"counts": None, "since": time.monotonic()}

        def still():
            metrics = self.metrics()
            now = sorted(str(sample) for name in ("exitcode_container_terminations_total", "exitcode_container_restarts_total")
                         for sample in metrics[name] if sample[0].get("namespace") in namespaces)
            if now != last["counts"]:
                last.update(counts=now, since=time.monotonic())
            return time.monotonic() - last["since"] >= quiet

        until("still counters", seconds, still, every=1)

    def terminations(self):
        """What it logged for each termination, in order."""
        found = []
        for line in self.log.read_text(errors="replace").splitlines():
            if '"termination"' not in line:
                continue
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if entry.get("target") == "termination":
                found.append({**entry, **entry.get("fields", {})})
        return found

    def stop(self):
        """Ends it as a service manager would; it must end with 0 within 5 s."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(6)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
            raise Failed("the exporter did not end within 5 s of SIGTERM") from None
