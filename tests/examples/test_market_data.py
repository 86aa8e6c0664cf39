"""examples/market_data.py as a program: every healthy subscriber gets every tick, a stalled one costs its limit."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import pytest
from programs import EXAMPLES, MEGABYTE, Service, example, output_of
from support import linux_only

TICK = 256
NEVER = str(10**9)  # ticks; a run that does not end by itself


def run(*arguments: str) -> dict[str, list[str]]:
    """What a whole run prints, by the word that a line begins with."""
    said = output_of(sys.executable, EXAMPLES / "market_data.py", *arguments)
    found: dict[str, list[str]] = {}
    for line in said.splitlines():
        name, _, rest = line.partition(":")
        found.setdefault(name, []).append(rest.strip())
    assert "error of a subscriber" not in found, said
    return found


def numbers(text: str) -> list[int]:
    return [int(word) for word in re.findall(r"\d+", text)]


def check_bounded(found: dict[str, list[str]], limit: int, stalled: int) -> None:
    """No dropped subscriber held more than its limit, nor did all together, and the process shows it."""
    for dropped in found["dropped"]:
        _, unsent, told = numbers(dropped)
        assert limit - TICK < unsent <= limit == told
    assert numbers(found["unsent"][0])[0] <= limit * stalled
    if "memory" in found and "libasan" not in os.environ.get("LD_PRELOAD", ""):
        before, after, most = numbers(found["memory"][0])
        assert max(after, most) - before < limit * stalled + 16 * MEGABYTE


def test_a_thousand_subscribers_get_every_tick_in_order_while_one_stalls() -> None:
    found = run("--subscribers", "1000", "--ticks", "1000", "--limit", "65536")
    assert found["healthy"] == ["1000 of 1000 have every tick, in order"]
    assert len(found["dropped"]) == 1
    check_bounded(found, 65536, 1)


def test_a_burst_is_one_system_call_for_each_subscriber() -> None:
    found = run("--subscribers", "50", "--ticks", "500", "--stalled", "0")
    sent, calls, _ = numbers(found["sent"][0])
    assert sent == 50 * 500 * TICK
    assert calls == 50 * 500 / 5
    assert found["healthy"] == ["50 of 50 have every tick, in order"]
    assert "dropped" not in found
    assert numbers(found["unsent"][0]) == [0]


@pytest.mark.parametrize("limit", [TICK, 1000, 200_000])
def test_a_stalled_subscriber_costs_at_most_its_limit(limit: int) -> None:
    found = run("--subscribers", "3", "--ticks", "4000", "--limit", str(limit))
    assert found["healthy"] == ["3 of 3 have every tick, in order"]
    assert len(found["dropped"]) == 1
    check_bounded(found, limit, 1)


def test_many_that_stall_are_all_dropped_and_memory_stays_bounded() -> None:
    found = run("--subscribers", "5", "--stalled", "60", "--ticks", "8000", "--limit", "50000")  # of 2 MB for each
    assert found["healthy"] == ["5 of 5 have every tick, in order"]
    assert len(found["dropped"]) == 60
    check_bounded(found, 50000, 60)


def test_a_stalled_subscriber_within_its_limit_is_kept() -> None:
    found = run("--subscribers", "3", "--ticks", "20")
    assert found["healthy"] == ["3 of 3 have every tick, in order"]
    assert "dropped" not in found


def test_the_last_burst_may_be_short() -> None:
    found = run("--subscribers", "3", "--ticks", "7")
    assert found["ticks"] == ["7 of 256 bytes, 5 an order"]
    assert found["healthy"] == ["3 of 3 have every tick, in order"]


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def subscribers_of(program: Service) -> int:
    """The pid of the other process, once it trades."""
    if not Path(f"/proc/{program.pid}/task/{program.pid}/children").exists():
        pytest.skip("this kernel does not tell the children of a process")
    program.wait_for_line("connected: 21")
    (pid,) = children(program.pid)
    return pid


def wait_for_the_end(program: Service) -> None:
    with pytest.raises(EOFError):
        program.wait_for_line("nothing that it says")


@linux_only
def test_it_says_so_when_the_subscribers_process_dies() -> None:
    with example("market_data.py", "--subscribers", "20", "--ticks", NEVER) as program:
        os.kill(subscribers_of(program), signal.SIGKILL)
        program.wait_for_line("the subscribers' process did not finish")
        wait_for_the_end(program)


@linux_only
def test_ctrl_c_ends_both_processes() -> None:
    with example("market_data.py", "--subscribers", "20", "--ticks", NEVER) as program:
        other = subscribers_of(program)
        assert "stopped" in program.stop()
        assert not Path(f"/proc/{other}").exists()


@pytest.mark.parametrize("wrong", [("--limit", "255"), ("--subscribers", "0"), ("--ticks", "0"), ("--stalled", "-1")])
def test_what_makes_no_sense_is_refused(wrong: tuple[str, str]) -> None:
    with Service(sys.executable, EXAMPLES / "market_data.py", *wrong) as program:
        program.wait_for_line("at least 1 subscriber, 1 tick, and a limit of 256 bytes")
        wait_for_the_end(program)
