"""The timing wheel under random use: nothing early, nothing lost, nothing twice.

Each socket is armed, re-armed and cleared at random while others ring; a model in Python says
what must have rung when the last deadline is over.
"""

from __future__ import annotations

import random
import time

import pytest
from support import LATE, Recorder, metronome

SOCKETS = 120


class Model:
    """What `timeout` should do, kept beside what it does."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.due: dict = {}
        self.complaints: list[str] = []
        self.rung = 0

    def arm(self, socket, most: float) -> None:
        seconds = self.dice.choice([0.0005, 0.001, 0.063, 0.064, 0.065, most * self.dice.random()])
        self.due[socket] = time.monotonic() + seconds
        socket.timeout(seconds)

    def clear(self, socket) -> None:
        self.due.pop(socket, None)
        socket.timeout(0)

    def rang(self, socket) -> None:
        """The `timeout` handler; the socket lives on."""
        now, due = time.monotonic(), self.due.pop(socket, None)
        self.rung += 1
        if due is None:
            self.complaints.append("rang though not armed")
        elif now < due:
            self.complaints.append(f"{due - now:.6f} s early")
        elif now > due + LATE:
            self.complaints.append(f"{now - due:.6f} s late")
        socket.timeout(0)
        if self.dice.random() < 0.3:
            self.arm(socket, 0.05)


@pytest.mark.parametrize("seed", range(4))
def test_random_arming_and_clearing_rings_each_deadline_once_and_not_early(loop, unix, seed):
    dice = random.Random(seed)
    model = Model(dice)
    recorder = Recorder(timeout=model.rang)
    listener = unix.listen(recorder)
    for _ in range(SOCKETS):
        unix.peer(listener)
    loop.run_until(lambda: len(recorder.sockets) == SOCKETS)
    sockets = recorder.sockets

    def churn():
        for socket in dice.sample(sockets, 30):
            if dice.random() < 0.25:
                model.clear(socket)
            else:
                model.arm(socket, 0.2)

    with metronome(loop, unix, 0.004, 60, churn) as over:
        loop.run_until(over)
    assert loop.gauges()["armed_timers"] == len(model.due)
    loop.run_until(lambda: not model.due)
    assert loop.gauges()["armed_timers"] == 0
    assert model.complaints == []
    assert model.rung > 100
    assert recorder.count("close") == 0


def test_far_deadlines_wait_in_the_wheel_while_near_ones_ring(loop, unix):
    recorder = Recorder(timeout=lambda socket: socket.timeout(0))
    listener = unix.listen(recorder)
    for _ in range(20):
        unix.peer(listener)
    loop.run_until(lambda: len(recorder.sockets) == 20)
    far, near = recorder.sockets[:10], recorder.sockets[10:]
    for level, socket in enumerate(far):  # one in each level of the wheel, and past it
        socket.timeout(60.0 * 8**level)
    for socket in near:
        socket.timeout(0.02)
    loop.run_until(lambda: recorder.count("timeout") == 10)
    loop.settle()
    assert {who for name, who, _ in recorder.events if name == "timeout"} == set(near)
    assert loop.gauges()["armed_timers"] == 10


@pytest.mark.parametrize("milliseconds", [1, 63, 64, 65, 127, 128, 200])
def test_deadlines_at_the_edges_of_the_wheels_levels_are_not_early(loop, unix, milliseconds):
    rang = []

    def timeout(socket):
        rang.append(time.monotonic() - socket.data)
        if len(rang) < 3:
            arm(socket)

    def arm(socket):
        socket.data = time.monotonic()
        socket.timeout(milliseconds / 1000)

    recorder = Recorder(open=arm, timeout=timeout)
    listener = unix.listen(recorder)
    unix.peer(listener)
    loop.run_until(lambda: recorder.count("close"))
    assert len(rang) == 3
    assert all(milliseconds / 1000 <= waited < milliseconds / 1000 + LATE for waited in rang)
