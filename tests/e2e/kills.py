#!/usr/bin/env python3
"""The exporter with saved state is killed over and over, and counts as if nothing had happened.

Kills are SIGKILL at random moments, from before the first connection on, and ends at chosen points of a save: before it, in the
middle of it, in the middle of one write to the file, before and after the commit, after what was saved is shown, before the file
is compacted. Needs a build with the feature `fault-points` (EXITCODE_EXPORTER). Two parts:

- load: thousands of pods on a real API server whose statuses a generator writes, which keeps the truth. In some of the
  namespaces pods are replaced, too: there, what went with its pod before anyone read it, and kept what was read, can't be counted.
- kubelet: pods that crash on a real kubelet, the truth is containerd's own. Once the kubelet, the API server and the exporter are
  killed at the same moment.

All the time /metrics is read in two ways. No counter may ever go back or be missing. At the end every container's sum equals
the truth; each code does too, but for ends that the API no longer showed when the exporter came back: they are counted as
unknown. No start may take over 5 s until ready (a build that is not optimised: --slowest), none may begin anew, and no file may be moved aside.

Usage: kills.py [--kills N] [--pods N] [--rate N] [--slowest SECONDS]. Exit status 1 if anything is not so.
"""

import argparse
import collections
import json
import os
import random
import signal
import statistics
import subprocess
import time

import churn
from answers import Answers, get
from cluster import Cluster, Failed, end_process, main, say, scratch, table, until
from ends import Ends, kept
from exporter import Exporter, free_port
from truth import Truth

PREFIX, NAMESPACES = "e2e-kills", 20
MOVING, MOVING_NAMESPACES = "e2e-kills-moving", 4
REAL = "e2e-kills-real"
POINTS = ("before-write", "during-write", "before-commit", "after-commit", "after-publish", "disk-write", "before-compaction")
CODES = (0, 1, 2, 3, 42, 127, 128, 134, 137, 139, 143, 255)
# No life is longer than this if it is not ready.
LONGEST_START = 20.0
# About how long a life lasts.
SECONDS_EACH = 1.5
LABELS = ("namespace", "workload_type", "workload", "container", "exit_code", "reason")
# What the log says when the API server could not answer, since the machine is too busy.
API_FAILS, UNKNOWN_CLUSTER = "watching pods ", "which cluster this is"
# Lines of the log that tell of a loss.
LOSSES = ("starts anew", "moved aside", "cannot read the saved state", "cannot save the state", "panicked")


class Run:
    """One life of the exporter."""

    def __init__(self, how, log):
        self.log, self.how, self.begun, self.ready, self.ended, self.status = log, how, time.time(), None, None, None
        # Why it is not ready yet, in its own words.
        self.why = ""
        # The API server is down.
        self.excused = False


