#!/usr/bin/env python3
"""Both formats of /metrics, as real Prometheus servers ask for them, on the demo's simulated cluster.

Checks content types, that both formats show the same counters, that OpenMetrics ends as it must, and that promtool finds
nothing to complain about.

Usage: formats.py PROMTOOL. Exit status 1 on a difference.
"""

import argparse
import subprocess

from cluster import main, say, scratch, until
from exporter import Exporter, parse

# The Accept headers of Prometheus 2.42 and of 3.13 when it is told to prefer the text format.
OPENMETRICS = ("application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
               "text/plain;version=0.0.4;q=0.5,*/*;q=0.1")
TEXT = "text/plain;version=0.0.4;q=0.6,*/*;q=0.1"
COUNTER = "exitcode_container_terminations_total"


def series(text):
    """Every series of the exporter's own families, without its value."""
    return {(name, tuple(sorted(labels.items()))) for name, samples in parse(text).items()
            for labels, _ in samples if name.startswith("exitcode_") and not name.endswith("_created")}


def checks(exporter, promtool):
    """What must hold, by name."""
    _, text_headers, text = exporter.fetch("/metrics", {"Accept": TEXT})
    _, open_headers, openmetrics = exporter.fetch("/metrics", {"Accept": OPENMETRICS})
    linted = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
    if linted.returncode != 0 or linted.stderr.strip():
        say("promtool: " + (linted.stdout + linted.stderr).strip())
    before, after = series(text), series(openmetrics)
    return {
        "text has its content type": text_headers["Content-Type"].startswith("text/plain; version=0.0.4"),
        "OpenMetrics has its content type":
            open_headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0"),
        "OpenMetrics ends with # EOF": openmetrics.endswith("\n# EOF\n"),
        "text has no # EOF": "# EOF" not in text,
        "OpenMetrics names the family without _total": f"# TYPE {COUNTER.removesuffix('_total')} counter" in openmetrics,
        "text names the family with _total": f"# TYPE {COUNTER} counter" in text,
        # The demo goes on between the two requests: series may only be added.
        "both show the same series": before <= after and bool(before),
        "promtool is content": linted.returncode == 0 and not linted.stderr.strip(),
    }


def run():
    """Starts the demo and checks its output."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("promtool")
    promtool = parser.parse_args().promtool
    exporter = Exporter(scratch("formats"), ["demo"])
    try:
        until("terminations in the demo", 60, lambda: exporter.fetch("/readyz")[0] == 200 and exporter.sum(COUNTER) > 10)
        found = checks(exporter, promtool)
    finally:
        status = exporter.stop()
    found["the demo ends with 0 on SIGTERM"] = status == 0
    for text, holds in found.items():
        say(f"{'ok' if holds else 'WRONG'}: {text}")
    return 0 if all(found.values()) else 1


if __name__ == "__main__":
    main(run)
