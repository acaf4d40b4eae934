#!/usr/bin/env python3
"""What becomes of the saved state when its disk or its file is no good: nothing that can be kept is lost.

On a simulated cluster whose containers end all the time, one state goes through a full disk while running and at a start (on a
small file system), a file system that is read only, a file that another process holds, one that may not be read, and one that
may not be written. Each is told of in exactly one line and by /readyz; no counter ever goes back; what ended meanwhile is
counted afterwards, once: the sums equal the truth. Then files that can't be gone on from (cut off, overwritten, of another
version, of another cluster) and files with flipped bits: they are moved aside, and counting starts anew, or the flip
hit nothing and the counts are as before; never is anything else shown.

Needs root, and a build with the feature `fault-points` (EXITCODE_EXPORTER) beside the example `simulated-api-server`
(EXITCODE_SIMULATED, default: the release build). Usage: damage.py [--flips N]. Exit status 1 if anything is not so.
"""

import argparse
import collections
import contextlib
import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import time

from answers import COUNTERS, Answers, get
from cluster import PROJECT, Failed, main, say, scratch, until
from exporter import Exporter, free_port

FILE = "state.redb"
# Root without the right to pass over permissions.
ORDINARY = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search")


class Simulated:
    """A simulated cluster: a process, a kubeconfig, and at its end the truth."""

    def __init__(self, folder, name, *options):
        binary = os.environ.get("EXITCODE_SIMULATED", PROJECT / "target" / "release" / "examples" / "simulated-api-server")
        port = free_port()
        self.output, self.kubeconfig = folder / f"{name}.txt", folder / f"{name}.json"
        with open(self.output, "wb") as output:
            self.process = subprocess.Popen([str(binary), "--listen", f"127.0.0.1:{port}", "--replaced", "0", "--linger", *options],
                                            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        until(f"the simulated cluster {name}", 20, lambda: self.output.stat().st_size, every=0.05)
        self.kubeconfig.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": name,
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "clusters": [{"name": name, "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "users": [{"name": name, "user": {}}]}))

    def stop(self):
        """Ends it."""
        self.process.kill()
        self.process.wait(10)

    def calm(self):
        """No container ends any more; returns the truth: ends by (namespace, workload type, workload, container)."""
        self.process.send_signal(signal.SIGINT)
        until("the truth", 10, lambda: "\nend\n" in self.output.read_text(), every=0.1)
        truth = collections.Counter()
        for line in self.output.read_text().splitlines():
            words = line.split()
            if words[0] == "termination":
                truth[(words[1], *words[2].split("/"), words[4])] += int(words[-1])
        return truth


class Test:
    """The steps, in the order of `run`."""

    def __init__(self, flips):
        self.folder, self.flips, self.random = scratch("damage"), flips, random.Random(1)
        self.disk, self.port, self.starts = self.folder / "disk", free_port(), 0
        self.state, self.fill = self.disk / "state" / FILE, self.disk / "fill"
        self.answers, self.exporter, self.wrong = Answers(self.port), None, 0
        self.simulated = None

    def run(self):
        self.disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", self.disk], check=True)
        self.simulated = Simulated(self.folder, "cluster", "--pods", "100", "--rate", "20", "--seconds", "3600",
                                   "--watches", "2")
        try:
            self.bad_days()
            self.bad_files()
        finally:
            self.answers.stop()
            if self.exporter and self.exporter.process.poll() is None:
                self.exporter.process.kill()
                self.exporter.process.wait()
            self.simulated.stop()
            subprocess.run(["umount", "--lazy", self.disk], check=False)
        say(f"FAILED: {self.wrong} things are wrong; logs in {self.folder}" if self.wrong else "nothing lost that can be kept")
        return 1 if self.wrong else 0

    # The exporter.

    def start(self, simulated=None, state=None, fault=None, through=()):
        """Starts it; an earlier one must have ended."""
        self.starts += 1
        arguments = ["--state-dir", str((state or self.state).parent)]
        self.exporter = Exporter(self.folder, arguments, (simulated or self.simulated).kubeconfig, f"exporter-{self.starts:03}",
                                 "info", self.port, fault, through)

    def kill(self):
        """Kills it."""
        self.exporter.process.kill()
        self.exporter.process.wait(10)

    def ready(self):
        """Status and text of /readyz."""
        return get(self.port, "/readyz")

    def until_ready(self):
        """Waits until it is ready."""
        until("readiness", 30, lambda: self.ready()[0] == 200 and self.counts() is not None, every=0.05)

    def counts(self, keys=None):
        """The counters of /metrics as they stand, or None where it is refused."""
        status, text = get(self.port, "/metrics")
        return sorted(line for line in text.splitlines() if line.startswith(COUNTERS)) if status == 200 else None

    def total(self):
        """Sum of all counted terminations."""
        return self.exporter.sum("exitcode_container_terminations_total")

    def told(self):
        """Warnings and errors in its log."""
        entries = [json.loads(line) for line in self.exporter.log.read_text().splitlines() if line.startswith("{")]
        return [entry for entry in entries if entry.get("level", "").upper() in ("WARN", "ERROR")]

    # What must be so.

    def check(self, text, holds):
        """Notes what is not so."""
        if not holds:
            say(f"WRONG: {text}: not so")
            self.wrong += 1

    def one_line(self, name, *words):
        """Exactly one warning or error was logged, with these words; prints it."""
        told = [json.dumps({key: value for key, value in entry.items() if key not in ("ts", "time", "timestamp", "target")},
                           ensure_ascii=False) for entry in self.told()]
        for line in told:
            say(f"{name}: {line}")
        self.check(f"{name}: one line with {words}, not {len(told)}", len(told) == 1 and all(word in told[0] for word in words))

    def grows(self, name):
        """More is counted than now, soon."""
        before = self.total()
        with contextlib.suppress(Failed):
            until("more counts", 10, lambda: self.total() > before, every=0.2)
        self.check(f"{name}: counts go on", self.total() > before)

    def stands_still(self, name, *words):
        """Not ready, for this reason, and what is read stays what it was."""
        with contextlib.suppress(Failed):
            until("an answer", 12, lambda: self.ready()[0] == 503 and self.counts() is not None
                  and all(word in self.ready()[1] for word in words), every=0.1)
        status, why = self.ready()
        say(f"{name}: /readyz {status}: {why.strip()}")
        self.check(f"{name}: not ready because of {words}", status == 503 and all(word in why for word in words))
        before = self.counts()
        time.sleep(2.5)
        self.check(f"{name}: /metrics goes on with what was saved", before is not None and before == self.counts())
        self.check(f"{name}: failures are counted", self.exporter.sum("exitcode_exporter_state_save_failures_total") > 0)

    # One state through bad days.

    def bad_days(self):
        """Whatever happens to the disk, the counts go on afterwards."""
        self.start()
        self.answers.start()
        self.until_ready()
        self.grows("at first")
        self.check("at first: nothing to tell", not self.told())
        self.full_disk()
        self.full_disk_at_a_start()
        self.read_only()
        self.held()
        self.no_rights()
        self.answers.stop()
        for line in self.answers.wrong()[:20]:
            self.check(f"no counter goes back, but {line}", False)
        say(f"{self.answers.seen} answers of /metrics read, no counter went back" if not self.answers.wrong() else "counters went back")

    @contextlib.contextmanager
    def full(self):
        """While the disk is full."""
        with open(self.fill, "wb", buffering=0) as fill, contextlib.suppress(OSError):
            while True:
                fill.write(bytes(4096))
        try:
            yield
        finally:
            self.fill.unlink()

    def full_disk(self):
        """The disk fills while it runs."""
        with self.full():
            self.stands_still("full disk", "cannot be saved", "No space left")
        self.until_ready()
        self.grows("after the full disk")
        self.one_line("full disk", "cannot save", "No space left")
        self.check("after the full disk: told of", "saved again" in self.exporter.log.read_text())

    def full_disk_at_a_start(self):
        """It dies while the disk is full, and starts before there is room."""
        with self.full():
            until("a failed save", 15, lambda: self.ready()[0] == 503, every=0.1)
            before = self.counts()
            self.kill()
            self.start()
            self.stands_still("start on a full disk", "cannot be saved", "No space left")
            self.check("start on a full disk: what was shown is shown", before == self.counts())
        self.until_ready()
        self.grows("after a start on a full disk")
        self.one_line("start on a full disk", "No space left")

    def read_only(self):
        """The file system is read only at the start."""
        self.exporter.stop()
        subprocess.run(["mount", "-o", "remount,ro", self.disk], check=True)
        try:
            self.start()
            self.stands_still("read only", "cannot be saved", "Read-only")
            self.one_line("read only", "cannot be saved", "Read-only")
            self.kill()
            self.start()
            self.stands_still("read only, again", "cannot be saved", "Read-only")
        finally:
            subprocess.run(["mount", "-o", "remount,rw", self.disk], check=True)
        self.until_ready()
        self.grows("after read only")

    def held(self):
        """Another process holds the file."""
        self.kill()
        with open(self.state, "rb") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            self.start()
            self.refused("held", "another process")
        self.until_ready()
        self.grows("after it was held")
        self.one_line("held", "another process")

    def refused(self, name, *words):
        """Not ready, for this reason, and nothing is shown."""
        with contextlib.suppress(Failed):
            until("an answer", 10, lambda: all(word in self.ready()[1] for word in words), every=0.1)
        status, why = self.ready()
        say(f"{name}: /readyz {status}: {why.strip()}")
        self.check(f"{name}: not ready because of {words}", status == 503 and all(word in why for word in words))
        self.check(f"{name}: /metrics is refused", get(self.port, "/metrics")[0] == 503)
        time.sleep(1.5)

    def no_rights(self):
        """The file may not be read, or not be written."""
        self.exporter.stop()
        self.state.chmod(0)
        self.start(through=ORDINARY)
        self.refused("may not be read", "Permission denied")
        self.state.chmod(0o600)
        self.until_ready()
        self.grows("after it might not be read")
        self.one_line("may not be read", "Permission denied")
        self.kill()
        self.state.chmod(0o400)
        self.start(through=ORDINARY)
        self.stands_still("may not be written", "cannot be saved", "Permission denied")
        self.state.chmod(0o600)
        self.until_ready()
        self.grows("after it might not be written")
        self.one_line("may not be written", "cannot be saved", "Permission denied")

    # Files that are no good.

    def bad_files(self):
        """Counts all that ended, then goes on from copies of the file that are no good."""
        other = Simulated(self.folder, "other", "--pods", "10")
        try:
            self.compare()
            good = self.state.read_bytes()
            saved = self.shown_by(good)
            aside = self.unfit("another cluster", good, "another cluster", simulated=other)
            self.check("another cluster: its state is kept", self.shown_by(aside) == saved)
            for name, data in {
                "cut off": good[:len(good) // 2], "cut off in the header": good[:100], "text": b"not a database\n" * 1000,
                "zeros": bytes(len(good)), "no header": bytes(4096) + good[4096:],
                "random": good[:4096] + self.random.randbytes(len(good) - 4096),
            }.items():
                aside = self.unfit(name, data, "cannot be read")
                self.check(f"{name}: as it was", aside == data)
            self.other_version()
            self.flipped(good, saved)
        finally:
            other.stop()

    def compare(self):
        """The counts equal the truth; no more containers end from here on."""
        self.until_ready()
        truth = self.simulated.calm()
        time.sleep(5)
        labels = ("namespace", "workload_type", "workload", "container")
        got = self.exporter.group("exitcode_container_terminations_total", labels, {key[0] for key in truth})
        differ = sorted(key for key in {*truth, *got} if truth[key] != got[key])
        for key in differ[:10]:
            say(f"WRONG: {key}: {truth[key]} ends, {got[key]} counted")
        self.wrong += len(differ)
        say(f"{sum(truth.values())} ends, {sum(got.values())} counted, {len(differ)} containers differ")
        self.exporter.stop()

    def begin_with(self, name, data, **how):
        """Starts with a copy of a file in a directory of its own, and returns its path."""
        path = self.folder / "files" / name.replace(" ", "-") / FILE
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        self.start(state=path, **how)
        self.until_ready()
        return path

    def unfit(self, name, data, words, **how):
        """It starts anew, says so, and moves the file aside; returns what is there."""
        path = self.begin_with(name, data, **how)
        self.one_line(name, words, "kept as", "starts anew")
        aside = [other for other in path.parent.iterdir() if other.name != FILE]
        self.check(f"{name}: moved aside", len(aside) == 1)
        self.check(f"{name}: nothing counted", self.counts() == [])
        self.kill()
        return aside[0].read_bytes() if aside else b""

    def other_version(self):
        """A file that another version wrote."""
        path = self.folder / "files" / "by-another-version" / FILE
        self.start(state=path, fault="other-form:1")
        self.until_ready()
        until("a file", 10, lambda: path.exists() and self.exporter.sum("exitcode_exporter_state_last_save_timestamp_seconds"))
        self.exporter.stop()
        self.unfit("another version", path.read_bytes(), "form 2")

    def flipped(self, good, saved):
        """Single bits, anywhere: what is shown is what was counted, or nothing at all under a note."""
        found = collections.Counter()
        for number in range(self.flips):
            # The first pages, where the file tells about itself, as often as all others.
            at = self.random.randrange(8192 if number % 2 else len(good)) * 8 + self.random.randrange(8)
            data = bytearray(good)
            data[at // 8] ^= 1 << at % 8
            path = self.begin_with(f"flip {at}", bytes(data))
            aside = [other for other in path.parent.iterdir() if other.name != FILE]
            shown, told = self.counts(), self.told()
            if shown == saved and not told:
                found["did not matter"] += 1
            elif shown == [] and len(told) == 1 and len(aside) == 1:
                found["moved aside"] += 1
            else:
                self.check(f"bit {at} flipped: all or nothing is shown ({len(told)} lines, {len(aside)} aside)", False)
            self.kill()
            shutil.rmtree(path.parent)
        say(f"{self.flips} files with a flipped bit: {dict(found)}")

    def shown_by(self, data):
        """What is shown after a start from this file."""
        path = self.begin_with("good", data)
        shown = self.counts()
        self.check("good: all is shown", shown and not self.told())
        self.kill()
        shutil.rmtree(path.parent)
        return shown


def run():
    """Parses the options and runs the test."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flips", type=int, default=40, help="how many files with a flipped bit")
    return Test(parser.parse_args().flips).run()


if __name__ == "__main__":
    main(run)
