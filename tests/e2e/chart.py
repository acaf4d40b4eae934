#!/usr/bin/env python3
"""The Helm chart as an operator uses it: packaged, installed, upgraded and uninstalled on a real cluster.

The image comes from a registry on loopback that the node pulls from, by digest. The release has another name and another
namespace than the shipped manifests, and the namespace enforces `restricted`. Checks that it becomes ready, counts a real
end, that two replicas with every optional object can be had by an upgrade and taken back, that a wrong value changes
nothing, that with TLS and tokens the probes still work and only who may read is answered, and that an uninstall leaves
nothing behind.

Needs the static build of the exporter, helm and crane. Exit status 1 on a difference.
"""

import http.client
import json
import ssl

from cluster import HERE, PROJECT, Cluster, Failed, main, say, scratch, until
from deploying import Crashes, Door, Registry, assemble, deployment, left_behind, of_this_run, run, scrape, static_binary, tool
from exporter import parse

RELEASE, NAMESPACE, CRASHES = "ends", "e2e-chart", "e2e-chart-crashes"
NAME = f"{RELEASE}-exitcode-exporter"
EVERYTHING = {
    "replicas": 2, "minReadySeconds": 1, "copyLabels": ["team"], "podAnnotations": {"example.org/note": "x"},
    "serviceMonitor": {"enabled": True, "interval": "1m", "overrideHonorLabels": True}, "prometheusRule": {"enabled": True},
    "dashboards": {"enabled": True}, "networkPolicy": {"enabled": True},
    "extraOwnerRules": [{"apiGroups": ["argoproj.io"], "resources": ["rollouts"], "verbs": ["get"]}],
}


def expect(what, found, wanted):
    """Fails with both if they differ."""
    if found != wanted:
        raise Failed(f"{what}: {found}, not {wanted}")


