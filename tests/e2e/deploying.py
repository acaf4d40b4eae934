"""What the tests of the manifests, the chart and the image share: the image on the node, a way for pods to the API server, a
Prometheus that discovers its targets, and kustomize, helm and crane.

Pods of the test cluster have no route to the API server (it listens on loopback, there is no kube-proxy), and a namespace
that enforces `restricted` forbids them the host's network. So `Door` opens a port on the pods' bridge, and the manifests are
applied with two environment variables and a host name that lead there: `patch`. Nothing else of what is shipped is changed.
"""

import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request

from cluster import PROJECT, Failed, end_process, until
from exporter import free_port

NAMESPACE = "exitcode-exporter"
IMAGE = "exitcode-exporter:0.1.0"
NAME = "kubernetes.default.svc"  # as the API server's certificate calls it


def tool(name):
    """A test tool: on the PATH, or where the tools are built."""
    built = pathlib.Path(os.environ.get("EXITCODE_TOOLS_DIR", "~/.cache/exitcode-tools")).expanduser() / name
    found = str(built) if built.exists() else shutil.which(name)
    if not found:
        raise Failed(f"there is no {name}: neither at {built} nor on the PATH")
    return found


def run(*command, stdin=None, check=True, timeout=180, environment=None):
    """Runs a program and returns what it printed."""
    done = subprocess.run([str(part) for part in command], input=stdin, capture_output=True, text=True, timeout=timeout,
                          env={**os.environ, **(environment or {})})
    if check and done.returncode != 0:
        raise Failed(f"{' '.join(str(part) for part in command[:6])}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout if done.returncode == 0 else done.stdout + done.stderr


def static_binary():
    """The binary of the image: EXITCODE_EXPORTER_STATIC, else this project's static release build."""
    default = PROJECT / "target" / f"{os.uname().machine}-unknown-linux-musl" / "release" / "exitcode-exporter"
    path = pathlib.Path(os.environ.get("EXITCODE_EXPORTER_STATIC", default))
    if not path.exists():
        raise Failed(f"no static exporter at {path}: cargo build --release --target {os.uname().machine}-unknown-linux-musl")
    return path


def of_this_run():
    """Makes an image of this run's own. The kubelet remembers which image (by its content) it pulled from where, and an image
    with the same content that was imported under another name would be pulled, too, to see whether the pod may have it."""
    return "--label", f"e2e.run={time.time_ns()}"


def assemble(out, *more):
    """Assembles the image into a file."""
    return run(PROJECT / "deploy" / "image" / "assemble", out, "--binary", static_binary(), *more)


class Door:
    """Leads from the pods' bridge to the API server, for as long as the test runs."""

    def __init__(self, cluster, pod_address):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((pod_address, 9))
            self.address = probe.getsockname()[0]  # this machine, as the pods' network sees it
        self.behind = (cluster.host, cluster.port)
        self.listener = socket.create_server((self.address, 0))
        self.port = self.listener.getsockname()[1]
        self.open = []
        threading.Thread(target=self.welcome, daemon=True).start()

    def welcome(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                try:
                    far = socket.create_connection(self.behind, timeout=10)
                    far.settimeout(None)
                except OSError:
                    near.close()
                    continue
                self.open += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self.carry, args=(source, sink), daemon=True).start()

    def carry(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def environment(self):
        """Where a pod finds it, for its container."""
        return [{"name": "KUBERNETES_SERVICE_HOST", "value": NAME}, {"name": "KUBERNETES_SERVICE_PORT", "value": str(self.port)}]

    def aliases(self):
        """Where a pod finds it, for its /etc/hosts."""
        return [{"ip": self.address, "hostnames": [NAME]}]

    def close(self):
        """Shuts it."""
        for end in [self.listener, *self.open]:
            with contextlib.suppress(OSError):
                end.close()


def kustomization(folder, name, door, resources, components=(), **more):
    """A folder with a kustomization of its own over what is shipped, as an operator would write one."""
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)

    def relative(paths):
        return [os.path.relpath(PROJECT / "deploy" / path, place) for path in paths]

    pod = {"hostAliases": door.aliases(), "containers": [{"name": "exitcode-exporter", "env": door.environment()}]}
    patch = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "exitcode-exporter", "namespace": NAMESPACE},
             "spec": {"template": {"spec": pod}}}
    (place / "kustomization.yaml").write_text(json.dumps({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": relative(resources),
        "components": relative(components), "patches": [{"patch": json.dumps(patch)}], **more}))
    return place


