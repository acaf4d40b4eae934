#!/usr/bin/env python3
"""Clients that mean no good, by the thousand, while a real Prometheus scrapes: it must not miss a scrape, and neither must
a client that comes anew each time, as a Prometheus with a longer interval does.

The exporter runs the demo. One attack after the other, each for some seconds, from many loopback addresses and from one:
idle connections, heads that trickle in, answers that nobody reads, requests with bodies, pipelined requests, TLS and
HTTP/2 where neither is spoken, resets. Meanwhile the exporter's memory and its open files are watched.

Usage: hostile.py PROMETHEUS [--seconds N]. Exit status 1 if a scrape is missed, or a bound is broken.
"""

import argparse
import asyncio
import pathlib
import resource
import socket
import struct
import threading
import time

from cluster import Failed, main, say, scratch, table, until
from exporter import Exporter
from scraper import Prometheus

CONNECTIONS = 256  # the exporter's limit
OTHER_FILES = 64  # its own: the demo's API server and its watches, the log, the runtime
GROWTH = 32 * 1024 * 1024  # bytes of memory that all attacks together may cost
GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
FLOOD = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + 50 * (b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x08"),
    b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: x\r\n" % number for number in range(2000)),
    b"GET /" + b"%2e%2e/" * 5000,
    b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + GET,
    b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n" + bytes(100_000),
    b"GET /runbooks/137?namespace=%ff%00&pod=%3Cscript%3E HTTP/1.1\r\nHost: x\r\n\r\n" * 20,
    GET * 20,
    bytes(1000),
    b"",
]


def address(number):
    """An address of the loopback network."""
    return f"127.0.{1 + number // 200 % 50}.{1 + number % 200}"


async def opened(port, number):
    """A connection, or None if it is refused."""
    sock = socket.socket()
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    try:
        sock.bind((address(number), 0))
        await asyncio.wait_for(asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port)), 5)
        return sock
    except (OSError, asyncio.TimeoutError):
        sock.close()
        return None


async def hold(port, connections, addresses, seconds, first=b"", drip=b""):
    """Opens connections, says something on each, and then a byte a second on each; what is closed is opened again."""
    held, end = [], time.monotonic() + seconds
    for number in range(connections):
        sock = await opened(port, number % addresses)
        if sock is not None:
            held.append(sock)
            say_to(sock, first)
    while time.monotonic() < end:
        for at, sock in enumerate(held):
            if drip and not say_to(sock, drip):
                sock.close()
                held[at] = await opened(port, at % addresses) or sock
                say_to(held[at], first)
        await asyncio.sleep(1)
    for sock in held:
        sock.close()
    return len(held)


def say_to(sock, words):
    """Whether the other side still listens."""
    try:
        return not words or sock.send(words) >= 0
    except BlockingIOError:
        return True
    except OSError:
        return False


