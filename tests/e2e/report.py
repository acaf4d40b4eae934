#!/usr/bin/env python3
"""Does the report tell what was done to the containers of a real cluster, by both of its names?

Lets containers end in ways that are known beforehand, asks once with `exitcode-exporter report` and as `kubectl exitcode`, and
compares every row. Then as somebody who may read one namespace only, and on a terminal of 80 columns.

Exit status 1 on a difference. `--show` prints the tables.
"""

import argparse
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios
import time
import unicodedata

from cluster import Cluster, Failed, last_wrong, main, say, scratch, until
from exporter import binary
from things import FAILING, STUBBORN, container, controller, job, memory, pod, segfault

NAMESPACE, ACCOUNT = "e2e-report", "reader"
HOG = "x=a; while true; do x=$x$x; done"
MESSAGE = "연결할 수 없습니다 🦀"

# Workload, exit code, reason and cause, and what brings it about. An end that is expected comes last in the report.
DONE = {
    ("deployment", "checkout", 1, "Error", "application"):
        controller("Deployment", "checkout", container(f"sleep 1; echo '{MESSAGE}' > /dev/termination-log; exit 1")),
    ("deployment", "shell-misuse", 2, "Error", "application"):
        controller("Deployment", "shell-misuse", container("sleep 1; exit 2")),
    ("deployment", "no-binary", 128, "StartError", "start_failed"):
        controller("Deployment", "no-binary", container(["/bin/no-such-file"])),
    ("statefulset", "memory-hog", 137, "OOMKilled", "oom_limit"):
        controller("StatefulSet", "memory-hog", container(HOG, resources=memory("32Mi"))),
    ("daemonset", "log-agent", 137, "Error", "liveness_probe"):
        controller("DaemonSet", "log-agent", container(STUBBORN, livenessProbe=FAILING)),
    ("cronjob", "nightly", 42, "Error", "application"): None,  # made from its CronJob below
    ("barepod", "image-resizer", 139, "Error", "fatal_signal"):
        pod("image-resizer", container(segfault()), restartPolicy="Never"),
    ("job", "migrate", 0, "Completed", "completed"): job("migrate", container("sleep 1")),
}
# For a moment, until containerd marks the kill for memory.
UNMARKED = ("statefulset", "memory-hog", 137, "Error", "killed")


def cron_job():
    """A CronJob that never runs by itself."""
    template = job("x", container("sleep 1; exit 42"))["spec"]
    return {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly"},
            "spec": {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": template}}}


def ask(cluster, *arguments, kubeconfig=None, plugin=None, status=0, environment=()):
    """Runs the report and returns what it printed on both streams."""
    command = [str(cluster.dir / "bin" / "kubectl"), "exitcode"] if plugin else [binary(), "report"]
    variables = {"KUBECONFIG": str(kubeconfig or cluster.kubeconfig), "PATH": f"{plugin}:{os.environ['PATH']}",
                 "HOME": "/nonexistent", **dict(environment)}
    done = subprocess.run([*command, *arguments], env=variables, capture_output=True, text=True, timeout=60)
    if done.returncode != status:
        raise Failed(f"{' '.join(command[-1:] + list(arguments))}: exit status {done.returncode}: {done.stderr}")
    return done.stdout, done.stderr


def rows(text):
    """What a JSON report names, in order."""
    fields = ("workload_type", "workload", "exit_code", "reason", "cause")
    return [tuple(row[field] for field in fields) for row in json.loads(text)]


def enter(cluster):
    """Everything ends within seconds."""
    cluster.namespace(NAMESPACE)
    things = [thing for thing in DONE.values() if thing] + [cron_job()]
    cluster.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": things}), NAMESPACE)
    cluster.kubectl("-n", NAMESPACE, "create", "job", "nightly-29000000", "--from=cronjob/nightly")


def check_rows(cluster, plugin):
    """Every way to ask for the whole namespace gives what was done, expected ends last."""
    def everything():
        return rows(ask(cluster, "-n", NAMESPACE, "-o", "json")[0])

    def complete():
        found = everything()
        return found if set(found) >= set(DONE) else None

    try:
        found = until("every end in the report", 120, complete, every=1)
    except Failed:
        found = everything()
    # Containers are killed and started all the time: what is visible of them stays what was done.
    for _ in range(40):
        if UNMARKED in found:
            found = until("the mark of the kill for memory", 10, lambda: UNMARKED not in (now := everything()) and now)
        difference = set(found) ^ set(DONE)
        if difference:
            raise Failed(f"not alike: {sorted(difference)}; found {found}")
        time.sleep(0.4)
        found = everything()
    if found[-1][4] != "completed":
        raise Failed(f"expected ends must come last: {found}")
    for how, arguments in (("plugin", ["-n", NAMESPACE]), ("plugin, filtered", ["-A", "--namespaces", NAMESPACE])):
        text, _ = ask(cluster, *arguments, "-o", "json", plugin=plugin)
        mine = [row for row, full in zip(rows(text), json.loads(text)) if full["namespace"] == NAMESPACE]
        if set(mine) != set(DONE):
            raise Failed(f"{how}: {sorted(set(mine) ^ set(DONE))}")
    filtered = rows(ask(cluster, "-n", NAMESPACE, "-o", "json", "--exit-code", "137,42", "--since", "10m")[0])
    if {row[2] for row in filtered} != {137, 42} or len(filtered) != 3:
        raise Failed(f"filtered: {filtered}")


def check_counts(cluster):
    """Restarts and pods are those of the API; the message is there where it may be."""
    known = {item["metadata"]["name"]: sum(status["restartCount"] for status in item["status"]["containerStatuses"])
             for item in cluster.pods(NAMESPACE)}
    text, _ = ask(cluster, "--namespaces", NAMESPACE, "--by", "pod", "-o", "json")
    after = {item["metadata"]["name"]: sum(status["restartCount"] for status in item["status"]["containerStatuses"])
             for item in cluster.pods(NAMESPACE)}
    for row in json.loads(text):
        if not known[row["pod"]] <= row["restarts"] <= after[row["pod"]]:
            raise Failed(f"{row['pod']}: {row['restarts']} restarts, and the API says {known[row['pod']]}")
        if not 1 <= row["ends"] <= 2 or row["pods"] != 1:
            raise Failed(f"{row['pod']}: {row['ends']} ends of {row['pods']} pods")
    messages = {row["workload"]: row["message"] for row in json.loads(text)}
    if messages["checkout"] != MESSAGE + "\\n":
        raise Failed(f"the message reads {messages['checkout']!r}")


def check_commands(cluster):
    """What the report says to run next runs."""
    for row in json.loads(ask(cluster, "-n", NAMESPACE, "-o", "json")[0]):
        if row["next"]:
            environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig),
                           "PATH": f"{cluster.dir / 'bin'}:{os.environ['PATH']}"}
            def refused():
                done = subprocess.run(["sh", "-c", row["next"]], env=environment, capture_output=True, text=True, timeout=30)
                # In the second in which a container has no previous run, kubectl says so.
                good = done.returncode == 0 or "previous terminated container" in done.stderr
                return None if good else f"{row['next']}: {done.stderr.strip()}"

            # The run that it names may be replaced just now.
            wrong = last_wrong(10, refused)
            if wrong:
                raise Failed(wrong)


