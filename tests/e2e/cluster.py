"""A real one-node cluster as the tests meet it: its API through kubectl and HTTP, its node through process ids.

EXITCODE_CLUSTER names the folder that holds the scripts `up` and `down` (default: ../shared/cluster beside the
project, if it exists); EXITCODE_CLUSTER_DIR the folder where `up` keeps its state (default: ~/.cache/exitcode-cluster).
Every process is started and stopped by its id, never by its name.
"""

import base64
import datetime
import gzip
import http.client
import json
import os
import pathlib
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
STARTED = time.monotonic()


class Failed(Exception):
    """The test could not do what it had to do."""


def say(text):
    """One line of progress with the seconds since the start."""
    print(f"[{time.monotonic() - STARTED:6.1f}s] {text}", flush=True)


def last_wrong(seconds, wrong, every=1):
    """Asks until nothing is wrong, or the time is over; returns what was wrong last."""
    end = time.monotonic() + seconds
    while (found := wrong()) and time.monotonic() <= end:
        time.sleep(every)
    return found


def end_process(process, seconds=20):
    """Ends a process as a service manager would: with SIGTERM, and with SIGKILL if that takes too long."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5)


def until(what, seconds, check, every=0.5):
    """Waits until `check` returns something true, and returns it; fails after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > end:
            raise Failed(f"{what}: not within {seconds} s")
        time.sleep(every)


def seconds(text):
    """The seconds of a time as logs and APIs write it."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    parsed = datetime.datetime.strptime(whole, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=datetime.timezone.utc)
    return parsed.timestamp() + float(f"0.{fraction or 0}")


def folder():
    """The folder of the cluster's scripts, or None where there is none."""
    named = os.environ.get("EXITCODE_CLUSTER")
    for candidate in [named] if named else [PROJECT.parent / "shared" / "cluster"]:
        path = pathlib.Path(candidate)
        if (path / "up").exists():
            return path
    return None


def state():
    """The folder where the cluster keeps its state."""
    return pathlib.Path(os.environ.get("EXITCODE_CLUSTER_DIR", "~/.cache/exitcode-cluster")).expanduser()


