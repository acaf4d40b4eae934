"""Every answer of /metrics while the exporter is killed and starts again: no counter of a cluster's containers may ever be
lower than before, and none that was shown may be missing. An answer that is not 200, or not whole, is none.
"""

import http.client
import threading

COUNTERS = tuple(f"exitcode_{name}_total{{" for name in (
    "container_terminations", "container_restarts", "pod_failures", "node_terminations"))
# Prometheus says how long it waits: to it a young series shows where it began. Anyone else sees the counts.
HEADERS = {"plain": {}, "prometheus": {"X-Prometheus-Scrape-Timeout-Seconds": "10"}}


def get(port, path, headers=None):
    """Status and text; status 0 where there is no whole answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()


class Reader:
    """What one kind of reader saw, and where it went back."""

    def __init__(self, kind):
        self.kind, self.lines, self.values = kind, frozenset(), {}
        self.wrong = []

    def take(self, text):
        """Compares an answer with all before it."""
        lines = frozenset(line for line in text.splitlines() if line.startswith(COUNTERS))
        new = dict(line.rsplit(" ", 1) for line in lines - self.lines)
        for key, value in new.items():
            if float(value) < float(self.values.get(key, 0)):
                self.wrong.append(f"{self.kind}: {key} was {self.values[key]} and is {value}")
        for line in self.lines - lines:
            key = line.rsplit(" ", 1)[0]
            if key not in new:
                self.wrong.append(f"{self.kind}: {key} was {self.values[key]} and is missing")
        self.lines = lines
        # The highest ever: what went back once must not pass later for a rise.
        for key, value in new.items():
            self.values[key] = max(value, self.values.get(key, value), key=float)


class Answers(threading.Thread):
    """Asks for /metrics all the time, once in each way, from a port whose exporter comes and goes."""

    def __init__(self, port, every=0.05):
        super().__init__(daemon=True, name="answers")
        self.port, self.every = port, every
        self.readers = [Reader(kind) for kind in HEADERS]
        self.seen, self.refused, self.none = 0, 0, 0
        self.done = threading.Event()

    def run(self):
        while not self.done.is_set():
            for reader in self.readers:
                self.ask(reader)
                self.done.wait(self.every)

    def ask(self, reader):
        """One request."""
        status, text = get(self.port, "/metrics", HEADERS[reader.kind])
        if status != 200:
            self.refused += status != 0
            self.none += status == 0
            return
        self.seen += 1
        reader.take(text)

    def wrong(self):
        """What went back, in words."""
        return [line for reader in self.readers for line in reader.wrong]

    def stop(self):
        """Ends it."""
        self.done.set()
        if self.is_alive():
            self.join(20)
