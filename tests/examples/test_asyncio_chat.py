"""examples/asyncio_chat.py as a program on each loop: who hears what, on whose transports, and that nobody waits for who stalls."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys

import pytest
from programs import EXAMPLES, HOST, Service, listening
from support import TIMEOUT
from support.asyncio_loops import each_host

NAMES = {"native": "pybuntcp"}  # of loops: the tests', and the example's
TRANSPORTS = {"native": "pybuntcp._aio.SocketTransport", "asyncio": "asyncio.", "uvloop": "uvloop."}
LIMIT = 65536
LINE = "x" * 900

pytestmark = each_host


@pytest.fixture
def chat(host):
    """The program. That it ends in order is looked at after every test."""
    command = (sys.executable, EXAMPLES / "asyncio_chat.py", "--loop", NAMES.get(host, host), "--limit", str(LIMIT))
    with listening(Service(*command, env={"PYTHONWARNINGS": "always::ResourceWarning"}), "asyncio_chat.py") as program:
        yield program
        said = program.stop()
    assert said.splitlines()[1:] == ["stopped"]
    assert program.exit_code == 0


class Person:
    """A client with a terminal: says lines, hears lines, both bounded in time."""

    def __init__(self, program, receive_buffer=None):
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(TIMEOUT)
        self.socket.connect((HOST, program.port))
        self._lines = self.socket.makefile("rb")
        self.name = self.hear().removeprefix("* you are ")

    def say(self, line):
        self.socket.sendall(line.encode() + b"\n")

    def hear(self):
        """The next line; "" at the end."""
        return self._lines.readline().decode().removesuffix("\n")

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._lines.close()
        self.socket.close()


def test_a_line_is_heard_by_everybody_else(chat):
    with Person(chat) as ada, Person(chat) as bob:
        assert ada.hear() == f"* {bob.name} came in"
        ada.say("grüß dich")
        assert bob.hear() == f"{ada.name}: grüß dich"
        bob.say("/who")
        assert bob.hear().startswith(f"* {ada.name} {bob.name}, by ")


def test_its_connections_are_those_of_the_loop(chat, host):
    with Person(chat) as ada:
        ada.say("/who")
        assert ada.hear().startswith(f"* {ada.name}, by {TRANSPORTS[host]}")


def test_who_leaves_is_missed_by_the_others(chat):
    with Person(chat) as ada:
        with Person(chat) as bob:
            assert ada.hear() == f"* {bob.name} came in"
        assert ada.hear() == f"* {bob.name} has left"


def test_a_thousand_lines_arrive_in_order(chat):
    with Person(chat) as ada, Person(chat) as bob:
        ada.say("\n".join(map(str, range(1000))))
        assert [bob.hear() for _ in range(1000)] == [f"{ada.name}: {number}" for number in range(1000)]


def test_who_does_not_read_is_dropped_and_the_others_hear_everything(chat):
    with Person(chat) as ada, Person(chat) as bob, Person(chat, 4096) as stalled:
        assert [ada.hear(), ada.hear(), bob.hear()] == [
            f"* {bob.name} came in",
            f"* {stalled.name} came in",
            f"* {stalled.name} came in",
        ]
        left = f"* {stalled.name} has left"
        for said in range(100_000):  # in step: each line is heard before the next is said
            ada.say(f"{said} {LINE}")
            heard = [bob.hear()]
            if left in heard:
                heard.append(bob.hear())
            assert f"{ada.name}: {said} {LINE}" in heard
            if left in heard:
                break
        assert left in heard


def test_a_line_without_an_end_closes_its_connection(chat):
    with Person(chat) as ada:
        ada.socket.sendall(b"y" * 3000)
        with contextlib.suppress(ConnectionResetError):  # some of it may be unread
            assert ada.hear() == ""


def test_sigterm_ends_it_in_order(chat):
    with Person(chat) as ada:
        os.kill(chat.pid, signal.SIGTERM)
        assert ada.hear() == ""
    with pytest.raises(EOFError):  # it has ended before the fixture's own signal
        chat.wait_for_line("nothing that it says")


def test_who_does_not_read_does_not_hold_up_the_end(chat):
    with Person(chat) as ada, Person(chat, 4096) as stalled:
        assert ada.hear() == f"* {stalled.name} came in"
        for said in range(40):
            ada.say(f"{said} {LINE}")
        ada.say("/who")
        assert ada.hear().startswith("* ")
        chat.stop()
