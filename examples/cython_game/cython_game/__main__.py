"""A game for as many players as you like: the server, and in a second process the players.

    python -m cython_game
    python -m cython_game --players 50 --seconds 2 --hz 120 --stalled 1

The game begins when all have joined, and ends by itself or at Ctrl-C, with figures. This file starts
processes and prints; what happens in the game is in server.pyx, and what the players check in players.pyx.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from typing import Any

import pybuntcp

from .players import Players
from .server import Game

KERNEL_BUFFER = 65536  # what the kernel is asked to keep unsent for each player: states of a quarter of a second


class Report:
    """The handlers of the line on which the players say what they saw. When it ends, all is over."""

    def __init__(self, listener: pybuntcp.Listener, switch: socket.socket) -> None:
        self.listener = listener
        self.switch = switch
        self.text = b""

    def data(self, socket: pybuntcp.Socket[None], chunk: bytes) -> None:
        self.text += chunk

    def close(self, socket: pybuntcp.Socket[None], error: OSError | None) -> None:
        self.switch.close()
        self.listener.stop(True)


def serve(options: argparse.Namespace) -> None:
    """Listen, start the players, run the game."""
    game = Game(
        players=options.players + options.stalled, hz=options.hz, ticks=max(round(options.seconds * options.hz), 1)
    )
    listener = pybuntcp.listen(
        socket=game.player_handlers(), hostname=options.host, port=options.port, backlog=4096, linger_timeout=5
    )
    with socket.socket(fileno=os.dup(listener.fd)) as raw:  # the connections inherit it
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER)
    print(f"listening on {listener.hostname}:{listener.port}", flush=True)
    clock, switch = socket.socketpair()
    pybuntcp.connect(socket=game.clock_handlers(), fd=clock.detach())
    line, theirs = socket.socketpair()
    report = Report(listener, switch)
    pybuntcp.connect(socket=report, fd=line.detach())
    with listener, switch, start_players(options, listener, theirs) as players:
        try:
            pybuntcp.run()
        except KeyboardInterrupt:
            switch.close()  # the clock ends, and with it the game
            pybuntcp.run()
        finally:
            players.terminate()  # they have ended, unless something went wrong
    if not report.text:
        raise SystemExit("the players' process did not finish")
    show(options, game.figures(), json.loads(report.text))


def start_players(
    options: argparse.Namespace, listener: pybuntcp.Listener, line: socket.socket
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", __package__, "--host", options.host, "--play-at", str(listener.port)]
    command += ["--players", str(options.players), "--stalled", str(options.stalled)]
    with line:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=line.fileno())


def show(options: argparse.Namespace, figures: dict[str, Any], seen: dict[str, int]) -> None:
    """The figures, one a line."""
    ticks = figures["ticks"]
    print(f"ticks: {ticks} at {options.hz} Hz, {figures['missed']} missed")
    print(
        f"players: {seen['complete']} of {options.players} had every tick up to {seen['up_to']}, {seen['moved']} moved"
    )
    print(f"slow: {figures['skipped']} states skipped, {figures['dropped']} players dropped")
    print(
        f"checked: {seen['states']} states, {seen['gaps']} missing, {seen['wrong']} wrong, {seen['failed']} refused or cut"
    )
    print(f"inputs: {figures['inputs']} heard of {seen['inputs']}")
    calls = figures["writes"]
    print(f"sent: {figures['bytes_written']} bytes in {calls} system calls, {calls / max(ticks, 1):.1f} a tick")
    print(f"loop: {figures['turns']} turns, the GIL taken in {figures['gil_takes']}")
    print("jitter in ms:", percentiles(figures["late"]))
    print("tick in ms:", percentiles(figures["took"]))


def percentiles(values: list[float]) -> str:
    ordered = sorted(values) or [0.0]
    ranks = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return ", ".join(f"{name} {ordered[round((len(ordered) - 1) * rank)]:.3f}" for name, rank in ranks.items())


def play(options: argparse.Namespace) -> None:
    """The other process: everybody joins, plays until the server ends it, and it is said on stdout what they saw."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the server; its end is ours
    players = Players()
    handlers = players.handlers()
    with contextlib.ExitStack() as stalled:
        for _ in range(options.stalled):  # connected, and never read from
            connection = stalled.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect((options.host, options.play_at))
        for _ in range(options.players):
            pybuntcp.connect(socket=handlers, hostname=options.host, port=options.play_at)
        pybuntcp.run()  # returns when no connection is left
    print(json.dumps(players.report()))


def allow_descriptors(number: int) -> None:
    """Raise the process's soft limit if it is lower; OSError or ValueError if the hard one is too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < number:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m cython_game", description="A game server under load.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0, the default, lets the system choose")
    parser.add_argument("--players", type=int, default=500)
    parser.add_argument("--stalled", type=int, default=0, help="further ones, that do not read")
    parser.add_argument("--hz", type=int, default=60, help="ticks a second")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--play-at", type=int, metavar="PORT", help=argparse.SUPPRESS)  # the other process
    options = parser.parse_args()
    if (
        not (1 <= options.players <= options.players + options.stalled <= 4096)
        or not 1 <= options.hz <= 1000
        or options.seconds <= 0
    ):
        parser.error("1 to 4096 players, 1 to 1000 ticks a second, and some time")
    allow_descriptors(options.players + options.stalled + 50)
    if options.play_at:
        play(options)
    else:
        serve(options)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("stopped")