def flood(port, seconds, addresses):
    """Connections that say one of many things and are reset, one after the other, in a few threads."""
    end, made = time.monotonic() + seconds, [0]

    def one(worker):
        number = worker
        while time.monotonic() < end:
            number += 4
            try:
                with socket.socket() as sock:
                    sock.settimeout(0.2)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    sock.bind((address(number % addresses), 0))
                    sock.connect(("127.0.0.1", port))
                    sock.sendall(FLOOD[number // 4 % len(FLOOD)])
                    if number % 3 == 0:
                        sock.recv(100)
            except OSError:
                pass
            made[0] += 1
            time.sleep(0.002)  # the machine is Prometheus' too

    workers = [threading.Thread(target=one, args=(worker,), daemon=True) for worker in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return made[0]


class Usage(threading.Thread):
    """The most memory and files that a process had."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.proc, self.done = pathlib.Path(f"/proc/{pid}"), threading.Event()
        self.memory, self.files = self.now()
        self.start()

    def now(self):
        """Resident bytes and open files."""
        pages = int((self.proc / "statm").read_text().split()[1])
        return pages * 4096, len(list((self.proc / "fd").iterdir()))

    def run(self):
        while not self.done.wait(0.1):
            memory, files = self.now()
            self.memory, self.files = max(self.memory, memory), max(self.files, files)


class Newcomer(threading.Thread):
    """Scrapes twice a second from an address of its own, each time over a new connection."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.done, self.good, self.bad = port, threading.Event(), 0, []
        self.start()

    def scrape(self):
        """Why it is no scrape; nothing if it is one."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5, source_address=("127.0.0.99", 0)) as sock:
                sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                answer = b"".join(iter(lambda: sock.recv(1 << 20), b""))
        except OSError as error:
            return str(error)
        good = answer.startswith(b"HTTP/1.1 200 ") and b"\nprocess_virtual_memory_max_bytes " in answer
        return None if good else f"{answer[:40]}"

    def run(self):
        while not self.done.wait(0.5):
            error = self.scrape()
            self.good += error is None
            self.bad += [error] if error else []


def attacks(port, seconds):
    """Name and what to do."""
    trickle = {"first": b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: ", "drip": b"x"}
    return {
        "5,000 idle, from 100 addresses": lambda: asyncio.run(hold(port, 5000, 100, seconds)),
        "5,000 idle, from one address": lambda: asyncio.run(hold(port, 5000, 1, seconds)),
        "500 trickle, from 100 addresses": lambda: asyncio.run(hold(port, 500, 100, seconds, **trickle)),
        "300 do not read, from 20 addresses": lambda: asyncio.run(hold(port, 300, 20, seconds, first=GET * 50, drip=GET)),
        "300 do not read, from one address": lambda: asyncio.run(hold(port, 300, 1, seconds, first=GET * 50, drip=GET)),
        "floods and resets, from 200 addresses": lambda: flood(port, seconds, 200),
        "floods and resets, from one address": lambda: flood(port, seconds, 1),
    }


def run():
    """Attacks, and looks at what Prometheus saw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prometheus", help="a Prometheus binary")
    parser.add_argument("--seconds", type=int, default=12, help="of each attack (default 12)")
    options = parser.parse_args()
    folder = scratch("hostile")
    exporter = Exporter(folder, ["demo"])
    server = None
    try:
        exporter.wait_until_ready()
        target = f"127.0.0.1:{exporter.port}"
        server = Prometheus(options.prometheus, folder, [{"job_name": "exporter", "static_configs": [{"targets": [target]}]}])
        until("the first scrape", 30, lambda: server.targets().get("exporter", ("",))[0] == "up")
        time.sleep(10)  # the demo has begun
        # The attacks hold thousands of connections here; the exporter lives with the limit that it was started with.
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        usage, newcomer, rows = Usage(exporter.process.pid), Newcomer(exporter.port), []
        before, began = usage.memory, time.time()
        for name, attack in attacks(exporter.port, options.seconds).items():
            from_ = time.time()
            made = attack()
            window = max(4, int(time.time() - from_))
            scrapes, least, slowest = (server.value(f"{what}[{window}s]))") for what in (
                "sum(count_over_time(up", "min(min_over_time(up", "max(max_over_time(scrape_duration_seconds"))
            if not scrapes or scrapes < window // 2 - 2:
                raise Failed(f"{name}: {scrapes} scrapes in {window} s, and one is made every 2 s")
            rows.append((name, made, scrapes, least, f"{slowest:.2f} s",
                         f"{newcomer.good} and {len(newcomer.bad)}", f"{usage.now()[0] / 2**20:.1f} MB", usage.files))
        usage.done.set()
        newcomer.done.set()
        print(table(rows, ("attack", "connections", "scrapes", "least up", "slowest", "new: good and failed", "memory", "files so far")))
        missed = server.value(f"count_over_time((up == 0)[{int(time.time() - began) + 2}s:1s])") or 0
        grown = usage.memory - before
        say(f"memory {before / 2**20:.1f} MB before, {usage.memory / 2**20:.1f} MB at most, {usage.now()[0] / 2**20:.1f} MB after")
        wrong = {
            f"{missed:.0f} scrapes failed": missed > 0,
            f"{len(newcomer.bad)} new connections failed, the first with {newcomer.bad[:1]}": bool(newcomer.bad) or newcomer.good < 20,
            f"it grew by {grown / 2**20:.0f} MB": grown > GROWTH,
            f"it had {usage.files} files open": usage.files > CONNECTIONS + OTHER_FILES,
            "it ended": exporter.process.poll() is not None,
        }
    finally:
        for thing in (server, exporter):
            if thing is not None:
                thing.stop()
    found = [what for what, broken in wrong.items() if broken]
    say(f"FAILED: {'; '.join(found)}; logs in {folder}" if found else "no scrape was missed, and every bound held")
    return 1 if found else 0


if __name__ == "__main__":
    main(run)