class Cluster:
    """kubectl, watches and the node's daemons of the cluster that is up."""

    def __init__(self):
        self.dir = state()
        self.kubeconfig = self.dir / "kubeconfig"
        if not self.kubeconfig.exists():
            raise Failed(f"no cluster is up: {self.kubeconfig} does not exist")
        self.started = {}
        raw = json.loads(self.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
        server = urllib.parse.urlsplit(raw["clusters"][0]["cluster"]["server"])
        self.host, self.port = server.hostname, server.port
        self.token = raw["users"][0]["user"]["token"]
        authority = base64.b64decode(raw["clusters"][0]["cluster"]["certificate-authority-data"]).decode()
        self.tls = ssl.create_default_context(cadata=authority)
        newer = (self.dir / "run" / "kubernetes").read_text().strip() != "1.35"
        self.ctr_binary = str(self.dir / "bin" / "containerd-2" / "ctr") if newer else "ctr"

    def kubectl(self, *arguments, stdin=None, check=True, timeout=180):
        """Runs kubectl and returns what it printed."""
        command = [str(self.dir / "bin" / "kubectl"), "--kubeconfig", str(self.kubeconfig), *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout)
        if check and done.returncode != 0:
            raise Failed(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout if done.returncode == 0 else done.stdout + done.stderr

    def get(self, *arguments):
        """`kubectl get … -o json` as Python values."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, manifest, namespace=None):
        """Applies YAML or JSON text."""
        scope = ["-n", namespace] if namespace else []
        return self.kubectl("apply", *scope, "-f", "-", stdin=manifest)

    def request(self, method, path, body=None, kind="application/json"):
        """One request to the API server: status and decoded body."""
        connection = http.client.HTTPSConnection(self.host, self.port, context=self.tls, timeout=30)
        try:
            headers = {"Authorization": f"Bearer {self.token}", "Content-Type": kind}
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else {}
        finally:
            connection.close()

    def namespace(self, name):
        """An empty namespace: removes what an earlier run left, waits for its service account."""
        self.remove_namespace(name)
        self.kubectl("create", "namespace", name)
        until(
            f"service account of {name}", 60,
            lambda: "default" in self.kubectl("-n", name, "get", "serviceaccounts", "-o", "name", check=False),
        )

    def remove_namespace(self, name):
        """Deletes a namespace and waits until it is gone."""
        self.kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=true", "--timeout=150s", timeout=170)

    def pods(self, namespace):
        """The pods of a namespace."""
        return self.get("-n", namespace, "pods")["items"]

    def evict(self, namespace, pod):
        """Evicts a pod through the API, as a drain does."""
        status, answer = self.request("POST", f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction", {
            "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}})
        if status != 201:
            raise Failed(f"{pod} is not evicted: {status} {answer}")

    def may(self, account, verb, resource, group="", namespace="", name=""):
        """Whether the API server would allow this to an account, NAMESPACE:NAME: it learns of a role after it took it."""
        status, answer = self.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", {
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
                "user": f"system:serviceaccount:{account}",
                "resourceAttributes": {"namespace": namespace, "group": group, "resource": resource, "verb": verb, "name": name}}})
        return status == 201 and answer["status"]["allowed"]

    # The node's daemons, by the process ids that the cluster noted.

    def pid(self, daemon):
        """Process id of a daemon of the cluster."""
        return int((self.dir / "run" / f"{daemon}.pid").read_text())

    def remember(self, daemon):
        """How a running daemon was started: what `start` needs."""
        proc = pathlib.Path("/proc") / str(self.pid(daemon))
        pairs = [pair.partition(b"=") for pair in (proc / "environ").read_bytes().split(b"\0") if pair]
        return {
            "daemon": daemon,
            "command": [part.decode() for part in (proc / "cmdline").read_bytes().split(b"\0")[:-1]],
            "environment": {key.decode(): value.decode() for key, _, value in pairs},
            "folder": os.readlink(proc / "cwd"),
        }

    def stop(self, daemon, how=signal.SIGTERM):
        """Ends a daemon and returns how to start it again."""
        how_started = self.remember(daemon)
        pid = self.pid(daemon)
        os.kill(pid, how)

        def gone():
            child = self.started.get(pid)
            if child is not None:
                return child.poll() is not None
            try:
                with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
                    return stat.read().rsplit(")", 1)[1].split()[0] == "Z"
            except FileNotFoundError:
                return True

        until(f"end of {daemon}", 60, gone, every=0.1)
        return how_started

    def start(self, how_started):
        """Starts a daemon the way it ran before."""
        daemon = how_started["daemon"]
        with open(self.dir / "log" / f"{daemon}.log", "ab") as log:
            child = subprocess.Popen(
                how_started["command"], env=how_started["environment"], cwd=how_started["folder"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )
        self.started[child.pid] = child
        (self.dir / "run" / f"{daemon}.pid").write_text(f"{child.pid}\n")

    def restart(self, daemon, how=signal.SIGTERM, meanwhile=None):
        """Stops a daemon, does `meanwhile`, starts it the same way and waits until it serves again."""
        how_started = self.stop(daemon, how)
        try:
            if meanwhile:
                meanwhile()
        finally:
            self.start(how_started)
        self.wait_for(daemon)

    def wait_for(self, daemon):
        """Waits until a daemon serves."""
        checks = {
            "kubelet": self.node_is_ready,
            "kube-apiserver": lambda: self.kubectl("get", "--raw", "/readyz", check=False).strip() == "ok",
            "containerd": lambda: self.ctr("version", check=False) is not None,
        }
        until(f"{daemon} after its restart", 90, checks[daemon])

    def node_is_ready(self):
        """Whether the node reports Ready."""
        path = '-o=jsonpath={.items[0].status.conditions[?(@.type=="Ready")].status}'
        return self.kubectl("get", "nodes", path, check=False).strip() == "True"

    # containerd

    def ctr(self, *arguments, check=True):
        """Runs ctr in the kubelet's namespace; None if it failed and `check` is off."""
        done = subprocess.run(self.ctr_command(*arguments), capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            if check:
                raise Failed(f"ctr {' '.join(arguments)}: {done.stderr.strip()}")
            return None
        return done.stdout

    def ctr_command(self, *arguments):
        """The command line of ctr for this cluster's containerd."""
        return [self.ctr_binary, "--address", str(self.dir / "run" / "containerd.sock"), "-n", "k8s.io", *arguments]

    def container_id(self, namespace, pod, container):
        """The id that the pod's status names for a container that runs now."""
        status = self.get("-n", namespace, "pod", pod)["status"]
        for field in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
            for entry in status.get(field, []):
                if entry["name"] == container and "running" in entry.get("state", {}):
                    return entry["containerID"].rpartition("/")[2]
        return None

    def task_pid(self, container_id):
        """The process id of a container's first process, or None."""
        for line in (self.ctr("tasks", "ls", check=False) or "").splitlines()[1:]:
            fields = line.split()
            if len(fields) == 3 and fields[0] == container_id and fields[2] == "RUNNING":
                return int(fields[1])
        return None

    def signal_container(self, namespace, pod, container, how):
        """Sends a signal to a container's first process from outside, as an operator on the node would."""
        found = until(f"running {namespace}/{pod}/{container}", 60,
                      lambda: self.container_id(namespace, pod, container))
        pid = until(f"task of {pod}/{container}", 30, lambda: self.task_pid(found))
        os.kill(pid, how)
        return found


class Watch(threading.Thread):
    """Follows a resource like any client: list, watch, on from where a connection was cut, and from a list when that is too old.

    Calls `on(type, object)` for each event in order; with `record`, also keeps the raw lines, gzipped, in a file.
    With `ignore_existing` what the first list holds is not passed on.
    """

    def __init__(self, cluster, path, on, record=None, ignore_existing=False):
        super().__init__(daemon=True, name=f"watch {path}")
        self.cluster, self.path, self.on = cluster, path, on
        self.file = gzip.open(record, "wt", encoding="utf-8") if record else None
        self.synced, self.done = threading.Event(), threading.Event()
        self.ignore_existing = ignore_existing
        self.connection = self.version = None

    def run(self):
        while not self.done.is_set():
            try:
                if self.version is None:
                    self.version = self.list()
                    self.synced.set()
                self.watch()
            except (Failed, ValueError):
                self.version = None
                self.done.wait(0.3)
            except (OSError, http.client.HTTPException):
                self.done.wait(0.3)

    def list(self):
        status, body = self.cluster.request("GET", self.path)
        if status != 200:
            raise Failed(f"list {self.path}: {status}")
        kind = body["kind"].removesuffix("List")
        for item in [] if self.ignore_existing and not self.synced.is_set() else body["items"]:
            item = {"kind": kind, "apiVersion": body["apiVersion"], **item}
            event = {"type": "ADDED", "object": item}
            self.take(event, json.dumps(event))
        return body["metadata"]["resourceVersion"]

    def watch(self):
        connection = http.client.HTTPSConnection(
            self.cluster.host, self.cluster.port, context=self.cluster.tls, timeout=90)
        self.connection = connection
        try:
            query = f"?watch=1&allowWatchBookmarks=true&resourceVersion={self.version}"
            connection.request("GET", self.path + query, headers={"Authorization": f"Bearer {self.cluster.token}"})
            answer = connection.getresponse()
            if answer.status != 200:
                raise Failed(f"watch {self.path}: {answer.status}")
            for line in answer:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise Failed("expired")
                if event["type"] != "BOOKMARK":
                    self.take(event, line.decode())
                self.version = event["object"]["metadata"]["resourceVersion"]
        finally:
            connection.close()

    def take(self, event, line):
        if self.file:
            self.file.write(line if line.endswith("\n") else line + "\n")
        self.on(event["type"], event["object"])

    def stop(self):
        """Ends the watch and closes the recording."""
        self.done.set()
        connection = self.connection
        if connection is not None and connection.sock is not None:
            try:
                connection.sock.shutdown(2)
            except OSError:
                pass
        self.join(10)
        if self.file:
            self.file.close()


def scratch(prefix):
    """A new, empty folder for the logs of one run: in EXITCODE_E2E_OUTPUT, else a temporary one. It stays."""
    base = os.environ.get("EXITCODE_E2E_OUTPUT")
    if base:
        path = pathlib.Path(base) / prefix
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path
    return pathlib.Path(tempfile.mkdtemp(prefix=f"exitcode-{prefix}-"))


def table(rows, header):
    """Rows in columns, as text."""
    rows = [header, *[[str(cell) for cell in row] for row in rows]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def main(run):
    """Runs a test's main function: exit status 1 and one line for a failure that the test itself noticed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(run())
    except Failed as error:
        say(f"FAILED: {error}")
        sys.exit(1)
