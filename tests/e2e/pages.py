#!/usr/bin/env python3
"""The pages in a real Chromium: what is shown, in English and Korean, on a desktop and on a phone, without scripts.

    tests/e2e/pages.py [--pictures FOLDER]

The exporter's demo gives the terminations. --pictures writes the screenshots that the README shows.
"""

import argparse
import contextlib
import http.server
import json
import os
import pathlib
import sys
import tempfile
import threading
import urllib.parse

from browser import Browser
from cluster import Failed, until
from exporter import Exporter

PHONE = {"width": 390, "height": 844}


def check(condition, text):
    """Fails with the text unless the condition holds."""
    if not condition:
        raise Failed(text)


def shown(browser, url, *expected):
    """Opens a page and looks for texts in it, and for anything that the browser did not like."""
    said = browser.open(url)
    check(not said, f"{url}: the browser says {said}")
    text = browser.text()
    for part in expected:
        check(part in text, f"{url} does not show {part!r}, but:\n{text[:3000]}")
    overflow = browser.value("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    check(overflow <= 0, f"{url}: the page is {overflow} px wider than the window")
    return text


class Odd(http.server.BaseHTTPRequestHandler):
    """A page that breaks its own policy: the check itself must see that."""

    def do_GET(self):  # noqa: N802 (the name is the library's)
        body = b"<!DOCTYPE html><p style='color:red'>x</p><link rel=stylesheet href=/x.css>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Security-Policy", "default-src 'none'")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Says nothing."""


def the_check_sees_violations(browser):
    """A page that its policy stops must be complained of."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Odd)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    said = browser.open(f"http://127.0.0.1:{server.server_port}/")
    server.shutdown()
    check(any("Content Security Policy" in text for text in said), f"a violated policy was not seen: {said}")


def last(exporter, cause, code):
    """The newest termination of a cause with a code, once there is one."""
    found = []

    def seen():
        status, _, text = exporter.fetch(f"/api/v1/terminations?cause={cause}&exit_code={code}&limit=1")
        found[:] = json.loads(text)["terminations"] if status == 200 else []
        return bool(found)

    until(f"a termination by {cause}", 120, seen, every=1)
    return found[0]


def every_page(browser, url):
    """All pages in both languages load without complaint."""
    shown(browser, f"{url}/runbooks/?lang=ko", "런북", "종료 코드 137")
    shown(browser, f"{url}/runbooks/?lang=en", "Runbooks", "Exit code 137")
    names = browser.value("[...document.querySelectorAll('.books a')].map(a => a.href.split('/').pop().split('?')[0])")
    check(len(names) == 17, f"the index shows {names}")
    for name in names:
        shown(browser, f"{url}/runbooks/{name}?lang=en", "What it means", "Check that it is solved")
        shown(browser, f"{url}/runbooks/{name}?lang=ko", "무슨 뜻인가", "해결됐는지 확인")


def desktop(exporter, end, pictures):
    """The overview, the way from there to a runbook, the language."""
    with Browser(height=860) as browser:
        the_check_sees_violations(browser)
        every_page(browser, exporter.url)
        shown(browser, exporter.url + "/", "Why containers ended", "ready", "exit code")
        check(browser.value("document.querySelectorAll('table.ends tbody tr').length") > 10, "the overview shows no terminations")
        browser.screenshot(pictures / "overview.png")
        link = browser.value(
            "[...document.querySelectorAll('table.ends a')].find(a => a.textContent == 'liveness_probe')?.href || ''")
        check("/runbooks/" in link and "#liveness_probe" in link, f"the overview links to {link!r}")
        text = shown(
            browser, exporter.url + end["runbook"], "Exit code 137", "Liveness probe", "Its last ends",
            f"kubectl logs -n {end['namespace']} {end['workload']}-")
        check("NAMESPACE" not in text and "WORKLOAD" not in text, "a placeholder is left in a page with all names")
        top = "document.querySelector(':target').closest('h2').getBoundingClientRect().top"
        until("the link's section at the top", 10, lambda: 0 <= browser.value(top) < 100)
        browser.screenshot(pictures / "runbook-137.png")
        page = exporter.url + end["runbook"].split("#")[0]
        shown(browser, page, "The cause of its last end here was")
        bad = urllib.parse.quote("x;reboot")
        text = shown(browser, f"{exporter.url}/runbooks/137?namespace={bad}", "not a valid Kubernetes name", "-n NAMESPACE")
        check("reboot" not in text.split("What it means")[0], "a refused parameter is shown")
    with Browser(dark=True) as browser:
        shown(browser, page, "Exit code 137")
        background = browser.value("getComputedStyle(document.body).backgroundColor")
        check(background != "rgb(255, 255, 255)", f"dark mode shows {background}")


def phone(exporter, end, pictures):
    """The same on a phone of somebody who reads Korean."""
    with Browser(**PHONE, language="ko-KR,ko;q=0.9,en;q=0.8") as browser:
        page = exporter.url + end["runbook"].split("#")[0]
        shown(browser, page, "종료 코드 137", "활성 프로브", f"kubectl logs -n {end['namespace']} {end['workload']}-")
        check(browser.value("document.documentElement.lang") == "ko", "the page is not marked as Korean")
        size = browser.value("parseFloat(getComputedStyle(document.body).fontSize)")
        check(size >= 16, f"text of {size} px is too small for a phone")
        browser.screenshot(pictures / "runbook-137-ko-phone.png")
        shown(browser, exporter.url + "/", "Why containers ended")
        every_page(browser, exporter.url)


def main():
    """Runs all; says what is wrong and ends with 1 if something is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=pathlib.Path)
    options = parser.parse_args()
    folder = pathlib.Path(os.environ.get("EXITCODE_E2E_OUTPUT") or tempfile.mkdtemp(prefix="pages-"))
    pictures = options.pictures or folder
    exporter = Exporter(folder, ["demo"], name="pages-demo")
    try:
        exporter.wait_until_ready()
        end = last(exporter, "liveness_probe", 137)
        until("enough terminations", 60, lambda: exporter.sum("exitcode_container_terminations_total") > 60, every=1)
        desktop(exporter, end, pictures)
        phone(exporter, end, pictures)
    except Failed as failure:
        print(f"FAILED: {failure}")
        return 1
    finally:
        exporter.process.terminate()
        with contextlib.suppress(Exception):
            exporter.process.wait(timeout=10)
    print(f"17 runbooks in two languages, desktop and phone; pictures in {pictures}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
