"""Contract, Process (P1), where threads run at the same time: many loops at work, and sockets used by the wrong thread while they close.

On an interpreter with a GIL these tests pass by taking turns. What they are for is a free-threaded one, which `make matrix`
finds. PYBUNTCP_STRESS_MESSAGES=3300000 makes half a minute of it.
"""

from __future__ import annotations

import gc
import os
import socket as std
import sys
import threading
from typing import Any

import pytest
from support import TIMEOUT

import pybuntcp
from pybuntcp.testing import run_until

HOST = "127.0.0.1"

LOOPS, CONNECTIONS, SIZE = 4, 8, 100
FREE_THREADED = not getattr(sys, "_is_gil_enabled", lambda: True)()
MESSAGES = int(os.environ.get("PYBUNTCP_STRESS_MESSAGES") or (100_000 if FREE_THREADED else 10_000))


class Echo:
    def data(self, socket, chunk):
        socket.write(chunk)


class Client:
    """Sends one message after the other, and compares each answer."""

    def __init__(self, rounds: int) -> None:
        self.rounds, self.faults, self.closed = rounds, 0, 0

    def open(self, socket):
        socket.data = [0, b""]
        socket.write(message(0))

    def data(self, socket, chunk):
        number, held = socket.data
        held += chunk
        if len(held) < SIZE:
            socket.data = [number, held]
            return
        self.faults += held != message(number)
        socket.data = [number + 1, b""]
        if number + 1 == self.rounds:
            socket.end()
        else:
            socket.write(message(number + 1))

    def close(self, socket, error):
        self.faults += error is not None or socket.data[0] != self.rounds
        self.closed += 1


def message(number: int) -> bytes:
    return number.to_bytes(4, "big") * (SIZE // 4)


def total(server: pybuntcp.ListenerThreads, counter: str) -> float:
    return sum(figures[counter] for figures in server.stats())


def in_threads(count: int, work: Any) -> list[threading.Thread]:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    return threads


@pytest.mark.timeout(TIMEOUT + MESSAGES / 10_000)
def test_p1_four_loops_in_four_threads_lose_nothing_while_another_thread_looks_on():
    rounds = MESSAGES // (LOOPS * CONNECTIONS)
    clients = [Client(rounds) for _ in range(LOOPS)]

    def load(number: int) -> None:
        for _ in range(CONNECTIONS):
            pybuntcp.connect(socket=clients[number], hostname=HOST, port=server.port)
        pybuntcp.run()

    with pybuntcp.listen_threads(LOOPS, socket=Echo(), hostname=HOST, port=0) as server:
        loads, seen = in_threads(LOOPS, load), 0
        while any(thread.is_alive() for thread in loads):
            now = total(server, "bytes_read")
            assert now >= seen, "a counter went back"
            seen = now
            gc.collect()
        for thread in loads:
            thread.join()
        sent = LOOPS * CONNECTIONS * rounds * SIZE
        assert (total(server, "bytes_read"), total(server, "bytes_written")) == (sent, sent)
    assert [(client.closed, client.faults) for client in clients] == [(CONNECTIONS, 0)] * LOOPS


VERBS = {
    "write": (lambda socket: socket.write(b"x"), -1),
    "pending": (lambda socket: socket.pending, 0),
    "pause": (lambda socket: socket.pause(), None),
    "bytes_read": (lambda socket: socket.bytes_read, 1),
    "reader": (lambda socket: type(socket.reader()).__name__, "SocketReader"),
    "remote_address": (lambda socket: socket.remote_address, HOST),
}


@pytest.mark.parametrize("verb", VERBS)
def test_p1_a_socket_used_by_another_thread_while_it_closes_is_refused_or_closed(verb):
    """The other thread gets a RuntimeError, or what a closed socket answers, however close to the end it comes."""
    use, closed = VERBS[verb]
    answers: list[Any] = []
    current: list[Any] = [None]
    over = threading.Event()

    def intrude() -> None:
        while not over.is_set():
            socket = current[0]
            if socket is None:
                continue
            try:
                answers.append(use(socket))
            except RuntimeError as error:
                answers.append("was used from thread" in str(error))

    class Brief:
        def open(self, socket):
            current[0] = socket

        def data(self, socket, chunk):
            socket.terminate()

        def close(self, socket, error):
            current[0] = None

    intruder = threading.Thread(target=intrude)
    intruder.start()
    try:
        with pybuntcp.listen(socket=Brief(), hostname=HOST, port=0) as listener:
            listener.unref()
            for number in range(1, 201):
                with std.create_connection((HOST, listener.port)) as peer:
                    run_until(lambda: bool(answers))  # where threads share a GIL, the other one may come late
                    peer.sendall(b"x")
                    run_until(lambda number=number: listener.stats()["accepted"] == number and not listener.connections)
    finally:
        over.set()
        intruder.join()
    assert answers
    assert {repr(answer) for answer in answers} <= {"True", repr(closed)}
