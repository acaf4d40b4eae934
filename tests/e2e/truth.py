"""What containerd itself says about the containers of a namespace: the truth that the counters are compared with.

Two sources, both containerd's own, neither of them Kubernetes:
- its event stream (`ctr events`): /containers/create, /tasks/exit;
- the status that its CRI plugin keeps in a file per container: it knows what could not start (StartError, 128),
  what ended while containerd itself was down, and what it lost (255, Unknown).
Labels tell pod and container; labels of the pod's sandbox tell the workload (`exitcode.test/workload: TYPE.NAME`).
"""

import base64
import collections
import contextlib
import json
import subprocess
import threading
import time

from cluster import seconds

WORKLOAD_LABEL = "exitcode.test/workload"


class Attempt:
    """One container that containerd created: one attempt to run a container of a pod."""

    def __init__(self, container_id, info):
        labels = info["Labels"]
        self.id = container_id
        self.namespace = labels["io.kubernetes.pod.namespace"]
        self.pod = labels["io.kubernetes.pod.name"]
        self.uid = labels["io.kubernetes.pod.uid"]
        self.container = labels["io.kubernetes.container.name"]
        self.number = attempt_number(info)
        self.started = False
        self.task_exit = None
        self.exited_at = None
        self.status = None
        self.deleted = False

    @property
    def end(self):
        """(exit code, reason) of its end, or None while it runs; the CRI status has the last word."""
        if self.status is not None:
            return self.status["ExitCode"], self.status.get("Reason", "")
        if self.task_exit is not None:
            return self.task_exit, ""
        return None

    @property
    def finished_at(self):
        """When it ended, in seconds."""
        if self.status is not None:
            return self.status["FinishedAt"] / 1e9
        return self.exited_at


def attempt_number(info):
    """The kubelet's attempt number (its restartCount) from the CRI plugin's metadata."""
    for name, value in info.get("Extensions", {}).items():
        if name.endswith("container.metadata"):
            return json.loads(base64.b64decode(value["value"]))["Metadata"]["Config"]["metadata"].get("attempt", 0)
    return None


class Truth:
    """Follows containerd from the moment it is made; survives its restarts."""

    def __init__(self, cluster, namespaces):
        self.cluster, self.namespaces = cluster, set(namespaces)
        self.attempts, self.workloads, self.lock = {}, {}, threading.Lock()
        # What earlier runs left behind is none of this run's business.
        self.known, self.early = set((cluster.ctr("containers", "ls", "-q") or "").split()), {}
        self.statuses = None
        self.done = threading.Event()
        self.connected = threading.Event()
        self.process = None
        self.threads = [
            threading.Thread(target=self.follow, daemon=True), threading.Thread(target=self.poll, daemon=True)]
        for thread in self.threads:
            thread.start()

    def follow(self):
        while not self.done.is_set():
            self.process = subprocess.Popen(
                self.cluster.ctr_command("events"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            self.connected.set()
            for line in self.process.stdout:
                before, brace, rest = line.partition("{")
                topic = before.split()[-1] if brace else ""
                if topic in ("/containers/create", "/tasks/start", "/tasks/exit", "/containers/delete"):
                    # A line that containerd's end cut is followed by what the poll finds.
                    with contextlib.suppress(ValueError, subprocess.SubprocessError):
                        self.take(topic, json.loads(brace + rest))
            self.process.wait()
            self.done.wait(0.1)

    def take(self, topic, event):
        container_id = event.get("container_id") or event["id"]
        if topic == "/containers/create":
            self.meet(container_id)
            return
        # An exec's exit (a probe, a hook) carries another id than its container's.
        if topic == "/tasks/exit" and event["id"] != container_id:
            return
        with self.lock:
            attempt = self.attempts.get(container_id)
            if attempt is None:
                if topic == "/tasks/exit":
                    self.early[container_id] = event
                return
            if topic == "/tasks/start":
                attempt.started = True
            elif topic == "/tasks/exit":
                note_exit(attempt, event)
            else:
                attempt.deleted = True

    def meet(self, container_id):
        """Reads a container's labels while it exists."""
        if container_id in self.known:
            return
        raw = self.cluster.ctr("containers", "info", container_id, check=False)
        if raw is None:
            return
        self.known.add(container_id)
        info = json.loads(raw)
        labels = info.get("Labels", {})
        if labels.get("io.kubernetes.pod.namespace") not in self.namespaces:
            return
        with self.lock:
            if labels.get("io.cri-containerd.kind") == "sandbox":
                self.workloads[labels["io.kubernetes.pod.uid"]] = labels.get(WORKLOAD_LABEL)
                return
            attempt = Attempt(container_id, info)
            if container_id in self.early:
                note_exit(attempt, self.early.pop(container_id))
            self.attempts.setdefault(container_id, attempt)

    def poll(self):
        root = self.cluster.dir / "containerd" / "root" / "io.containerd.grpc.v1.cri" / "containers"
        slow = 0.0
        while not self.done.wait(0.2):
            if not root.is_dir():
                continue
            for path in root.iterdir():
                self.read_status(path)
            # Containers that were created while `ctr events` was not connected.
            if time.monotonic() - slow > 5:
                slow = time.monotonic()
                with contextlib.suppress(ValueError, subprocess.SubprocessError):
                    for container_id in (self.cluster.ctr("containers", "ls", "-q", check=False) or "").split():
                        self.meet(container_id)

    def read_status(self, path):
        with self.lock:
            attempt = self.attempts.get(path.name)
            if attempt is None:
                return
        try:
            status = json.loads((path / "status").read_text())
        except (OSError, ValueError):
            return
        if status.get("FinishedAt"):
            with self.lock:
                attempt.status = status
        elif status.get("StartedAt"):
            attempt.started = True

    def workload(self, attempt):
        """(type, name) of the attempt's workload, by the label of its pod's sandbox."""
        kind, _, name = (self.workloads.get(attempt.uid) or "unlabelled.?").partition(".")
        return kind, name

    def all(self):
        """Every attempt, oldest first."""
        with self.lock:
            return list(self.attempts.values())

    def ended(self):
        """Every attempt that ended."""
        return [attempt for attempt in self.all() if attempt.end is not None]

    def counts(self, leave_out=frozenset()):
        """Ends by (namespace, workload type, workload, container, exit code)."""
        found = collections.Counter()
        for attempt in self.ended():
            if attempt.id not in leave_out:
                found[(attempt.namespace, *self.workload(attempt), attempt.container, str(attempt.end[0]))] += 1
        return found

    def restarts(self):
        """Highest attempt number by (namespace, workload type, workload, container), summed over pods."""
        highest = collections.Counter()
        for attempt in self.all():
            key = (attempt.uid, attempt.namespace, *self.workload(attempt), attempt.container)
            highest[key] = max(highest[key], attempt.number or 0)
        found = collections.Counter()
        for (_, *key), number in highest.items():
            found[tuple(key)] += number
        return found

    def stop(self):
        """Ends `ctr events` and the polling."""
        self.done.set()
        if self.process is not None:
            self.process.terminate()
        for thread in self.threads:
            thread.join(10)


def note_exit(attempt, event):
    """Takes over a task's exit from its event."""
    attempt.task_exit = event.get("exit_status", 0)
    at = event.get("exited_at", {})
    # containerd 2 says it in numbers, containerd 1 as a text.
    attempt.exited_at = at.get("seconds", 0) + at.get("nanos", 0) / 1e9 if isinstance(at, dict) else seconds(at)
