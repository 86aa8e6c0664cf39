"""The same scenarios in Bun and in pybuntcp: their logs are equal but for the differences named here.

This folder holds each topic twice, as <topic>.ts and <topic>.py, scenario by scenario. Both are run as programs, print one
log for each actor (a socket, a listener, who awaits) and end by themselves. A log that differs on purpose has a
`Departure`: what stands there in Bun, what stands there in ours, and which of the `DIFFERENCES` explains it. Outside
the departures the logs must be equal, and a departure that is no longer there fails too.

Every difference is a line of docs/differences-from-bun.md, and a section of the reference of what Bun 1.4.5 does.
Needs a `bun` of that version: see `find_bun`. Without one only the table is checked.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.programs import end_family, find_bun

HERE = Path(__file__).parent
ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "docs" / "differences-from-bun.md"
SECONDS = 15.0

# What differs on purpose, in the words of docs/differences-from-bun.md, and where the reference describes Bun's side.
DIFFERENCES = {
    "`close` comes from the loop, never inside a verb": "0.2, 2.1",
    "`end()` half-closes": "0.3, 3.4",
    "`end(data)` delivers every byte": "0.4, 3.4",
    "a tail written in the `end` handler is sent": "0.5",
    "`end` is called after our own end too": "2.1",
    "`shutdown(True)` is not the peer's end": "2.1",
    "`allow_half_open` needs no `end` handler": "0.5",
    "`ready_state` shows the state": "3.5",
    "addresses outlive the close": "2.1",
    "an offset alone means the rest": "3.1",
    "`drain` only after a short write": "0.7, 3.3",
    "the reset that made a write fail is reported": "3.1",
    "a reset while paused is reported at resume": "2.3",
    "an unhandled exception does not end the program": "0.10, 2.2",
    "what `error` raises is reported with its cause": "2.2",
    "`reload` of an accepted socket is that socket's own": "3.5",
    "`reload` takes bare handlers": "3.5",
    "`binary_type` names Python's types": "1.1",
    "an unknown handler is refused": "1.1",
    "an unknown option is refused": "1.1",
    "a timeout closes": "0.6, 3.6",
    "connect errors are the kernel's own": "1.3",
    "a connect error names address and port": "1.3",
    "`connect_error` comes after `connect()` has returned": "1.3",
    "ports are integers": "1.1",
    "two kinds of address are refused": "1.1",
    "a NUL in a unix path is refused": "1.2",
    "a unix path past the limit is ENAMETOOLONG": "1.2",
    "brackets around an IPv6 address": "1.2",
    "`stop()` removes its own file alone": "4",
    "the unix file is removed at exit": "4",
}


@dataclass(frozen=True)
class Departure:
    """In this actor's log Bun has `bun` where ours has `ours`, because of these differences."""

    actor: str
    bun: tuple[str, ...]
    ours: tuple[str, ...]
    because: tuple[str, ...]


LATER = "`close` comes from the loop, never inside a verb"
HALF = "`end()` half-closes"
OWN_END = "`end` is called after our own end too"


def departs(actor: str, bun: str, ours: str, *because: str) -> Departure:
    """A Departure with its lines written as one text, separated by ` | `."""

    def lines(text: str) -> tuple[str, ...]:
        return tuple(text.split(" | ")) if text else ()

    return Departure(actor, lines(bun), lines(ours), because)