class Test:
    """The steps, in the order of `run`."""

    def __init__(self):
        self.cluster, self.folder = Cluster(), scratch("chart")
        self.door = self.registry = self.crashes = self.package = None
        self.values = {}

    def helm(self, *arguments, check=True):
        """Runs helm against the test cluster."""
        return run(tool("helm"), "--kubeconfig", self.cluster.kubeconfig, "-n", NAMESPACE, *arguments, check=check)

    def release(self, verb, more=None, check=True):
        """Installs or upgrades, and waits until it is ready."""
        file = self.folder / "values.json"
        file.write_text(json.dumps({**self.values, **(more or {})}))
        return self.helm(verb, RELEASE, str(self.package), "-f", str(file), "--wait", "--timeout", "90s", check=check)

    def run(self):
        self.clear()
        try:
            self.prepare()
            self.install()
            self.upgrade()
            self.secured()
            self.uninstall()
        finally:
            self.clear()
            for thing in (self.door, self.registry):
                if thing is not None:
                    getattr(thing, "stop", getattr(thing, "close", None))()
        say("the chart installs, upgrades and leaves nothing behind")
        return 0

    def clear(self):
        """Removes what this test made."""
        self.helm("uninstall", RELEASE, "--ignore-not-found", check=False)
        for name in (NAMESPACE, CRASHES):
            self.cluster.remove_namespace(name)
        self.cluster.kubectl("delete", "-f", str(HERE / "workloads" / "monitoring-crds.yaml"), "--ignore-not-found", check=False)

    def prepare(self):
        """The image in a registry, the chart as a package, the namespace and the kinds of the operator."""
        cluster = self.cluster
        self.registry = Registry(self.folder)
        assemble(self.folder / "image.tar", *of_this_run())
        digest = self.registry.push(self.folder / "image.tar", "team/exitcode-exporter:0.1.0").rpartition("@")[2]
        run(tool("helm"), "package", PROJECT / "deploy" / "chart", "-d", self.folder)
        self.package, = self.folder.glob("exitcode-exporter-*.tgz")
        self.crashes = Crashes(cluster, CRASHES)
        self.door = Door(cluster, self.crashes.running())
        cluster.namespace(NAMESPACE)
        cluster.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
        cluster.kubectl("apply", "-f", str(HERE / "workloads" / "monitoring-crds.yaml"))
        self.values = {"image": {"repository": f"{self.registry.address}/team/exitcode-exporter", "digest": digest},
                       "extraEnv": self.door.environment(), "hostAliases": self.door.aliases()}
        say(f"the node pulls {self.values['image']['repository']}@{digest[:19]}… from the registry")

    def counted(self, code):
        """How often each pod of the release counted an end with this code."""
        return [int(sum(value for labels, value in parse(scrape(pod))["exitcode_container_terminations_total"]
                        if labels["namespace"] == CRASHES and labels["exit_code"] == str(code)))
                for pod in deployment(self.cluster, NAMESPACE, NAME)]

    def install(self):
        """A fresh install becomes ready, says what to do next, and counts."""
        notes = self.release("install")
        for word in (f"rollout status deployment/{NAME}", "serviceMonitor.enabled", "prometheusRule.enabled", "persistence.enabled"):
            if word not in notes:
                raise Failed(f"the notes don't say {word}: {notes}")
        self.crashes.add(2, 5)
        until("2 ends", 30, lambda: self.counted(5) == [2])
        image = self.cluster.pods(NAMESPACE)[0]["spec"]["containers"][0]["image"]
        expect("image by digest", "@sha256:" in image, True)
        say("installed, ready, counts")

    def upgrade(self):
        """Everything on, then off again; a wrong value is refused and changes nothing."""
        cluster = self.cluster
        before = [pod["metadata"]["uid"] for pod in cluster.pods(NAMESPACE)]
        said = self.release("upgrade", {"replcas": 2}, check=False)
        if "'replcas' not allowed" not in said:
            raise Failed(f"a misspelt value was not refused by name: {said}")
        expect("pods after a refused upgrade", [pod["metadata"]["uid"] for pod in cluster.pods(NAMESPACE)], before)
        self.release("upgrade", EVERYTHING)
        self.crashes.add(3, 6)
        until("3 ends, by both", 30, lambda: self.counted(6) == [3, 3])
        for kind in ("servicemonitor", "prometheusrule", "networkpolicy", "poddisruptionbudget"):
            cluster.kubectl("-n", NAMESPACE, "get", kind, NAME)
        boards = cluster.get("-n", NAMESPACE, "configmaps", "-l", "grafana_dashboard=1")["items"]
        expect("dashboards", len(boards), 4)
        base = f"http://{NAME}.{NAMESPACE}.svc:10137/runbooks/"
        text = json.dumps([boards, cluster.get("-n", NAMESPACE, "prometheusrule", NAME)])
        expect("links to another release's runbooks", "exitcode-exporter.exitcode-exporter.svc" in text, False)
        expect("links to this release's runbooks", text.count(base) > 40, True)
        rules = until("owner kinds by the label", 30, lambda: cluster.get("clusterrole", f"{NAME}-owners")["rules"])
        expect("owner kinds", rules, [{"apiGroups": ["argoproj.io"], "resources": ["rollouts"], "verbs": ["get"]}])
        self.release("upgrade")
        expect("replicas", len(deployment(cluster, NAMESPACE, NAME)), 1)
        gone = cluster.kubectl("-n", NAMESPACE, "get", "servicemonitor,prometheusrule,networkpolicy,poddisruptionbudget", "-o", "name")
        expect("optional objects when they are off again", gone.split(), [])
        say("upgraded to everything and back; a misspelt value is refused")

    def ask(self, pod, token=None, path="/metrics"):
        """The status of a request over TLS, with or without a token."""
        connection = http.client.HTTPSConnection(pod["status"]["podIP"], 10137, timeout=10,
                                                 context=ssl._create_unverified_context())  # of this test's own making
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
            return connection.getresponse().status
        finally:
            connection.close()

    def secured(self):
        """TLS from a Secret and tokens by the API server: probes work, and only who may read is answered."""
        if "--web.config.file" not in run(static_binary(), "--help"):
            say("skipped: TLS and tokens (this exporter has neither)")
            return
        cluster = self.cluster
        certificate, key = self.folder / "tls.crt", self.folder / "tls.key"
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=exporter", "-keyout", key,
            "-out", certificate)
        web = self.folder / "web-config.yml"
        web.write_text("tls_server_config: {cert_file: tls.crt, key_file: tls.key}\n")
        cluster.kubectl("-n", NAMESPACE, "create", "secret", "generic", "web", f"--from-file={web}",
                        f"--from-file={certificate}", f"--from-file={key}")
        notes = self.release("upgrade", {"webConfig": {"existingSecret": "web", "tls": True}, "auth": {"kubernetes": True}})
        pod, = deployment(cluster, NAMESPACE, NAME)
        for account in ("reader", "stranger"):
            cluster.kubectl("-n", NAMESPACE, "create", "serviceaccount", account)
        command = next(line for line in notes.splitlines() if "create clusterrolebinding" in line)
        words = command.replace("NAMESPACE:ACCOUNT", f"{NAMESPACE}:reader").split()[1:]
        cluster.kubectl(*words)
        try:
            token = {account: cluster.kubectl("-n", NAMESPACE, "create", "token", account).strip() for account in ("reader", "stranger")}
            until("an answer to the reader", 30, lambda: self.ask(pod, token["reader"]) == 200)
            answers = {"reader": self.ask(pod, token["reader"]), "stranger": self.ask(pod, token["stranger"]), "nobody": self.ask(pod),
                       "health": self.ask(pod, path="/livez"), "page": self.ask(pod, path="/")}
        finally:
            cluster.kubectl("delete", "clusterrolebinding", words[2], "--ignore-not-found")
        expect("answers", answers, {"reader": 200, "stranger": 403, "nobody": 401, "health": 200, "page": 401})
        restarts = [status["restartCount"] for status in deployment(cluster, NAMESPACE, NAME)[0]["status"]["containerStatuses"]]
        expect("restarts by probes", restarts, [0])
        cluster.kubectl("-n", NAMESPACE, "delete", "secret", "web")
        say(f"TLS and tokens: {answers}")

    def uninstall(self):
        """Nothing is left: no object with the release's label, no secret of helm."""
        self.helm("uninstall", RELEASE, "--wait", "--timeout", "60s")
        # The pods are collected after their Deployment.
        until("an end of everything", 40, lambda: left_behind(self.cluster, f"app.kubernetes.io/instance={RELEASE}") == [])
        expect("records of the release", self.cluster.get("-n", NAMESPACE, "secrets")["items"], [])


if __name__ == "__main__":
    main(lambda: Test().run())