class Crashes:
    """Pods that end once each with an exit code of their own: what must be counted is known beforehand."""

    def __init__(self, cluster, namespace):
        self.cluster, self.namespace, self.made = cluster, namespace, 0
        cluster.namespace(namespace)

    def add(self, count, code):
        """So many more pods that end with this code, all of them ended when it returns."""
        names = [f"crash-{self.made + n}" for n in range(count)]
        self.made += count
        for name in names:
            container = {"name": "app", "image": "local/busybox:1", "imagePullPolicy": "Never",
                         "command": ["sh", "-c", f"exit {code}"]}
            self.cluster.apply(json.dumps({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": self.namespace},
                "spec": {"restartPolicy": "Never", "containers": [container]}}))
        until(f"the end of {', '.join(names)}", 60, lambda: {
            pod["metadata"]["name"] for pod in self.cluster.pods(self.namespace)
            if pod["status"].get("phase") == "Failed"} >= set(names))

    def running(self):
        """A pod that stays, for its address."""
        container = {"name": "app", "image": "local/busybox:1", "imagePullPolicy": "Never", "command": ["sleep", "600"]}
        self.cluster.apply(json.dumps({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stays", "namespace": self.namespace},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}}))
        return until("an address of a pod", 60, lambda: self.cluster.get(
            "-n", self.namespace, "pod", "stays")["status"].get("podIP"))


class Prometheus:
    """A Prometheus outside of the cluster that discovers its targets through the API, with a shipped scrape configuration."""

    def __init__(self, binary, cluster, folder, file, seconds, namespace=NAMESPACE):
        place = folder / pathlib.Path(file).stem
        place.mkdir()
        text = (PROJECT / "deploy" / "prometheus" / file).read_text()
        # Where the API server is, and how often: all the rest is as shipped.
        text, found = re.subn(r"kubernetes_sd_configs: \[\{role: endpoints(.*)\}\]",
                              lambda match: f"kubernetes_sd_configs: [{{role: endpoints{match[1]}, kubeconfig_file: {cluster.kubeconfig}}}]", text)
        if found != 1:
            raise Failed(f"{file} has no kubernetes_sd_configs")
        text = text.replace("names: [exitcode-exporter]", f"names: [{namespace}]")
        text = text.replace("scrape_interval: 30s", f"scrape_interval: {seconds}s").replace("65s", f"{2 * seconds + 5}s")
        (place / "prometheus.yml").write_text(f"global: {{scrape_interval: {seconds}s}}\n{text}")
        self.url = f"http://127.0.0.1:{free_port()}"
        with open(place / "log", "wb") as log:
            self.process = subprocess.Popen(
                [binary, f"--config.file={place / 'prometheus.yml'}", f"--storage.tsdb.path={place / 'data'}",
                 f"--web.listen-address={self.url.removeprefix('http://')}"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def query(self, text):
        """The samples of an instant query: [(labels, value)]."""
        if self.process.poll() is not None:
            raise Failed(f"Prometheus ended with {self.process.returncode}")
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': text})}", timeout=20) as answer:
                found = json.load(answer)["data"]["result"]
        except OSError:
            return []
        return [(entry["metric"], float(entry["value"][1])) for entry in found]

    def value(self, text):
        """The value of a query that gives one sample; None if it gives none."""
        found = self.query(text)
        if len(found) > 1:
            raise Failed(f"{text}: {len(found)} samples")
        return found[0][1] if found else None

    def stop(self):
        """Ends it."""
        end_process(self.process)


class Registry:
    """A registry on loopback, which the node pulls from."""

    def __init__(self, folder):
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        with open(folder / "registry.log", "wb") as log:
            self.process = subprocess.Popen([tool("crane"), "registry", "serve", "--address", self.address],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until("the registry", 20, self.answers, every=0.2)

    def answers(self):
        with contextlib.suppress(OSError):
            with socket.create_connection(("127.0.0.1", int(self.address.rpartition(":")[2])), timeout=2):
                return True
        return False

    def push(self, archive, name):
        """Pushes an image and returns its reference by digest."""
        return run(tool("crane"), "push", "--insecure", archive, f"{self.address}/{name}").strip()

    def stop(self):
        """Ends it."""
        end_process(self.process)


class Times(threading.Thread):
    """When a pod of the exporter was first seen in each state, on this test's own clock."""

    def __init__(self, cluster, namespace=NAMESPACE):
        super().__init__(daemon=True)
        self.cluster, self.namespace, self.seen, self.done = cluster, namespace, {}, threading.Event()
        self.start()

    def run(self):
        while not self.done.wait(0.05):
            self.look()

    def look(self):
        """Notes what is new."""
        with contextlib.suppress(OSError, KeyError, ValueError, http.client.HTTPException):
            _, body = self.cluster.request("GET", f"/api/v1/namespaces/{self.namespace}/pods")
            for pod in body.get("items", []):
                self.note(pod)

    def note(self, pod):
        first = self.seen.setdefault(pod["metadata"]["name"], {})
        now = time.monotonic()
        first.setdefault("created", now)
        for status in pod["status"].get("containerStatuses", []):
            if "running" in status["state"]:
                first.setdefault("running", now)
            if status["ready"]:
                first.setdefault("ready", now)

    def stop(self):
        """Ends it, after a last look."""
        self.done.set()
        self.join(40)
        self.look()


def deployment(cluster, namespace=NAMESPACE, name="exitcode-exporter"):
    """Waits until the newest template of the Deployment is all there is, and ready; returns its pods."""
    try:
        cluster.kubectl("-n", namespace, "rollout", "status", f"deployment/{name}", "--timeout=90s", timeout=100)
    except Failed as error:
        shown = [cluster.kubectl("-n", namespace, *words, check=False) for words in (
            ("get", "pods", "-o", "wide"), ("get", "events", "--sort-by=.lastTimestamp"),
            ("logs", f"deployment/{name}", "--tail=20"), ("logs", f"deployment/{name}", "--previous", "--tail=20"))]
        raise Failed(f"{error}\n" + "\n".join(shown)) from None

    def pods():
        found = [pod for pod in cluster.pods(namespace) if pod["metadata"]["labels"].get("app.kubernetes.io/name") == "exitcode-exporter"]
        ready = [pod for pod in found if "deletionTimestamp" not in pod["metadata"] and any(
            one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", []))]
        return found if len(ready) == len(found) else None
    # What was deleted a moment ago may still pass for rolled out.
    return until("the old pods' end, and the new ones ready", 90, pods)


def scrape(pod, path="/metrics"):
    """What a pod of the exporter answers, asked from the node."""
    with urllib.request.urlopen(f"http://{pod['status']['podIP']}:10137{path}", timeout=10) as answer:
        return answer.read().decode()


def left_behind(cluster, selector="app.kubernetes.io/instance=exitcode-exporter"):
    """Every object that carries the label, whatever kind and namespace; events and metrics aside."""
    found = []
    for scope in ("true", "false"):
        kinds = cluster.kubectl("api-resources", f"--namespaced={scope}", "--verbs=list", "-o", "name").split()
        kinds = [kind for kind in kinds if not kind.startswith("events")]
        names = cluster.kubectl("get", ",".join(kinds), "-A", "-l", selector, "-o", "name", "--ignore-not-found")
        found += names.split()
    return sorted(set(found))
