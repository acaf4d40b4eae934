"""A headless Chromium, driven over a pipe by its DevTools protocol; nothing but the standard library."""

import base64
import itertools
import json
import os
import pathlib
import queue
import shutil
import subprocess
import tempfile
import threading
import time

from cluster import Failed

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--remote-debugging-pipe")


class Browser:
    """One browser with one page. Leave the block and it ends."""

    def __init__(self, width=1280, height=900, dark=False, language="en-US"):
        program = shutil.which("chromium") or shutil.which("chromium-browser")
        if not program:
            raise Failed("chromium is not installed")
        self.profile = tempfile.TemporaryDirectory(prefix="pages-", ignore_cleanup_errors=True)
        command = [program, *FLAGS, f"--user-data-dir={self.profile.name}", "about:blank"]
        self.ids, self.answers, self.events = itertools.count(1), {}, queue.Queue()
        self.process, self.write, self.read = start(command)
        threading.Thread(target=self.listen, daemon=True).start()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        self.call("Network.setExtraHTTPHeaders", headers={"Accept-Language": language})
        # What the pages show must not need scripts.
        self.call("Emulation.setScriptExecutionDisabled", value=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.call("Browser.close", browser=True)
            self.process.wait(timeout=10)
        except (Failed, OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait(timeout=10)
        self.profile.cleanup()

    def listen(self):
        """Takes messages, which end with a zero byte, until the browser ends."""
        rest = b""
        while True:
            try:
                piece = os.read(self.read, 1 << 16)
            except OSError:
                return
            if not piece:
                return
            *messages, rest = (rest + piece).split(b"\0")
            for message in map(json.loads, messages):
                if "id" in message:
                    self.answers[message["id"]].put(message)
                else:
                    self.events.put(message)

    def call(self, method, browser=False, **parameters):
        """The result of a command."""
        number = next(self.ids)
        box = self.answers[number] = queue.Queue()
        message = {"id": number, "method": method, "params": parameters}
        if hasattr(self, "session") and not browser:
            message["sessionId"] = self.session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        try:
            answer = box.get(timeout=60)
        except queue.Empty:
            raise Failed(f"the browser does not answer {method}") from None
        finally:
            del self.answers[number]
        if "error" in answer:
            raise Failed(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def open(self, url):
        """Loads a page; what the console and the log said of it, without what is only information."""
        while not self.events.empty():
            self.events.get()
        answer = self.call("Page.navigate", url=url)
        if answer.get("errorText"):
            raise Failed(f"{url}: {answer['errorText']}")
        said, until = [], time.monotonic() + 60
        while True:
            try:
                event = self.events.get(timeout=max(0.1, until - time.monotonic()))
            except queue.Empty:
                raise Failed(f"{url} does not load") from None
            said += complaints(event)
            # Of this page: that of the page before may come late.
            if event["method"] == "Page.lifecycleEvent" and event["params"]["name"] == "load" \
                    and event["params"]["loaderId"] == answer.get("loaderId"):
                break
        # What is refused after the load is said at once.
        time.sleep(0.2)
        while not self.events.empty():
            said += complaints(self.events.get())
        return said

    def value(self, expression):
        """What an expression is in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in result:
            raise Failed(f"{expression}: {result['exceptionDetails']['text']}")
        return result["result"].get("value")

    def text(self):
        """All text that is shown."""
        return self.value("document.body.innerText")

    def screenshot(self, path):
        """A picture of what is in view."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        pathlib.Path(path).write_bytes(base64.b64decode(data))


def start(command):
    """Starts the browser with its pipes at 3 (it reads) and 4 (it writes), where it looks for them."""
    theirs_in, write = os.pipe()
    read, theirs_out = os.pipe()
    # A shell moves them, since 3 and 4 may be taken here.
    shell = ["bash", "-c", f'exec 3<&{theirs_in} 4>&{theirs_out}; exec "$@"', "-", *command]
    process = subprocess.Popen(shell, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               pass_fds=(theirs_in, theirs_out))
    os.close(theirs_in)
    os.close(theirs_out)
    return process, write, read


def complaints(event):
    """What an event says that is no mere information."""
    params = event.get("params", {})
    match event["method"]:
        case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
            return [params["entry"]["text"]]
        case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
            return [str(params["args"])]
        case "Runtime.exceptionThrown":
            return [params["exceptionDetails"]["text"]]
        case "Network.loadingFailed" if not params.get("canceled"):
            return [f"not loaded: {params.get('errorText')} {params.get('blockedReason', '')}"]
    return []
