#!/usr/bin/env python3
"""Does every query of every dashboard return data, in each of the given Prometheus servers?

The real exporter's demo is scraped by real servers with the shipped rules. What is not ours (cAdvisor, the kubelet's probes,
node-exporter, kube-state-metrics) is stood in for by made-up values. Needs no cluster.
"""

import argparse
import re
import sys

from cluster import Failed, main, say, scratch, table, until
from grafana import RULES, WORKLOADS, Stage, dashboards, filled, queries

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


def filled_link(url, row, dashboard):
    """A row's link as a browser gets it, or None where the row lacks a label that the link needs."""
    url = url.replace("${runbooks:raw}", "/runbooks/")
    for label in re.findall(r"\${__data\.fields\.(\w+)}", url):
        if not row.get(label):
            return None
        url = url.replace(f"${{__data.fields.{label}}}", row[label])
    return filled(url, dashboard, WORKLOADS[0]) if url.startswith("/runbooks/") else url


def rows(server):
    """Every link of every row of every table: (dashboard, panel, labels of the row, link or None)."""
    for name, dashboard in dashboards().items():
        for panel in dashboard["panels"]:
            if panel["type"] != "table":
                continue
            query = filled(panel["targets"][0]["expr"], dashboard, WORKLOADS[0])
            urls = {link["url"] for override in panel["fieldConfig"]["overrides"]
                    for it in override["properties"] if it["id"] == "links" for link in it["value"]}
            for row in server.ask("instant", query):
                for url in urls:
                    yield name, panel["title"], row["metric"], filled_link(url, row["metric"], dashboard)


def broken(stage):
    """Rows whose links lack something, or lead to a runbook that the exporter does not serve as it should."""
    served, found, asked = {}, [], 0
    for server in stage.servers:
        for *where, row, url in rows(server):
            asked += 1
            path, _, anchor = (url or "").partition("#")
            if url and path.startswith("/runbooks/") and path not in served:
                served[path] = stage.exporter.fetch(path)
            status, _, text = served.get(path, (200, None, ""))
            needs_anchor = path.startswith("/runbooks/137?") and anchor
            if not url or status != 200 or (needs_anchor and f'id="{anchor}"' not in text) \
                    or ("workload" in row and text and row["workload"] not in text and "137?" in path):
                found.append((*where, url or "no link", status, row))
    say(f"{asked} links of rows, {len(served)} pages of runbooks")
    return found


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
        bad = broken(stage)
        for entry in bad:
            print(*entry)
        asked = sum(len(list(queries(dashboard))) for dashboard in dashboards().values())
        say(f"{asked} queries of {len(dashboards())} dashboards return data in {' and '.join(server.name for server in stage.servers)}; {len(bad)} links of rows are broken")
        return 1 if bad else 0
    finally:
        stage.stop()


if __name__ == "__main__":
    main(run)
