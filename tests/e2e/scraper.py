"""A real Prometheus that scrapes in several ways at once, each a job."""

import json
import re
import subprocess
import urllib.parse
import urllib.request

from cluster import Failed, end_process
from exporter import free_port


def version(binary):
    """The version of a Prometheus: its major and minor numbers as groups 1 and 2."""
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=20, check=True)
    return re.search(r"version (\d+)\.(\d+)", said.stdout + said.stderr)


class Prometheus:
    """A Prometheus server with these scrape configurations, each with a name of its own."""

    def __init__(self, binary, folder, scrapes, interval=2):
        found = version(binary)
        self.name = f"Prometheus {found[1]}.{found[2]}"
        place = folder / self.name.replace(" ", "-").lower()
        place.mkdir(exist_ok=True)
        config = place / "prometheus.yml"
        config.write_text(json.dumps({
            "global": {"scrape_interval": f"{interval}s", "scrape_timeout": f"{interval}s"},
            "scrape_configs": [{"honor_labels": True, **scrape} for scrape in scrapes]}))
        self.url = f"http://127.0.0.1:{free_port()}"
        with open(place / "log", "wb") as log:
            self.process = subprocess.Popen(
                [binary, f"--config.file={config}", f"--storage.tsdb.path={place / 'data'}",
                 f"--web.listen-address={self.url.removeprefix('http://')}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def get(self, path, **query):
        """The data of an API answer."""
        if self.process.poll() is not None:
            raise Failed(f"{self.name} ended with {self.process.returncode}")
        with urllib.request.urlopen(f"{self.url}{path}?{urllib.parse.urlencode(query)}", timeout=10) as answer:
            return json.load(answer)["data"]

    def targets(self):
        """Health and last error by job, of those that were scraped; nothing while it starts."""
        try:
            found = self.get("/api/v1/targets", state="active")["activeTargets"]
        except OSError:
            return {}
        return {target["labels"]["job"]: (target["health"], target["lastError"])
                for target in found if target["health"] != "unknown"}

    def value(self, query):
        """The first value of a query, or None."""
        found = self.get("/api/v1/query", query=query)["result"]
        return float(found[0]["value"][1]) if found else None

    def stop(self):
        """Ends it."""
        end_process(self.process)
