"""examples/cython_game, built by its own backend: every player gets every tick, a slow one costs nobody anything.

No test looks at how long anything took: figures of time are only there, and in order.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import struct
import sys
from pathlib import Path

import pytest
from programs import EXAMPLES, HOST, Service, installed_example
from support import TIMEOUT, linux_only, packages

pytestmark = pytest.mark.timeout(300)  # the first test builds it

HEADER = struct.Struct("=III")  # size of the state, your id, your last input heard
STATE = struct.Struct("=III")  # tick, count, sum
ENTRY = struct.Struct("=Iff")  # id, x, y
INPUT = struct.Struct("=Ihh")  # number, push x, push y
FOR_EVER = ("--seconds", "1000")


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    """The folder that it is installed in."""
    target = tmp_path_factory.mktemp("cython-game")
    packages.install(EXAMPLES / "cython_game", target, tmp_path_factory.mktemp("cython-game-build"))
    return target


def start(package, *arguments):
    program = Service(sys.executable, "-m", "cython_game", *arguments, env={"PYTHONPATH": str(package)})
    program.name = "cython_game"
    return program


def wait_for_the_end(program):
    with pytest.raises(EOFError):
        program.wait_for_line("nothing that it says")
    return program.stop()


def figures_of(said):
    """The numbers that it printed, by the word that their line begins with."""
    lines = (line.partition(":") for line in said.splitlines())
    return {name: [float(word) for word in re.findall(r"(?<!p)\b\d+(?:\.\d+)?", rest)] for name, _, rest in lines}


def play(package, *arguments):
    """The figures of a whole game."""
    with start(package, *arguments) as program:
        figures = figures_of(wait_for_the_end(program))
    assert program.exit_code == 0
    return figures


def sent_bytes(ticks, told, count):
    """That many ticks to `told` players, of a state with `count` of them."""
    return ticks * told * (HEADER.size + STATE.size + count * ENTRY.size)


# --- whole games ---------------------------------------------------------------------------------


def test_five_hundred_players_get_every_tick_and_move(package):
    figures = play(package, "--players", "500", "--seconds", "1")
    assert figures["joined"] == [500]
    assert figures["ticks"][:2] == [60, 60]
    assert figures["players"] == [500, 500, 60, 500]  # of 500 had every tick up to 60, moved
    assert figures["slow"] == [0, 0]
    assert figures["checked"] == [60 * 500, 0, 0, 0]  # states, missing, wrong, failed connections
    assert figures["inputs"] == [60 * 500, 60 * 500]


def test_a_tick_is_one_system_call_for_each_player_and_takes_no_gil(package):
    figures = play(package, "--players", "40", "--seconds", "1.5")
    assert figures["sent"] == [sent_bytes(90, 40, 40), 90 * 40, 40]
    _turns, gil_takes = figures["loop"]
    assert gil_takes == 0


def test_a_game_of_one_may_be_fast(package):
    figures = play(package, "--players", "1", "--hz", "1000", "--seconds", "0.5")
    assert figures["players"] == [1, 1, 500, 1]
    assert figures["checked"] == [500, 0, 0, 0]


def test_a_state_too_large_to_be_gathered_is_one_system_call_too(package):
    figures = play(package, "--players", "1500", "--hz", "20", "--seconds", "0.5")
    assert figures["players"][:3] == [1500, 1500, 10]
    assert figures["sent"] == [sent_bytes(10, 1500, 1500), 10 * 1500, 1500]


def test_the_times_are_told(package):
    figures = play(package, "--players", "5", "--seconds", "0.5")
    for name in ("jitter in ms", "tick in ms"):
        p50, p99, most = figures[name]
        assert 0 <= p50 <= p99 <= most


def test_players_that_do_not_read_are_dropped_and_the_others_get_every_tick(package):
    figures = play(package, "--players", "50", "--stalled", "3", "--hz", "500", "--seconds", "2.4")
    assert figures["players"][:3] == [50, 50, 1200]
    assert figures["slow"] == [3 * 500, 3]  # each after a second of states that it was not sent
    assert figures["checked"] == [50 * 1200, 0, 0, 0]


def test_ctrl_c_ends_the_game_in_order(package):
    with start(package, "--players", "20", *FOR_EVER) as program:
        program.wait_for_line("joined: 20")
        figures = figures_of(program.stop())
    ticks = figures["ticks"][0]
    assert program.exit_code == 0
    assert figures["players"][:3] == [20 if ticks else 0, 20, ticks]
    assert figures["checked"] == [ticks * 20, 0, 0, 0]


@linux_only
def test_ctrl_c_in_a_terminal_reaches_both_processes_and_is_the_server_s(package):
    with start(package, "--players", "20", *FOR_EVER) as program:
        other = players_of(program)
        os.kill(other, signal.SIGINT)
        figures = figures_of(program.stop())
        assert not Path(f"/proc/{other}").exists()
    assert program.exit_code == 0
    assert figures["checked"][1:] == [0, 0, 0]


@linux_only
def test_it_says_so_when_the_players_process_dies(package):
    with start(package, "--players", "20", *FOR_EVER) as program:
        os.kill(players_of(program), signal.SIGKILL)
        program.wait_for_line("the players' process did not finish")
        wait_for_the_end(program)
    assert program.exit_code == 1


def players_of(program):
    """The pid of the other process, once all of its players are there."""
    children = Path(f"/proc/{program.pid}/task/{program.pid}/children")
    if not children.exists():
        pytest.skip("this kernel does not tell the children of a process")
    program.wait_for_line("joined: 20")
    return int(children.read_text())


@pytest.mark.parametrize(
    "wrong", [("--players", "0"), ("--players", "5000"), ("--hz", "0"), ("--hz", "1001"), ("--seconds", "0")]
)
def test_what_makes_no_sense_is_refused(package, wrong):
    with start(package, *wrong) as program:
        program.wait_for_line("1 to 4096 players, 1 to 1000 ticks a second, and some time")
        wait_for_the_end(program)


# --- a player by hand ----------------------------------------------------------------------------


class Guest:
    """A player that does as the test says."""

    def __init__(self, port):
        self._sock = socket.create_connection((HOST, port), TIMEOUT)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._states = self._sock.makefile("rb")

    def push(self, number, x, y, pieces=1):
        data = INPUT.pack(number, x, y)
        for at in range(0, len(data), len(data) // pieces):
            self._sock.sendall(data[at : at + len(data) // pieces])

    def next(self):
        """What is heard of it, the tick, and the positions by id, of which its own is also the last result."""
        size, you, heard = HEADER.unpack(self._read(HEADER.size))
        state = self._read(size)
        tick, count, _ = STATE.unpack_from(state)
        assert size == STATE.size + count * ENTRY.size
        positions = {id: (x, y) for id, x, y in ENTRY.iter_unpack(state[STATE.size :])}
        assert len(positions) == count
        return heard, tick, positions, positions[you]

    def push_and_move(self, pieces=1):
        """Five inputs along one axis are heard, and then it moves along that axis alone."""
        _, _, _, (x, _) = self.next()
        direction = 32767 if x < 500 else -32768
        for number in range(1, 6):
            self.push(number, direction, 0, pieces)
        _, _, _, (start_x, start_y) = self.next_that(lambda heard, *_: heard == 5)
        _, _, _, (_, y) = self.next_that(lambda heard, tick, all, me: (me[0] - start_x) * direction > 10 * 32768)
        assert y == start_y

    def next_that(self, condition):
        """The first state for which it holds; ticks follow each other up to there."""
        state = self.next()
        for _ in range(500):
            if condition(*state):
                return state
            following = self.next()
            assert following[1] == state[1] + 1
            state = following
        raise AssertionError(f"500 states, and it did not come to that: {state}")

    def _read(self, size):
        data = self._states.read(size)
        if len(data) < size:
            raise EOFError
        return data

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self):
        self._states.close()
        self._sock.close()


@pytest.fixture
def port(package):
    """Of a game that goes on, fast, with one other player."""
    with installed_example("cython_game", package, "--players", "1", "--hz", "250", *FOR_EVER) as program:
        program.wait_for_line("joined: 1")
        yield program.port


@pytest.mark.parametrize("pieces", [1, 2, 4, 8])
def test_an_input_is_heard_however_it_is_cut(port, pieces):
    with Guest(port) as guest:
        guest.push_and_move(pieces)


def test_inputs_in_one_segment_are_all_heard(port):
    with Guest(port) as guest:
        guest._sock.sendall(b"".join(INPUT.pack(number, 0, 0) for number in range(1, 1001)))
        guest.next_that(lambda heard, *_: heard == 1000)


@pytest.mark.parametrize("number", [0, 1, 3])
def test_an_input_that_does_not_follow_the_last_one_ends_the_connection(port, number):
    with Guest(port) as guest:
        guest.push(1, 0, 0)
        guest.next_that(lambda heard, *_: heard == 1)
        guest.push(number, 0, 0)
        with pytest.raises((EOFError, ConnectionResetError)):
            guest.next_that(lambda *_: False)


def test_who_comes_and_goes_is_seen_by_the_others(port):
    with Guest(port) as first:
        before = set(first.next()[2])
        with Guest(port) as second, Guest(port) as third:
            _, _, there, _ = third.next_that(lambda heard, tick, all, me: len(all) == 4)
            assert before < set(there)
            second.next()
        first.next_that(lambda heard, tick, all, me: set(all) == before)


def test_who_takes_the_place_of_one_that_left_plays_on(port):
    with Guest(port) as first, Guest(port) as last:
        last.next_that(lambda heard, tick, all, me: len(all) == 3)
        first.close()
        last.next_that(lambda heard, tick, all, me: len(all) == 2)
        last.push_and_move()
