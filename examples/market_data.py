"""A market-data fan-out: one producer, a thousand subscribers in another process, and one of them stalls.

    python examples/market_data.py
    python examples/market_data.py --subscribers 200 --ticks 2000 --limit 16384 --stalled 0

A byte that a subscriber sends is an order, and an order moves the market: a burst of ticks for everybody.
Each tick is written once to the sink of every subscriber. What a burst has for one subscriber leaves
together at the end of the turn, in one system call.

Owns the rule for subscribers that do not read: what one of them may cost is its sink's `limit`. The write
that would pass it is refused, and its connection is reset. No subscriber ever waits for another, and all of them
together cost at most subscribers times limit.

The program starts the subscribers itself and ends by itself. They order anew when the healthy ones of them
all have the last burst, so that it goes as fast as the two processes can, and nothing sleeps. It prints what
happened; latencies are from an order to its last tick at a subscriber, all ordered and read in one process.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pybuntcp

TICK = 256  # bytes of a tick
BURST = 5  # ticks of an order
KERNEL_BUFFER = 16384  # what the kernel is asked to keep unsent for each subscriber; the rest is the sink's
SECONDS = 120.0  # more than any run needs: a net, no pace
WELCOME = b"welcome".ljust(TICK - 1) + b"\n"


# --- the producer --------------------------------------------------------------------------------


class Market:
    """The handlers of the subscribers' connections."""

    def __init__(self, ticks: int, limit: int) -> None:
        self.ticks = ticks
        self.limit = limit
        self.sinks: dict[pybuntcp.Socket[None], pybuntcp.SocketSink] = {}
        self.published = 0
        self.most_unsent = 0  # bytes, of all subscribers together, when a burst begins
        self.dropped: list[tuple[int, int]] = []  # the tick refused, and the bytes unsent by then
        self.stream = hashlib.sha256(WELCOME)  # of what every subscriber should get
        self.at_start: dict[str, int] = {}
        self.at_end: dict[str, int] = {}

    def open(self, socket: pybuntcp.Socket[None]) -> None:
        self.sinks[socket] = socket.sink(limit=self.limit)
        self.sinks[socket].write(WELCOME)

    def data(self, socket: pybuntcp.Socket[None], chunk: bytes) -> None:
        """Orders have come in."""
        if not self.at_start:
            print(f"connected: {len(self.sinks)}", flush=True)
            self.at_start = figures()
        for _ in chunk:
            self.trade()

    def close(self, socket: pybuntcp.Socket[None], error: OSError | None) -> None:
        self.sinks.pop(socket, None)

    def trade(self) -> None:
        """An order moves the market: a burst of ticks, until the market closes."""
        self.most_unsent = max(self.most_unsent, pybuntcp.stats()["pending_bytes"])
        for _ in range(min(BURST, self.ticks - self.published)):
            self.published += 1
            self.publish(tick(self.published))
        if self.published == self.ticks and self.sinks:
            self.close_market()

    def publish(self, line: bytes) -> None:
        """Once to every subscriber; who would pass the limit is dropped."""
        self.stream.update(line)
        late = []
        for sink in self.sinks.values():
            try:
                sink.write(line)
            except BufferError:
                late.append(sink)
            except OSError:
                pass  # gone: its `close` comes
        for sink in late:
            self.drop(sink)

    def drop(self, sink: pybuntcp.SocketSink) -> None:
        """The policy. `terminate` frees everything that was kept for this subscriber."""
        self.dropped.append((self.published, sink.pending))
        del self.sinks[sink.socket]
        sink.socket.terminate()

    def close_market(self) -> None:
        """What is pending is still sent; then everybody gets an end of file."""
        for sink in self.sinks.values():
            with contextlib.suppress(OSError):
                sink.end()
        self.sinks.clear()
        self.at_end = figures()


