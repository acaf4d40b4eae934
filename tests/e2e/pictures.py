#!/usr/bin/env python3
"""Draws the main panels of the dashboards to docs/images: their own queries, answered by a real Prometheus on the demo.

Needs Prometheus and Chromium. The pictures are drawings of the answers, not photographs of Grafana, and say so.

  pictures.py PROMETHEUS                     runs the demo for some minutes and draws
  pictures.py --server http://localhost:9090 draws what a server of yours has, with the shipped rules loaded there
"""

import argparse
import pathlib
import shutil
import subprocess
import tempfile
import time
import urllib.parse

import drawing
from cluster import PROJECT, Failed, main, say, scratch
from grafana import WORKLOADS, Prometheus, Stage, dashboards, filled

STEP = 15  # seconds between the points of a drawing

# Which panels of which dashboard, and how many rows of a table.
PICTURES = {
    "overview": ("overview.json", ["Unexpected ends, 30 min", "Workloads affected", "Exit code 137, 30 min", "New since yesterday",
                                   "Alerts firing", "Exporter", "Restarts by exit code", "Ends by cause", "Worst workloads now"], 9),
    "exit-code-137": ("exit-code-137.json", ["Memory limit", "Node out of memory", "Probes", "Outlived its grace period",
                                             "Pod moved or ended", "Somebody unknown", "137 by cause", "Who was killed"], 9),
}


class Asked(Prometheus):
    """A server that somebody else runs."""

    def __init__(self, url):
        self.name, self.port = url, urllib.parse.urlsplit(url).port

    def stop(self):
        pass


def draw(server, name, seconds):
    """One page: HTML of the panels' answers."""
    file, titles, rows = PICTURES[name]
    dashboard = dashboards()[file]
    panels = [next(panel for panel in dashboard["panels"] if panel["title"] == title) for title in titles]
    last = int(time.time()) // STEP * STEP
    colors, drawn = drawing.Colors(), []
    for panel in panels:
        answers = [(target, server.ask("instant" if target["instant"] else "range", filled(target["expr"], dashboard, WORKLOADS[0]),
                                       seconds=seconds, step=STEP, at=last)) for target in panel["targets"]]
        if panel["type"] == "stat":
            inner = drawing.stat(panel, answers)
        elif panel["type"] == "table":
            inner = drawing.table(panel, answers, rows)
        else:
            width = panel["gridPos"]["w"] * 1244 // 24 - 26
            inner = drawing.timeseries(panel, answers, colors, (last - seconds, last, STEP), width, 232 if name != "overview" else 190)
        drawn.append((panel, inner))
    note = (f"Drawn from the queries of dashboards/{file} by tests/e2e/pictures.py: a real Prometheus on exitcode-exporter demo, "
            f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime(last))} UTC. Grafana draws them its own way.")
    return drawing.page(dashboard, name, note, drawn)


def photograph(text, picture, height, folder):
    """The page as a picture, by a headless Chromium with a profile of its own."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        raise Failed("there is no Chromium: apt-get install chromium")
    file = folder / f"{picture.stem}.html"
    file.write_text(text, encoding="utf-8")
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
             "--disable-background-networking", "--disable-component-update", f"--user-data-dir={profile}", "--hide-scrollbars",
             "--force-device-scale-factor=1.25", f"--window-size=1280,{height}", f"--screenshot={picture}", file.as_uri()],
            check=True, timeout=90, capture_output=True)
    say(f"{picture}: {picture.stat().st_size / 1024:.0f} KB")


def run():
    """Draws all pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prometheus", nargs="?", help="a Prometheus binary")
    parser.add_argument("--server", metavar="URL", help="a Prometheus that runs")
    parser.add_argument("--minutes", type=float, default=15, help="how long the demo runs before it is drawn, and how much is drawn")
    parser.add_argument("--out", type=pathlib.Path, default=PROJECT / "docs" / "images")
    options = parser.parse_args()
    if not options.prometheus and not options.server:
        parser.error("name a Prometheus binary or a --server")
    folder = scratch("pictures")
    stage = None if options.server else Stage(folder, [options.prometheus])
    try:
        if stage:
            time.sleep(options.minutes * 60)
        server = Asked(options.server) if options.server else stage.servers[0]
        options.out.mkdir(parents=True, exist_ok=True)
        seconds = max(4 * STEP, int(options.minutes * 60) // STEP * STEP)
        for name in PICTURES:
            height = {"overview": 704, "exit-code-137": 452}[name]
            photograph(draw(server, name, seconds), (options.out / f"dashboard-{name}.png").resolve(), height, folder)
    finally:
        if stage:
            stage.stop()
    return 0


if __name__ == "__main__":
    main(run)