class Victim:
    """The exporter that is killed: one port, one directory, many lives."""

    def __init__(self, folder, cluster, arguments, seed, slowest):
        folder.mkdir()
        self.slowest = slowest
        self.folder, self.cluster, self.random = folder, cluster, random.Random(seed)
        self.state, self.port = folder / "state", free_port()
        self.arguments = ["--state-dir", str(self.state), "--new-series-zero-for", "3s", *arguments]
        self.runs, self.exporter = [], None
        self.answers = Answers(self.port)

    def start(self, how="end of the test", fault=None):
        """Begins a life."""
        name = f"exporter-{len(self.runs) + 1:04}"
        self.runs.append(Run(how, self.folder / f"{name}.log"))
        self.exporter = Exporter(self.folder, self.arguments, self.cluster.kubeconfig, name,
                                 "trace", self.port, fault)

    def wait(self, seconds, after_ready=None):
        """Lets it live for so long, or so long after it is ready, or until it ends itself; notes when it is ready."""
        run, end = self.runs[-1], time.time() + seconds
        while time.time() < end and self.exporter.process.poll() is None:
            if run.ready is None:
                status, text = get(self.port, "/readyz")
                run.why = text or run.why
                if status == 200:
                    run.ready = time.time()
                    end = end if after_ready is None else run.ready + after_ready
            time.sleep(0.02)

    def wait_until_ready(self, seconds):
        """Lets it live until it is ready."""
        end = time.time() + seconds
        while self.runs[-1].ready is None:
            self.wait(0.05)
            if time.time() > end or self.exporter.process.poll() is not None:
                raise Failed(f"the exporter is not ready; see {self.exporter.log}")

    def kill(self):
        """Ends its life, if it did not end itself."""
        process = self.exporter.process
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        self.runs[-1].status = process.wait(10)
        self.runs[-1].ended = time.time()

    def life(self, number):
        """One life with its end, of the kind whose turn it is."""
        if number % 2:
            point = POINTS[number // 2 % len(POINTS)]
            most = 60 if point == "disk-write" else 1 if point == "before-compaction" else 2
            self.start(point, f"{point}:{self.random.randint(1, most)}")
            self.wait(LONGEST_START, after_ready=2.5)
        elif number % 6 == 0:
            # Before it can be ready, or just then.
            self.start("SIGKILL")
            self.wait(self.random.uniform(0.03, 0.6))
        else:
            self.start("SIGKILL")
            self.wait(LONGEST_START, after_ready=self.random.uniform(0, 1.5))
        self.kill()

    def unread(self, ends):
        """The ends of which no life kept an object that shows them."""
        ends.settle()
        versions = kept([run.log for run in self.runs])
        if not versions:
            raise Failed(f"the logs do not tell which pods were read; see {self.folder}")
        unread = ends.unread(versions)
        ends.write(self.folder / "ends.ndjson", unread)
        return unread

    def stop(self):
        """Ends everything."""
        self.answers.stop()
        if self.exporter and self.exporter.process.poll() is None:
            self.exporter.stop()

    def verdict(self):
        """Prints how it went, whatever was counted; returns how much is wrong."""
        killed = [run for run in self.runs if run.ended]
        kinds = collections.Counter(
            run.how if run.status == -signal.SIGABRT or run.how == "SIGKILL" else f"SIGKILL ({run.how} not reached)"
            for run in killed)
        bad = [run for run in killed
               if run.status != -signal.SIGKILL and not (run.status == -signal.SIGABRT and run.how in POINTS)]
        tried = collections.Counter(run.how for run in killed if run.how in POINTS)
        reached = {run.how for run in killed if run.status == -signal.SIGABRT}
        starts = sorted(run.ready - run.begun for run in self.runs if run.ready)
        slow = [run for run in self.runs if (run.ready or run.ended) - run.begun > self.slowest and not run.excused]
        excused = [run for run in slow if API_FAILS in run.log.read_text(errors="replace") or UNKNOWN_CLUSTER in run.why]
        answers = self.answers
        say(f"{len(killed)} kills: {', '.join(f'{n} {kind}' for kind, n in sorted(kinds.items()))}")
        say(f"{len(starts)} of {len(self.runs)} starts came to be ready, within {statistics.median(starts):.2f} s (median), "
            f"{starts[-1]:.2f} s (longest)")
        say(f"{answers.seen} answers of /metrics read, {answers.refused} refused, {answers.none} without connection or broken off; "
            f"{sum(len(r.values) for r in answers.readers)} counters followed; the file has "
            f"{sum(path.stat().st_size for path in self.state.iterdir()) / 1024:.0f} KiB")
        wrong = [f"ended with {run.status}: {run.how}" for run in bad] + answers.wrong() + self.losses()
        if excused:
            say(f"{len(excused)} starts waited for an API server that could not answer")
        if len(slow) > len(excused):
            wrong.append(f"{len(slow) - len(excused)} starts took over {self.slowest} s until ready")
        wrong += [f"no life ended {point}" for point, times in tried.items() if times >= 4 and point not in reached]
        wrong += [f"{reader.kind}: no counter was read" for reader in answers.readers if not reader.values]
        wrong += [f"{path} was moved aside" for path in self.state.iterdir() if path.name != "state.redb"]
        return report(wrong)

    def losses(self):
        """Lines of the logs that tell of a loss."""
        found = []
        for path in sorted(self.folder.glob("exporter-*.log")):
            lines = path.read_text(errors="replace").splitlines()
            found += [f"{path.name}: {line}" for line in lines if any(loss in line for loss in LOSSES)]
        return found


def report(wrong):
    """Prints what is wrong; returns how much."""
    for line in wrong[:20]:
        say(f"WRONG: {line}")
    return len(wrong)


def compare(name, truth, got, uncertain, never=collections.Counter()):
    """Compares counters by (container's key…, code, reason) with the truth; returns how many are wrong.

    `uncertain` counts the ends by key that no object shows which was read and saved; they may be counted as unknown.
    `never` counts the attempts that were created and did not run, by container: to Kubernetes they are attempts, to containerd no ends.
    """
    wrong, hidden = [], 0
    for container in sorted({key[:4] for key in (*truth, *got)}):
        sums = [sum(n for key, n in counts.items() if key[:4] == container) for counts in (truth, got)]
        if not 0 <= sums[1] - sums[0] <= never[container]:
            wrong.append((*container, "all", "", sums[0], sums[1]))
    for key in sorted({*truth, *got}):
        if key[4] == "unknown":
            continue
        missing = truth[key] - got[key]
        hidden += max(missing, 0)
        if not 0 <= missing <= uncertain[key]:
            wrong.append((*key, truth[key], got[key]))
    if wrong:
        print(table(wrong[:40], (*LABELS, "truth", "counted")))
    say(f"{name}: {sum(truth.values())} ends, {sum(got.values())} counted, {hidden} of them with a code that was no longer shown "
        f"(at most {sum(uncertain.values())}); {len(wrong)} differ")
    return len(wrong)


class Load:
    """The part on a real API server without a kubelet."""

    def __init__(self, cluster, folder, kills, options):
        pods, rate, self.slowest = options.pods, options.rate, options.slowest
        self.cluster, self.folder, self.kills, self.pods, self.rate = cluster, folder, kills, pods, rate
        self.binary = churn.build(folder)
        self.steady, self.moving = churn.names(PREFIX, NAMESPACES), churn.names(MOVING, MOVING_NAMESPACES)
        self.generators = []

    def generate(self, name, prefix, namespaces, pods, *options):
        """Starts the generator."""
        environment = {**os.environ, "KUBECONFIG": str(self.cluster.kubeconfig)}
        with open(self.folder / f"{name}.log", "wb") as log:
            process = subprocess.Popen([self.binary, "--prefix", prefix, "--namespaces", str(namespaces), "--pods", str(pods), *options],
                                       env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.generators.append(process)
        return process

    def finish(self, process, seconds):
        """Waits for a generator."""
        if process.wait(seconds) != 0:
            raise Failed(f"a generator failed; see {self.folder}")

    def run(self):
        """Makes the load, kills, compares."""
        moving = self.pods // 10
        manager = self.cluster.stop("kube-controller-manager")
        victim = ends = None
        try:
            ends = Ends(self.cluster, "/api/v1/pods", lambda namespace: namespace.startswith(PREFIX))
            victim = Victim(self.folder / "load", self.cluster, [], 1, self.slowest)
            self.kill_under_load(victim, moving)
            wrong = self.compare(victim, ends)
            victim.stop()
            return wrong + victim.verdict()
        finally:
            for thing in (ends, victim):
                if thing:
                    thing.stop()
            for process in self.generators:
                end_process(process)
            try:
                churn.remove(self.cluster, PREFIX, NAMESPACES)
                churn.remove(self.cluster, MOVING, MOVING_NAMESPACES)
            finally:
                self.cluster.start(manager)

    def kill_under_load(self, victim, moving):
        """The lives and deaths."""
        victim.start("before the load")
        victim.answers.start()
        victim.wait_until_ready(30)
        seconds = max(10, round(self.kills * SECONDS_EACH))
        steady = self.generate("steady", PREFIX, NAMESPACES, self.pods - moving, "--rate", str(self.rate * 0.9), "--replace", "0",
                               "--duration", f"{seconds}s", "--truth", str(self.folder / "steady.ndjson"))
        moved = self.generate("moving", MOVING, MOVING_NAMESPACES, moving, "--rate", str(self.rate * 0.1), "--replace", "0.2",
                              "--coalesce", "0", "--duration", f"{seconds}s", "--truth", str(self.folder / "moving.ndjson"), "--seed", "2")
        until("the pods", 300, lambda: all("created" in (self.folder / f"{name}.log").read_text() for name in ("steady", "moving")))
        say(f"{self.pods} pods; load for {seconds} s")
        victim.kill()
        for number in range(self.kills - 1):
            victim.life(number)
        say("no more kills")
        victim.start()
        victim.wait_until_ready(30)
        for process in (steady, moved):
            self.finish(process, 600)
        victim.exporter.settle(self.steady | self.moving, quiet=5)

    def compare(self, victim, ends):
        """The counters beside the truth."""
        truth, exporter = churn.expected(self.folder / "steady.ndjson"), victim.exporter
        got = exporter.group("exitcode_container_terminations_total", LABELS, self.steady)
        key = lambda end: (end.namespace, "statefulset", end.owner, end.container, end.code, end.reason)
        unread = victim.unread(ends)
        wrong = compare("steady pods", truth, got, collections.Counter(map(key, unread)))
        restarts = exporter.group("exitcode_container_restarts_total", LABELS[:4], self.steady)
        if sum(restarts.values()) != sum(truth.values()):
            wrong += report([f"{sum(truth.values())} restarts done, {sum(restarts.values())} counted"])
        return wrong + self.compare_moving(victim, ends, unread)

    def compare_moving(self, victim, ends, unread):
        """Where pods are replaced: nothing twice, and nothing lost but what went before anyone read and kept it."""
        key = lambda end: (end.namespace, "statefulset", end.owner, end.container)
        truth, wrong = collections.Counter(), []
        for row, count in churn.expected(self.folder / "moving.ndjson").items():
            truth[row[:4]] += count
        got = victim.exporter.group("exitcode_container_terminations_total", LABELS[:4], self.moving)
        excused = ends.lost(unread, key)
        for container in sorted({*truth, *got}):
            if not 0 <= truth[container] - got[container] <= excused[container]:
                wrong.append(f"{container}: {truth[container]} ends, {got[container]} counted, at most {excused[container]} lost")
        say(f"replaced pods: {sum(truth.values())} ends, {sum(got.values())} counted, at most {sum(excused.values())} went with their pod "
            f"unread; {len(wrong)} differ")
        return report(wrong)


class Kubelet:
    """The part with real containers."""

    def __init__(self, cluster, folder, kills, options):
        self.cluster, self.folder, self.kills, self.slowest = cluster, folder, kills, options.slowest

    def run(self):
        """Crashes, kills, compares."""
        self.cluster.namespace(REAL)
        truth = ends = victim = None
        try:
            truth = Truth(self.cluster, [REAL])
            truth.connected.wait(10)
            ends = Ends(self.cluster, f"/api/v1/namespaces/{REAL}/pods", lambda namespace: namespace == REAL)
            victim = Victim(self.folder / "kubelet", self.cluster, ["--namespaces", REAL], 2, self.slowest)
            victim.start("before the pods")
            victim.answers.start()
            victim.wait_until_ready(30)
            self.cluster.apply(self.pods())
            until("a first save", 30, lambda: victim.exporter.sum("exitcode_exporter_state_last_save_timestamp_seconds"))
            victim.kill()
            for number in range(self.kills - 2):
                if number == self.kills // 2:
                    self.all_at_once(victim)
                victim.life(number)
            say("no more kills")
            victim.start()
            victim.wait_until_ready(30)
            victim.wait(3)
            self.remove(truth)
            victim.exporter.settle({REAL}, quiet=5)
            wrong = self.compare(truth, ends, victim)
            victim.stop()
            return wrong + victim.verdict()
        finally:
            for thing in (victim, ends, truth):
                if thing:
                    thing.stop()
            self.cluster.remove_namespace(REAL)

    @staticmethod
    def pods():
        """One pod for each exit code; each ends after a time of its own."""
        items = []
        for number, code in enumerate(CODES):
            container = {"name": "app", "image": "local/busybox:1", "imagePullPolicy": "Never",
                         "command": ["sh", "-c", f"sleep 0.{number % 10}; exit {code}"]}
            name = f"ends-with-{code}"
            items.append({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name, "namespace": REAL, "labels": {"exitcode.test/workload": f"barepod.{name}"}},
                "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]}})
        return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})

    def all_at_once(self, victim):
        """Kubelet, API server and exporter die at the same moment; containers end meanwhile."""
        say("kubelet, API server and exporter are killed at once")
        daemons = [self.cluster.remember(daemon) for daemon in ("kubelet", "kube-apiserver")]
        victim.start("with kubelet and API server")
        victim.wait(2)
        for how in daemons:
            os.kill(self.cluster.pid(how["daemon"]), signal.SIGKILL)
        victim.kill()
        time.sleep(2)
        victim.start("while the API server is down")
        victim.runs[-1].excused = True
        victim.wait(1)
        victim.kill()
        for how in reversed(daemons):
            self.cluster.start(how)
        for how in reversed(daemons):
            self.cluster.wait_for(how["daemon"])

    def remove(self, truth):
        """Removes the pods, as anyone would."""
        self.cluster.kubectl("-n", REAL, "delete", "pods", "--all", "--wait=false")
        until("the end of all pods", 60, lambda: not self.cluster.pods(REAL))
        until("the end of all containers", 60, lambda: all(a.end or a.deleted for a in truth.all()))

    def compare(self, truth, ends, victim):
        """The counters beside containerd's words."""
        counts = collections.Counter({(*key, ""): n for key, n in truth.counts().items()})
        got = victim.exporter.group("exitcode_container_terminations_total", LABELS[:5], {REAL})
        got = collections.Counter({(*key, ""): n for key, n in got.items()})
        key = lambda end: (end.namespace, "barepod", end.pod, end.container, end.code, "")
        uncertain = collections.Counter(map(key, victim.unread(ends)))
        shown = collections.Counter(map(key, ends.all()))
        for name, count in counts.items():
            uncertain[name] += max(0, count - shown[name])
        never = collections.Counter((a.namespace, *truth.workload(a), a.container) for a in truth.all() if a.end is None)
        return compare("crashing pods", counts, got, uncertain, never)


def run():
    """Parses the options and runs both parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=210)
    parser.add_argument("--pods", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=60, help="terminations a second")
    parser.add_argument("--slowest", type=float, default=5, help="seconds a start may take until ready")
    parser.add_argument("--part", choices=("load", "kubelet"))
    options = parser.parse_args()
    cluster, folder = Cluster(), scratch("kills")
    real = options.kills * 2 // 3
    wrong = 0
    if options.part != "kubelet":
        wrong += Load(cluster, folder, options.kills - real, options).run()
    if options.part != "load":
        wrong += Kubelet(cluster, folder, real, options).run()
    say(f"FAILED: {wrong} things are wrong; logs in {folder}" if wrong else "every end counted once, nothing went back")
    return 1 if wrong else 0


if __name__ == "__main__":
    main(run)
