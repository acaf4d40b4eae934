#!/usr/bin/env python3
"""How long do the dashboards' queries take with 10,000 workloads, 2,000 of them crashing, in 300 namespaces?

Six hours of made-up series (one sample a minute; 40 minutes of the raw counters) become a block, a real Prometheus serves it,
and every query of the dashboards that read them is asked once for six hours. Needs Prometheus and promtool in one folder, about
1 GB of disk and two minutes.
"""

import argparse
import pathlib
import random
import shutil
import subprocess
import time

from cluster import Failed, main, say, scratch, table, until
from exporter import free_port
from grafana import CHOSEN, Prometheus, dashboards, queries

WORKLOADS, NAMESPACES, NODES, HOURS = 10_000, 300, 1_000, 6
# Exit code, cause and reason, by workload in turn.
ENDS = [("1", "application", "Error"), ("137", "oom_limit", "OOMKilled"), ("137", "liveness_probe", "Error"),
        ("2", "application", "Error"), ("143", "pod_deleted", "Error"), ("0", "completed", "Completed")]


def families(now):
    """Type, name, labels and samples of all series, family by family."""
    whole, late = range(now - HOURS * 3600, now + 1, 60), range(now - 2400, now + 1, 60)

    def noise(moments, least=0):
        return ((t, random.randint(least, 6)) for t in moments)

    def climb(moments):
        return ((t, (t - moments[0]) // 300) for t in moments)

    def who(number):
        return f'namespace="ns-{number % NAMESPACES}",workload_type="deployment",workload="app-{number}"'

    def how(number, end):
        code, cause, reason = end
        return (f'{who(number)},container="app",container_type="container",exit_code="{code}",reason="{reason}",'
                f'cause="{cause}"')

    yield "gauge", "namespace_workload_container:exitcode_terminations:count30m", "", (
        (how(number, ENDS[number % 6]), noise(whole, 1)) for number in range(0, WORKLOADS, 5))
    for name in ("terminations", "restarts"):
        yield "gauge", f"namespace:exitcode_{name}:count5m", "", (
            (f'namespace="ns-{number}",exit_code="{code}",cause="{cause}"', noise(whole))
            for number in range(NAMESPACES) for code, cause, _ in ENDS)
        yield "counter", f"exitcode_container_{name}", "_total", (
            (how(number, end) + ',instance="a"', climb(late))
            for number in range(WORKLOADS) for end in {ENDS[number % 6], ENDS[4]})
    yield "gauge", "exitcode_workload_pods", "", ((who(number), noise(late)) for number in range(WORKLOADS))
    yield "counter", "exitcode_node_terminations", "_total", (
        (f'node="node-{number}",cause="{cause}",instance="a"', climb(late))
        for number in range(NODES) for cause in {cause for _, cause, _ in ENDS})


class Full(Prometheus):
    """A server on a block of all that."""

    def __init__(self, tools, folder, now):
        text = folder / "series.om"
        with open(text, "w", encoding="ascii") as file:
            for kind, name, suffix, found in families(now):
                file.write(f"# TYPE {name} {kind}\n")
                for labels, samples in found:
                    file.writelines(f"{name}{suffix}{{{labels}}} {value} {t}\n" for t, value in samples)
            file.write("# EOF\n")
        say(f"{text.stat().st_size / 1e6:.0f} MB of samples")
        subprocess.run([tools / "promtool", "tsdb", "create-blocks-from", "openmetrics", text, folder / "tsdb"],
                       check=True, timeout=600, stdout=subprocess.DEVNULL)
        text.unlink()
        (folder / "prometheus.yml").write_text("{}")
        self.name, self.port, self.jobs = "Prometheus", free_port(), {}
        self.process = subprocess.Popen(
            [tools / "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb",
             f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=error"], stdin=subprocess.DEVNULL)

    def answers(self):
        """Whether it serves."""
        try:
            return bool(self.get("/api/v1/query", query="vector(1)"))
        except (OSError, Failed):
            return False


def run():
    """Makes the block, asks, and compares the slowest with the limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tools", type=pathlib.Path, help="folder with prometheus and promtool")
    parser.add_argument("--limit", type=float, default=3.0, help="seconds that no query may take")
    options = parser.parse_args()
    folder, now, took = scratch("panels-load"), int(time.time()) // 60 * 60, []
    random.seed(1)
    CHOSEN.update(__range=f"{HOURS}h", __rate_interval="4m")
    server = Full(options.tools, folder, now)
    try:
        until("Prometheus", 60, server.answers)
        for name, dashboard in dashboards().items():
            for where, kind, query in queries(dashboard, "app-5"):
                query = query.replace('namespace="search"', 'namespace="ns-5"')
                began = time.monotonic()
                found = server.ask(kind, query, seconds=HOURS * 3600, step=60, at=now)
                if found:  # the others ask for what is not in the block
                    took.append((time.monotonic() - began, len(found), name, where))
    finally:
        server.stop()
        shutil.rmtree(folder / "tsdb")
    took.sort(reverse=True)
    print(table([(f"{seconds:.2f} s", *rest) for seconds, *rest in took[:12]], ("time", "series", "dashboard", "query")))
    say(f"{len(took)} queries, the slowest took {took[0][0]:.2f} s")
    return 0 if len(took) > 20 and took[0][0] <= options.limit else 1


if __name__ == "__main__":
    main(run)
