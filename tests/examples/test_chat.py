"""examples/chat.py as a process of its own: rooms, names, and what a slow client costs the others (nothing)."""

from __future__ import annotations

import socket

import pytest
from programs import HOST, MEGABYTE, example, peak_memory
from support import TIMEOUT

LINE = "x" * 900
ENOUGH = 500_000  # lines; far more than any kernel keeps for a client


@pytest.fixture
def chat():
    with example("chat.py", "--port", "0", "--patience", "60") as program:
        yield program


@pytest.fixture
def impatient_chat():
    with example("chat.py", "--port", "0", "--patience", "2") as program:
        yield program


class Person:
    """A client with a terminal: says lines, hears lines, both bounded in time."""

    def __init__(self, program, name, receive_buffer=None):
        self.name = name
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(TIMEOUT)
        self.socket.connect((HOST, program.port))
        self._lines = self.socket.makefile("rb")
        assert self.hear().startswith("* you are guest")
        self.say(f"/nick {name}")
        assert self.hear().endswith(f"is now {name}")

    def say(self, line):
        self.socket.sendall(line.encode() + b"\n")

    def hear(self):
        """The next line; "" at the end."""
        return self._lines.readline().decode().removesuffix("\n")

    def hear_until(self, part):
        """Lines up to one with `part`, that one included."""
        heard = []
        while not heard or part not in heard[-1]:
            heard.append(self.hear())
            assert heard[-1], f"{self.name} heard no {part!r}, only {heard[-5:]}"
        return heard

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._lines.close()
        self.socket.close()


def test_a_line_is_heard_by_the_others_of_the_room(chat):
    with Person(chat, "alice") as alice, Person(chat, "bob") as bob:
        alice.hear_until("is now bob")
        alice.say("hello")
        assert bob.hear() == "alice: hello"
        bob.say("grüß dich")
        assert alice.hear() == "bob: grüß dich"


def test_rooms_do_not_hear_each_other(chat):
    with Person(chat, "alice") as alice, Person(chat, "bob") as bob, Person(chat, "carol") as carol:
        alice.say("/join garden")
        assert alice.hear_until("you are in")[-1] == "* you are in garden: alice"
        carol.say("/join garden")
        assert alice.hear() == "* carol came in"
        assert carol.hear_until("you are in")[-1].endswith("alice, carol")
        bob.hear_until("carol went to garden")
        alice.say("only for carol")
        assert carol.hear() == "alice: only for carol"
        bob.say("/who")
        assert bob.hear() == "* in lobby: bob"


def test_a_name_is_one_persons(chat):
    with Person(chat, "alice"), Person(chat, "bob") as bob:
        bob.say("/nick alice")
        assert bob.hear() == "* alice is taken"
        bob.say("/nick not a name")
        assert "letters and digits" in bob.hear()


def test_leaving_is_told_to_the_room_however_it_happens(chat):
    with Person(chat, "alice") as alice:
        with Person(chat, "bob") as bob:
            bob.say("/quit")
            assert bob.hear_until("left")[-1] == "* bob left"
            assert bob.hear() == ""
        assert alice.hear_until("left")[-1] == "* bob left"
        with Person(chat, "carol"):
            pass
        assert alice.hear_until("left")[-1] == "* carol left"


def test_commands_that_do_not_exist_are_told(chat):
    with Person(chat, "alice") as alice:
        alice.say("/dance")
        assert alice.hear().startswith("* there is no /dance")


def test_control_characters_do_not_reach_other_terminals(chat):
    with Person(chat, "alice") as alice, Person(chat, "bob") as bob:
        alice.say("\x1b[2Jboo\x07")
        assert bob.hear() == "alice: [2Jboo"


def test_a_line_without_an_end_is_refused(chat):
    with Person(chat, "alice") as alice:
        alice.socket.sendall(b"y" * 5000)
        assert alice.hear() == "* alice was dropped: a line too long"
        assert alice.hear() == ""


def test_a_stalled_client_is_dropped_with_a_notice_and_the_others_hear_everything(impatient_chat):
    chat = impatient_chat
    before = peak_memory(chat)
    with Person(chat, "alice") as alice, Person(chat, "bob") as bob, Person(chat, "carol", 4096) as carol:
        bob.hear_until("is now carol")
        said = 0
        heard = ""
        while "dropped" not in heard:  # in step: each line is at bob's before the next is said
            alice.say(f"{said} {LINE}")
            heard = bob.hear()
            assert heard in (f"alice: {said} {LINE}", "* carol was dropped: too slow")
            said += 1
            assert said < ENOUGH
        alice.say("/who")
        assert alice.hear_until("in lobby")[-1] == "* in lobby: alice, bob"
        got = carol.hear_until("dropped")
        assert got[-1] == "* carol was dropped: too slow"
        assert got[:-1] == [f"alice: {number} {LINE}" for number in range(len(got) - 1)]
        assert carol.hear() == ""
    assert peak_memory(chat) - before < 4 * MEGABYTE


def test_a_client_that_catches_up_is_told_what_it_missed(chat):
    with Person(chat, "alice") as alice, Person(chat, "carol", 4096) as carol:
        alice.hear_until("is now carol")
        said = 0
        while said < ENOUGH:
            alice.say(f"{said} {LINE}")
            said += 1
            alice.say("/who")
            if "carol (behind)" in alice.hear():
                break
        for _ in range(3):
            alice.say("missed")
        alice.say("/who")
        assert "carol (behind)" in alice.hear()
        got = carol.hear_until("missed")
        assert got == [*[f"alice: {number} {LINE}" for number in range(said)], "* you were slow and missed 3 lines"]
        alice.say("welcome back")
        assert carol.hear() == "alice: welcome back"