def tick(number: int) -> bytes:
    """A quote with some depth of book, always `TICK` bytes."""
    bid = 10_000 + number * 7919 % 97
    levels = " ".join(f"{bid - level}:{(number + level) % 900 + 100}" for level in range(16))
    return f"{number:08} PYBN {bid} {bid + 1} {levels}".encode()[: TICK - 1].ljust(TICK - 1) + b"\n"


def figures() -> dict[str, int]:
    """The loop's counters, and the memory of this process in bytes where the system tells it."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    memory = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith(("VmRSS", "VmHWM"))}
    return {**pybuntcp.stats(), **memory}


class Report:
    """The handlers of the line on which the other process says what it saw. When it ends, all is over."""

    def __init__(self, listener: pybuntcp.Listener) -> None:
        self.listener = listener
        self.text = b""

    def open(self, socket: pybuntcp.Socket[None]) -> None:
        socket.timeout(SECONDS)

    def data(self, socket: pybuntcp.Socket[None], chunk: bytes) -> None:
        self.text += chunk

    def close(self, socket: pybuntcp.Socket[None], error: OSError | None) -> None:
        self.listener.stop(True)


# --- the subscribers -----------------------------------------------------------------------------


class Seen:
    """What a subscriber has received; its `socket.data`."""

    def __init__(self) -> None:
        self.bytes = 0
        self.digest = hashlib.sha256()


class Subscribers:
    """The handlers of the healthy ones. The first of them is the trader."""

    def __init__(self, count: int, ticks: int) -> None:
        self.count = count
        self.total = TICK * (1 + ticks)
        self.expected = TICK  # bytes that each has when it has everything so far
        self.complete = 0  # how many have
        self.seen: list[Seen] = []
        self.trader: pybuntcp.Socket[Seen] | None = None
        self.ordered = 0.0
        self.latencies: list[float] = []
        self.errors: list[str] = []

    def open(self, socket: pybuntcp.Socket[Seen]) -> None:
        socket.data = Seen()
        self.seen.append(socket.data)
        self.trader = self.trader or socket

    def data(self, socket: pybuntcp.Socket[Seen], chunk: bytes) -> None:
        seen = socket.data
        seen.bytes += len(chunk)
        seen.digest.update(chunk)
        if seen.bytes == self.expected:
            self.complete += 1
            if self.expected > TICK:
                self.latencies.append(time.perf_counter() - self.ordered)
            if self.complete == self.count and self.expected < self.total:
                self.order()

    def order(self) -> None:
        """Everybody has everything: trade."""
        assert self.trader is not None
        self.complete = 0
        self.expected = min(self.expected + TICK * BURST, self.total)
        self.ordered = time.perf_counter()
        self.trader.write(b"!")

    def close(self, socket: pybuntcp.Socket[Seen], error: OSError | None) -> None:
        if error is not None:
            self.errors.append(str(error))

    def connect_error(self, socket: pybuntcp.Socket[Seen], error: OSError) -> None:
        self.errors.append(str(error))

    def report(self) -> dict[str, Any]:
        found = [f"{seen.bytes} {seen.digest.hexdigest()}" for seen in self.seen]
        return {
            "streams": {stream: found.count(stream) for stream in set(found)},
            "latencies": percentiles(self.latencies),
            "errors": self.errors[:5],
        }


def percentiles(values: list[float]) -> dict[str, float]:
    """In milliseconds."""
    ordered = sorted(values) or [0.0]
    ranks = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
    return {name: ordered[round((len(ordered) - 1) * rank)] * 1000 for name, rank in ranks.items()}


def subscribe(options: argparse.Namespace) -> None:
    """The other process: connect everybody, trade, and say on stdout what was seen."""
    subscribers = Subscribers(options.subscribers, options.ticks)
    handlers = pybuntcp.Handlers(subscribers)
    with contextlib.ExitStack() as stalled:
        for _ in range(options.stalled):  # connected, and never read from
            connection = stalled.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", options.subscribe_at))
        for _ in range(options.subscribers):
            pybuntcp.connect(socket=handlers, hostname="127.0.0.1", port=options.subscribe_at)
        pybuntcp.run()  # returns when the market has closed: no connection is left
    print(json.dumps(subscribers.report()))


# --- both together -------------------------------------------------------------------------------


def show(options: argparse.Namespace, market: Market, report: dict[str, Any]) -> None:
    """The figures, one a line."""
    spent = {name: market.at_end[name] - market.at_start[name] for name in ("writes", "bytes_written", "turns")}
    whole = report["streams"].get(f"{TICK * (1 + market.published)} {market.stream.hexdigest()}", 0)
    print(f"ticks: {market.published} of {TICK} bytes, {BURST} an order")
    print(f"sent: {spent['bytes_written']} bytes in {spent['writes']} system calls, {spent['turns']} turns of the loop")
    print(f"healthy: {whole} of {options.subscribers} have every tick, in order")
    print("latency in ms:", ", ".join(f"{name} {value:.2f}" for name, value in report["latencies"].items()))
    for number, unsent in market.dropped:
        print(f"dropped: one at tick {number}, with {unsent} bytes unsent of a limit of {options.limit}")
    print(f"unsent: at most {market.most_unsent} bytes, of all subscribers together, when a burst began")
    if "VmRSS" in market.at_end:
        before, after, most = market.at_start["VmRSS"], market.at_end["VmRSS"], market.at_end["VmHWM"]
        print(f"memory: {before} bytes when all had connected, {after} at the end, {most} at most")
    for error in report["errors"]:
        print("error of a subscriber:", error)


def produce(options: argparse.Namespace) -> None:
    """Listen, start the subscribers, serve until they are gone."""
    market = Market(options.ticks, options.limit)
    listener = pybuntcp.listen(socket=market, hostname="127.0.0.1", port=0, backlog=4096, linger_timeout=5)
    with socket.socket(fileno=os.dup(listener.fd)) as raw:  # the connections inherit it
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER)
    print(f"listening on {listener.hostname}:{listener.port}", flush=True)
    ours, theirs = socket.socketpair()
    report = Report(listener)
    pybuntcp.connect(socket=report, fd=ours.detach())
    command = [sys.executable, __file__, "--subscribe-at", str(listener.port)]
    for name in ("subscribers", "ticks", "stalled"):
        command += [f"--{name}", str(getattr(options, name))]
    with theirs:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=theirs.fileno())
    try:
        pybuntcp.run()
    finally:
        process.terminate()  # it has ended, unless something went wrong
        process.wait()
    if not report.text or not market.at_end:
        raise SystemExit("the subscribers' process did not finish")
    show(options, market, json.loads(report.text))


def allow_descriptors(number: int) -> None:
    """Raise the process's soft limit if it is lower; OSError or ValueError if the hard one is too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < number:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))


def main() -> None:
    parser = argparse.ArgumentParser(description="A market-data fan-out with a subscriber that stalls.")
    parser.add_argument("--subscribers", type=int, default=1000, help="healthy ones")
    parser.add_argument("--stalled", type=int, default=1, help="further ones, that do not read")
    parser.add_argument("--ticks", type=int, default=1000)
    parser.add_argument("--limit", type=int, default=65536, help="bytes that one subscriber may hold unsent")
    parser.add_argument("--subscribe-at", type=int, metavar="PORT", help=argparse.SUPPRESS)  # the other process
    options = parser.parse_args()
    if min(options.subscribers, options.ticks) < 1 or options.stalled < 0 or options.limit < TICK:
        parser.error(f"at least 1 subscriber, 1 tick, and a limit of {TICK} bytes")
    allow_descriptors(options.subscribers + options.stalled + 50)
    if options.subscribe_at:
        subscribe(options)
    else:
        produce(options)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("stopped")
