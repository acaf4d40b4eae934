#!/usr/bin/env python3
"""Does every query of every dashboard return data, in each of the given Prometheus servers?

The real exporter's demo is scraped by real servers with the shipped rules. What is not ours (cAdvisor, the kubelet's probes,
node-exporter, kube-state-metrics) is stood in for by made-up values. Needs no cluster.
"""

import argparse
import sys

from cluster import Failed, main, say, scratch, table, until
from grafana import RULES, WORKLOADS, Stage, dashboards, queries

# Empty on the demo, and rightly so: it has no fault that they would count.
MAY_BE_EMPTY = {
    ("exporter.json", "Lists and watches that failed (A)"),
    ("exporter.json", "What it could not see (B)"),
    ("exporter.json", "What it could not see (C)"),
    ("exporter.json", "Series (C)"),
    ("exporter.json", "Series (D)"),
}


def finite(found):
    """Whether there is a series with a value that can be drawn."""
    points = [point for series in found for point in (series.get("values") or [series["value"]])]
    return any(value not in ("NaN", "+Inf", "-Inf") for _, value in points)


def missing(server):
    """The queries that return nothing yet."""
    found = []
    for name, dashboard in dashboards().items():
        for asked in zip(*(queries(dashboard, workload) for workload in WORKLOADS)):
            where, _, query = asked[0]
            if (name, where) not in MAY_BE_EMPTY and not any(answered(server, kind, query) for _, kind, query in asked):
                found.append((server.name, name, where, query))
    return found


def answered(server, kind, query):
    """Whether the query returns something to show."""
    answer = server.ask(kind, query)
    return bool(answer) if kind == "values" else finite(answer)


def links(server):
    """The table's links: each row must have the labels and the page that they name."""
    bad = 0
    for name, dashboard in dashboards().items():
        for panel in dashboard["panels"]:
            if panel["type"] != "table":
                continue
            text = str(panel["fieldConfig"]["overrides"])
            wanted = [label for label in ("page", "namespace", "workload", "container", "cause") if f"__data.fields.{label}}}" in text]
            for _, kind, query in queries({**dashboard, "panels": [panel], "annotations": {"list": []}, "templating": {"list": dashboard["templating"]["list"]}}):
                for row in server.ask(kind, query) if kind == "instant" else []:
                    lacking = [label for label in wanted if not row["metric"].get(label)]
                    bad += bool(lacking)
                    if lacking:
                        say(f"{name}: {panel['title']}: a row without {', '.join(lacking)}: {row['metric']}")
    return bad


def run():
    """Starts everything, waits until all queries answer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prometheus", nargs="+", help="Prometheus binaries")
    parser.add_argument("--rules", default=RULES, help="rule file (default: the shipped one)")
    parser.add_argument("--seconds", type=int, default=240, help="how long to wait for all data")
    options = parser.parse_args()
    stage = Stage(scratch("panels"), options.prometheus, options.rules)
    left = []

    def complete():
        left[:] = [entry for server in stage.servers for entry in missing(server)]
        return not left

    try:
        try:
            until("data for every query", options.seconds, complete, every=5)
        except Failed as failed:
            if not left:
                raise
            say(str(failed))
            print(table([entry[:3] for entry in left], ("server", "dashboard", "query without data")))
            for entry in left:
                print("\n".join(entry[1:]), file=sys.stderr)
            return 1
        bad = sum(links(server) for server in stage.servers)
        asked = sum(len(list(queries(dashboard))) for dashboard in dashboards().values())
        say(f"{asked} queries of {len(dashboards())} dashboards return data in {' and '.join(server.name for server in stage.servers)}; {bad} rows lack what their links need")
        return 1 if bad else 0
    finally:
        stage.stop()


if __name__ == "__main__":
    main(run)