# Every scenario, by topic, with its departures in the order of the log.
SCENARIOS: dict[str, dict[str, tuple[Departure, ...]]] = {
    "closing": {
        "end_after_an_echo": (
            departs("client", "close | end gave 3", "end gave 3 | data bye | end gave -1 | end | close", LATER, HALF),
        ),
        "peer_answers_in_its_end_handler": (departs("client", "open | close", "open | data late | end | close", HALF),),
        "end_with_more_than_the_kernel_takes": (
            departs(
                "client",
                "end took a part | close",
                "end took all | end | close",
                "`end(data)` delivers every byte",
                HALF,
            ),
            departs("server", "received a part", "received all", "`end(data)` delivers every byte"),
        ),
        "tail_written_in_the_end_handler": (
            departs("client", "received a part", "received all", "a tail written in the `end` handler is sent"),
        ),
        "close_after_a_write": (departs("client", "close | close gave nothing", "close gave nothing | close", LATER),),
        "terminate": (departs("client", "close | terminate gave nothing", "terminate gave nothing | close", LATER),),
        "verbs_after_close": (),
        "shutdown_then_the_peer_ends": (
            departs("client", "data answer | close", "data answer | end | close", OWN_END),
        ),
        "shutdown_of_the_reading_half": (
            departs("client", "end | close", "close", "`shutdown(True)` is not the peer's end"),
            departs("server", "data heard | close", "data heard | end | close", HALF),
        ),
        "half_open_with_an_end_handler": (
            departs("client", "data answer | close", "data answer | end | close", OWN_END),
        ),
        "half_open_without_an_end_handler": (
            departs(
                "server",
                "write to the half-open one gave -1",
                "write to the half-open one gave 1",
                "`allow_half_open` needs no `end` handler",
            ),
        ),
        "ready_states": (
            departs(
                "states",
                "after shutdown 1 | in close -1",
                "after shutdown -2 | in close 0",
                "`ready_state` shows the state",
            ),
            departs("client", "open | close", "open | end | close", OWN_END),
        ),
        "addresses_after_close": (
            departs(
                "addresses",
                "remote address none | remote port none | local address none",
                "remote address 127.0.0.1 | remote port right | local address 127.0.0.1",
                "addresses outlive the close",
            ),
            departs("server", "open | close", "open | end | close", HALF),
        ),
        "stop_leaves_connections_alone": (
            departs("server", "data still here | close", "data still here | end | close", HALF),
        ),
        "stop_true_closes_them": (departs("server", "close | stop returned", "stop returned | close", LATER),),
    },
    "writing": {
        "what_write_returns": (
            departs("client", "after the end gave -1 | close", "after the end gave -1 | end | close", OWN_END),
        ),
        "an_offset_without_a_length": (
            departs(
                "client",
                "write raised ValueError | close",
                "write gave 2 | end | close",
                "an offset alone means the rest",
                OWN_END,
            ),
            departs("server", "open | end", "open | data cd | end", "an offset alone means the rest"),
        ),
        "drain_after_a_short_write": (),
        "drain_after_pause_and_resume": (
            departs("client", "open | drain", "open", "`drain` only after a short write"),
        ),
        "drain_after_the_peers_fin": (
            departs("server", "end | drain | close", "end | close", "`drain` only after a short write"),
            departs("client", "data answer | close", "data answer | end | close", OWN_END),
        ),
        "a_large_write_to_a_reset_peer": (
            departs(
                "server",
                "write gave -1 | end | close",
                "write gave -1 | close ECONNRESET",
                "the reset that made a write fail is reported",
            ),
        ),
        "bytes_written": (departs("client", "written 6 | close", "written 6 | end | close", OWN_END),),
    },
    "reading": {
        "paused_while_the_peer_ends": (),
        "paused_while_the_peer_resets": (
            departs(
                "server",
                "data bye | close ECONNRESET | resumed",
                "resumed | data bye | close ECONNRESET",
                "a reset while paused is reported at resume",
            ),
        ),
    },
    "handlers": {
        "data_raises": (departs("server", "error in data | close", "error in data | end | close", HALF),),
        "open_raises": (),
        "open_raises_on_a_client": (),
        "close_raises": (departs("server", "open | close", "open | end | close", HALF),),
        "data_raises_without_an_error_handler": (
            departs("server", "data x", "data x | end | close", "an unhandled exception does not end the program"),
            departs("exit status", "1", "0", "an unhandled exception does not end the program"),
        ),
        "error_raises": (
            departs(
                "unhandled", "in error", "in error, after in data", "what `error` raises is reported with its cause"
            ),
        ),
        "reload_of_the_listener": (),
        "reload_forgets_what_it_does_not_name": (),
        "reload_of_one_accepted_socket": (
            departs("sibling", "reloaded", "as before", "`reload` of an accepted socket is that socket's own"),
        ),
        "reload_with_bare_handlers": (
            departs(
                "server",
                "socket.reload raised Error | close",
                "socket.reload gave nothing",
                "`reload` takes bare handlers",
            ),
        ),
        "a_bad_reload": (),
        "handlers_are_read_once": (departs("server", "data x | close", "data x | end | close", HALF),),
        "data_is_shared": (),
        "wrong_handlers": (
            departs(
                "listen",
                "wrong binaryType raised TypeError",
                "wrong binaryType raised ValueError",
                "`binary_type` names Python's types",
            ),
        ),
        "an_unknown_handler": (
            departs("listen", "listen gave nothing", "listen raised TypeError", "an unknown handler is refused"),
        ),
        "a_timeout": (
            departs("server", "write gave 10 | end | close", "write gave 10 | close ETIMEDOUT", "a timeout closes"),
        ),
    },
    "connecting": {
        "refused": (),
        "refused_without_a_connect_error_handler": (),
        "the_error_of_a_refused_connect": (),
        "sign_and_address_of_a_refused_connect": (
            departs(
                "error",
                "errno negative | address none | port none",
                "errno positive | address 127.0.0.1 | port right",
                "a connect error names address and port",
            ),
        ),
        "a_unix_path_where_nothing_is": (
            departs(
                "client",
                "connect_error ENOENT | connect returned",
                "connect returned | connect_error ENOENT",
                "`connect_error` comes after `connect()` has returned",
            ),
        ),
        "a_bad_descriptor": (
            departs(
                "client",
                "connect_error ECONNREFUSED | connect returned",
                "connect returned | connect_error EBADF",
                "`connect_error` comes after `connect()` has returned",
                "connect errors are the kernel's own",
            ),
            departs("awaited", "ECONNREFUSED", "EBADF", "connect errors are the kernel's own"),
        ),
        "connect_error_raises": (),
        "the_socket_in_connect_error": (),
        "wrong_options": (
            departs(
                "connect",
                "port as an object raised ValueError",
                "port as an object raised TypeError",
                "ports are integers",
            ),
        ),
    },
    "listening": {
        "an_address_in_use": (),
        "an_address_not_ours": (),
        "a_missing_folder": (),
        "a_path_that_exists": (),
        "a_path_with_an_interior_nul": (
            departs("listen", "listen gave nothing", "listen raised ValueError", "a NUL in a unix path is refused"),
        ),
        "a_path_past_the_limit": (
            departs(
                "listen",
                "listen raised Error EINVAL",
                "listen raised Error ENAMETOOLONG",
                "a unix path past the limit is ENAMETOOLONG",
            ),
        ),
        "an_address_in_brackets": (
            departs(
                "listen", "listen raised Error ENOTFOUND", "listen gave nothing", "brackets around an IPv6 address"
            ),
        ),
        "two_kinds_of_address": (
            departs("listen", "listen gave nothing", "listen raised TypeError", "two kinds of address are refused"),
        ),
        "a_port_as_text": (departs("listen", "listen gave nothing", "listen raised TypeError", "ports are integers"),),
        "wrong_options": (),
        "an_unknown_option": (
            departs("listen", "listen gave nothing", "listen raised TypeError", "an unknown option is refused"),
        ),
        "stop_removes_the_file": (),
        "stop_when_the_path_is_anothers": (
            departs(
                "folder", "the other's file is gone", "the other's file is there", "`stop()` removes its own file alone"
            ),
        ),
        "the_file_at_exit": (departs("left in the folder", "socket", "", "the unix file is removed at exit"),),
        "properties_after_stop": (),
    },
}