def least_rights(cluster, plugin, folder):
    """Somebody who may list pods in this namespace and nothing else, by the namespace of the context."""
    cluster.kubectl("-n", NAMESPACE, "create", "serviceaccount", ACCOUNT)
    cluster.kubectl("-n", NAMESPACE, "create", "role", ACCOUNT, "--verb=list", "--resource=pods")
    cluster.kubectl("-n", NAMESPACE, "create", "rolebinding", ACCOUNT, f"--role={ACCOUNT}",
                    f"--serviceaccount={NAMESPACE}:{ACCOUNT}")
    until("the reader's right", 30, lambda: cluster.may(f"{NAMESPACE}:{ACCOUNT}", "list", "pods", namespace=NAMESPACE))
    config = json.loads(cluster.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
    token = cluster.kubectl("-n", NAMESPACE, "create", "token", ACCOUNT).strip()
    config["users"][0]["user"] = {"token": token}
    config["contexts"][0]["context"]["namespace"] = NAMESPACE
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    path.chmod(0o600)
    text, notes = ask(cluster, "-o", "json", kubeconfig=path, plugin=plugin)
    found = {row[:4] for row in rows(text)}
    expected = {row[:4] for row in DONE} - {("cronjob", "nightly", 42, "Error")} - {("job", "migrate", 0, "Completed")}
    if not expected <= found or "grant verb list on resource events" not in notes or "owners" not in notes:
        raise Failed(f"with least rights: {sorted(expected - found)}, {notes}")
    _, said = ask(cluster, "-A", kubeconfig=path, plugin=plugin, status=1)
    if "grant verb list on resource pods" not in said.splitlines()[-1] or len(said.splitlines()) != 1:
        raise Failed(f"without any right: {said!r}")


def width(text):
    """Columns that a text takes."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def on_terminal(cluster, columns, arguments, environment=()):
    """What a terminal of so many columns shows."""
    pid, screen = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        variables = {"KUBECONFIG": str(cluster.kubeconfig), "TERM": "xterm", "HOME": "/nonexistent", **dict(environment)}
        os.execve(binary(), [binary(), "report", *arguments], variables)
    shown = b""
    while True:
        try:
            more = os.read(screen, 65536)
        except OSError:
            more = b""
        if not more:
            break
        shown += more
    os.close(screen)
    os.waitpid(pid, 0)
    return shown.decode().replace("\r\n", "\n")


def check_terminal(cluster):
    """As wide as the terminal, colours unless NO_COLOR."""
    for form in ("table", "wide"):
        for columns in (80, 120, 200):
            arguments = ["-n", NAMESPACE, "-o", form]
            shown = on_terminal(cluster, columns, arguments)
            plain = on_terminal(cluster, columns, arguments, [("NO_COLOR", "1")])
            if "\x1b[31m" not in shown or "\x1b" in plain:
                raise Failed("colours are not where they should be")
            table = re.sub("\x1b\\[[0-9]*m", "", shown).split("\n\n")[0].splitlines()
            if len(table) != len(DONE) + 1 or max(map(width, table)) > columns:
                raise Failed(f"on {columns} columns:\n{shown}")


def run():
    """Lets things end, and asks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--show", action="store_true", help="print the tables")
    show = parser.parse_args().show
    cluster, folder = Cluster(), scratch("report")
    plugin = folder / "bin"
    plugin.mkdir()
    (plugin / "kubectl-exitcode").symlink_to(os.path.abspath(binary()))
    try:
        enter(cluster)
        check_rows(cluster, plugin)
        say(f"{len(DONE)} rows are what was done, asked for directly and as kubectl plugin")
        check_counts(cluster)
        check_commands(cluster)
        check_terminal(cluster)
        say("restarts, messages, next commands and terminals are right")
        least_rights(cluster, plugin, folder)
        say("with the right to list pods only, it tells the rest and says what is missing")
        if show:
            print(ask(cluster, "-n", NAMESPACE, plugin=plugin)[0])
            print(on_terminal(cluster, 120, ["-n", NAMESPACE, "-o", "wide"], [("NO_COLOR", "1")]))
    finally:
        cluster.remove_namespace(NAMESPACE)
    return 0


if __name__ == "__main__":
    main(run)