ALL = [(topic, name) for topic, scenarios in SCENARIOS.items() for name in scenarios]


class Program:
    """One scenario running as a program, with a folder of its own; `log()` waits for it."""

    def __init__(self, command: list[str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="pybuntcp-")
        self._process = subprocess.Popen(
            [*command, self._folder.name],
            cwd=HERE,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def log(self) -> dict[str, list[str]]:
        """Each actor's lines; how the program ended and what it left on disk are actors too."""
        try:
            out, err = self._process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            out, err = end_family(self._process)
            pytest.fail(f"{self._process.args} still ran after {SECONDS} s: {out}{err}")
        lines = [line for line in out.splitlines() if line.startswith("{")]
        assert lines, f"{self._process.args} printed no log: {out}{err}"
        left = sorted(os.listdir(self._folder.name))
        self._folder.cleanup()
        log: dict[str, list[str]] = json.loads(lines[0])
        return {**log, "exit status": [str(self._process.returncode)], "left in the folder": left}


def cut(lines: list[str], segment: tuple[str, ...], start: int) -> int:
    """Where `segment` stands in `lines` from `start` on, or -1."""
    size = len(segment)
    return next((at for at in range(start, len(lines) - size + 1) if tuple(lines[at : at + size]) == segment), -1)


def without(lines: list[str], side: str, departures: list[Departure]) -> list[str]:
    """The log with each departure replaced by its reasons."""
    result, rest = [], 0
    for departure in departures:
        segment = getattr(departure, side)
        at = cut(lines, segment, rest)
        assert at >= 0, f"{side} no longer departs by {departure.because}: no {segment} in {lines[rest:]}"
        result += [*lines[rest:at], f"<{', '.join(departure.because)}>"]
        rest = at + len(segment)
    return result + lines[rest:]


@pytest.mark.parametrize(("topic", "name"), ALL, ids=["-".join(pair) for pair in ALL])
def test_the_log_is_buns_but_for_the_named_differences(topic, name):
    bun, reason = find_bun()
    if bun is None:
        pytest.skip(reason)
    theirs = Program([bun, f"{topic}.ts", name])
    ours = Program([sys.executable, f"{topic}.py", name])
    logs = {"bun": theirs.log(), "ours": ours.log()}
    departures = SCENARIOS[topic][name]
    for actor in sorted({*logs["bun"], *logs["ours"]}):
        mine = [departure for departure in departures if departure.actor == actor]
        compared = {side: without(log.get(actor, []), side, mine) for side, log in logs.items()}
        assert compared["ours"] == compared["bun"], f"{actor}'s log: ours {logs['ours']}, Bun's {logs['bun']}"


@pytest.mark.parametrize("topic", SCENARIOS)
def test_both_languages_have_the_same_scenarios(topic):
    in_python = re.findall(r"^@scenario\ndef (\w+)\(", (HERE / f"{topic}.py").read_text(), re.MULTILINE)
    typescript = (HERE / f"{topic}.ts").read_text()
    in_typescript = re.findall(r"^  (\w+)(?:\(\w*\) \{|: \(\w*\) =>)$", typescript, re.MULTILINE)
    assert in_python == in_typescript == list(SCENARIOS[topic])


def test_every_named_difference_is_seen_in_a_scenario():
    seen = {
        reason
        for topic in SCENARIOS.values()
        for departures in topic.values()
        for departure in departures
        for reason in departure.because
    }
    assert seen == set(DIFFERENCES)


def documented() -> dict[str, list[str]]:
    """The rows of the document's tables by their first cell."""
    rows = [line.strip("|").split(" | ") for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in row] for row in rows]
    return {row[0]: row[1:] for row in cells if row[0] != "Difference"}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_every_named_difference_stands_in_the_document(name):
    assert name in documented()


def test_every_documented_difference_says_what_both_do_and_cites_the_contract():
    rows = documented()
    assert len(rows) >= len(DIFFERENCES)
    for name, cells in rows.items():
        assert len(cells) == 3, name
        bun, ours, sentence = cells
        assert bun
        assert ours
        assert re.fullmatch(r"\[[A-Z]\d\](, \[[A-Z]\d\])*", sentence), f"{name}: {sentence}"
