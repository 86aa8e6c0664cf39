"""benchmarks/: every server answers every kind of question with nothing lost, the load tells what is wrong, the report says who is behind.

Windows are as short as they can be: what is tested is that a figure can be had, and is told truly, never how large it is.
"""

from __future__ import annotations

import asyncio
import dataclasses
import io
import json
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path[:0] = [str(BENCHMARKS), str(BENCHMARKS / "servers")]
pytest.importorskip("rich", reason="the benchmarks print with rich")
if sys.platform != "linux":
    pytest.skip("the benchmarks read Linux's accounts", allow_module_level=True)

import event_loops  # noqa: E402
import run as runner  # noqa: E402
from harness import goals, names, report, tls  # noqa: E402
from harness.build import CannotBuildError, compile_program  # noqa: E402
from harness.foreign_loads import missing_generator  # noqa: E402
from harness.machine import Cores  # noqa: E402
from harness.measure import load_command, measure  # noqa: E402
from harness.names import LEFT_OUT_WHEN_QUICK, OUR_OWN  # noqa: E402
from harness.peers import all_peers  # noqa: E402
from harness.processes import Load, Server  # noqa: E402
from harness.questions import Plan, Row  # noqa: E402
from rich.console import Console  # noqa: E402

# they compile into one folder; the first one waits for its compiler
pytestmark = [pytest.mark.xdist_group("benchmarks"), pytest.mark.timeout(180)]
ROWS = {row.key: row for question in runner.QUESTIONS.values() for row in question.rows}
SAME_AS_ECHO = {"series", "layers", "loops", "awaits", "threads", "aio", "aio-50"}  # other words for who is asked
SAME_AS_OTHERS = {"aio-five", "aio-churn", "aio-tls-fifty"}  # as above: five, churn and tls-fifty
SECONDS = 0.05


@pytest.fixture(scope="module")
def peers():
    try:
        compile_program("load/load.c")
    except CannotBuildError as error:
        pytest.skip(str(error))
    return {peer.name: peer for peer in all_peers(sys.executable)}


@pytest.fixture(scope="module")
def plan():
    try:
        tls.prepare(sys.executable)
        libssl = tls.libssl(sys.executable)
    except CannotBuildError:
        libssl = ""
    return Plan(1, 0.02, SECONDS, Cores(None, None), libssl, tls.PINNED)


def small(row: Row) -> Row:
    return dataclasses.replace(row, connections=min(row.connections, 4), base=min(row.base, 4), rate=min(row.rate, 200))


def kinds() -> dict[str, Row]:
    """One row for each kind of server, and for each kind of load."""
    found: dict[tuple[str, str], Row] = {}
    for row in ROWS.values():
        if row.server_mode not in SAME_AS_ECHO | SAME_AS_OTHERS or row.mode in ("fixed", "wakeups"):
            found.setdefault((row.server_mode, row.mode), small(row))
    del found["aio-tls", "fixed"]  # the servers of aio-tls-echo under the flood of tls-fixed
    return {f"{mode}-{load}": row for (mode, load), row in found.items()}


KINDS = kinds()
SLOW = {"wakeups", "idle"}  # they wait until a server has come to rest; c-epoll and ours are asked
PROGRAMS = {
    names.AIO_HTTPS,
    *(f"aio-{name}" for name in names.PROGRAMS),
}  # a second each, and their packages; on two event loops


@pytest.mark.parametrize("kind", KINDS)
def test_every_server_answers_and_loses_nothing(peers, plan, kind):
    row = KINDS[kind]
    if row.tls and not plan.libssl:
        pytest.skip("no shared OpenSSL, or no trustme")
    if missing := missing_generator(row):
        pytest.skip(f"{missing} is not installed")
    able = [p for p in peers.values() if not p.missing and row.server_mode in p.modes]
    if row.mode in SLOW:
        able = [p for p in able if p.name in ("c-epoll", "pybuntcp", "pybuntcp-native", "pybuntcp-protocol")]
    if row.server_mode in PROGRAMS:
        able = [p for p in able if p.name.startswith(("pybuntcp-", "asyncio-"))]
    if not able:
        pytest.skip(f"nobody here answers {row.server_mode}")
    samples = {peer.name: measure(row, peer, plan) for peer in able}
    assert {name: s["error"] for name, s in samples.items() if "error" in s} == {}
    if row.mode not in SLOW:
        assert all(s["messages"] > 0 for s in samples.values())


def test_our_own_servers_and_the_limits_are_all_there(peers):
    """In a checkout with its tests' packages, only what others install may be missing."""
    programs = {peer for peers in names.PROGRAMS.values() for peer in peers.values()}  # they need the programs
    theirs = {"pybuntcp-redis-slots", *programs}  # the first is built by pip, with setuptools
    missing = {name: peer.missing for name, peer in peers.items() if peer.missing}
    assert {name: why for name, why in missing.items() if name in OUR_OWN - theirs or name == "c-epoll"} == {}


@pytest.mark.parametrize("host", names.STAYING.values())
def test_a_loop_that_stays_has_our_transports_and_is_still_itself(host):
    if host == "uvloop":
        pytest.importorskip("uvloop")
    plain, loop = event_loops.factory_of(host)(), event_loops.factory_of(f"installed-{host}")()

    async def connect() -> asyncio.Transport:
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        transport, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
        transport.close()
        server.close()
        await asyncio.sleep(0)
        return transport

    transport = loop.run_until_complete(connect())
    loop.close()
    plain.close()
    assert type(transport).__module__.startswith("pybuntcp")
    assert type(loop) is type(plain)


def test_a_missing_peer_says_why_and_is_no_error(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("BUN", raising=False)
    monkeypatch.chdir(tmp_path)
    missing = {peer.name: peer.missing for peer in all_peers(sys.executable) if peer.missing}
    assert "no node" in missing["node"]
    assert "redis" in missing["redis-server"]
    assert "nginx" in missing["nginx"]


def test_rows_whose_load_is_missing_are_named_and_left_out(peers, tmp_path):
    (tmp_path / "cc").symlink_to(shutil.which("cc"))
    done = command("resp", "http", env={"PATH": str(tmp_path)})
    assert (done.returncode, done.stderr) == (1, "")
    said = done.stdout.splitlines()
    assert [line.rpartition(": ")[2] for line in said] == ["no redis-benchmark"] * (len(said) - 1) + ["no wrk"]
    assert len(said) > 1


def test_names_of_peers_and_rows_are_one_each(peers):
    assert len(peers) == len(all_peers(sys.executable))
    assert set(peers) >= LEFT_OUT_WHEN_QUICK
    seen: dict[str, Row] = {}
    for question in runner.QUESTIONS.values():
        for row in (*question.rows, *question.quick):
            assert seen.setdefault(row.key, row) == row


# ---------------------------------------------------------------- the load


class Falsifier:
    """A server of one connection that sends back what `change` makes of it."""

    def __init__(self, change) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.change = change
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        connection, _ = self.listener.accept()
        with connection:
            connection.settimeout(10)
            while chunk := connection.recv(65536):
                connection.sendall(self.change(chunk))

    def close(self) -> None:
        self.thread.join(10)
        self.listener.close()


def told_by_load(plan: Plan, change: Any) -> str:
    server = Falsifier(change)
    row = Row("one", "one connection", connections=1)
    done = subprocess.run(
        load_command(row, server.port, plan), input="\n\n", capture_output=True, text=True, timeout=30, check=False
    )
    server.close()
    return done.stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda chunk: chunk, ""),
        (lambda chunk: chunk[:-1] + b"\0", "not what was sent"),
        (lambda chunk: chunk + chunk[:1], "not what was sent"),
        (lambda chunk: chunk * 2, "more replies than messages"),
    ],
)
def test_the_load_compares_every_byte(peers, plan, change, words):
    assert words in told_by_load(plan, change)
    assert bool(told_by_load(plan, change)) == bool(words)


def unsent(port: int) -> list[int]:
    """Bytes in the kernel's send queue of each connection that is open at that port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established = [row for row in rows if int(row[1].rpartition(":")[2], 16) == port and row[3] == "01"]
    return sorted(int(row[4].partition(":")[0], 16) for row in established)


def test_the_stalled_reader_of_a_fan_out_is_full_before_anything_is_measured(peers, plan):
    row = Row("fan", "fan-out", "fanout", 3, 200, stalled=1)
    with (
        Server("c-epoll", peers["c-epoll"].start_command("fanout"), None) as server,
        Load("load", load_command(row, server.port, plan), None) as load,
    ):
        load.await_event("ready", 20)
        before = unsent(server.port)
        load.say("measure")
        done = load.await_event("done", 20)
        after = unsent(server.port)
    assert done["messages"] > 0
    assert len(before) == 5
    assert before[:4] == after[:4] == [0, 0, 0, 0]
    assert 0 < after[4] <= before[4]  # the kernel takes no more; probing the closed window, it gets rid of a little


# ---------------------------------------------------------------- the report


def sample(number: int, cpu: float, **more: Any) -> dict[str, Any]:
    return {"round": number, "cpu_us": cpu, **more}


def row_of(**peers: list[float]) -> dict[str, Any]:
    samples = {
        name.replace("_", "-"): [sample(i, cpu) for i, cpu in enumerate(figures)] for name, figures in peers.items()
    }
    return {**dataclasses.asdict(Row("some", "some row")), "samples": samples}


def test_a_row_in_which_a_peer_is_ahead_is_told_in_words():
    row = row_of(c_epoll=[4.0, 4.0], pybuntcp=[5.0, 5.0], uvloop=[6.0, 6.0], bun=[4.0, 5.1])
    said = report.sentences({"rows": [row]})
    assert said == [
        "some row: pybuntcp is behind c-epoll: server CPU 25% more.",
        "some row: pybuntcp is behind bun: server CPU 10% more (the spreads overlap).",
    ]


def test_what_is_less_than_a_percent_is_told_as_that():
    said = report.sentences({"rows": [row_of(pybuntcp=[100.2], bun=[100.0])]})
    assert said == [
        "some row: pybuntcp is behind bun: server CPU less than 1 % more (the spreads overlap)."
    ] or said == ["some row: pybuntcp is behind bun: server CPU less than 1 % more."]


def test_a_ratio_is_the_median_of_the_ratios_inside_the_rounds():
    row = row_of(c_epoll=[1.0, 10.0, 100.0], pybuntcp=[2.0, 10.0, 300.0])
    figures = report.medians_of({"rows": [row]})["some"]
    assert figures["pybuntcp"]["ratio"] == 2.0
    assert figures["pybuntcp"]["cpu_us"] == 10.0


def test_rows_of_a_later_run_take_the_place_of_the_first_ones():
    def run_of(day: int, *keys: str) -> dict[str, Any]:
        rows = [{"key": key, "day": day} for key in keys]
        return {"finished": f"2031-01-0{day}", "machine": {"commit": None}, "rows": rows}

    result = runner.merged([run_of(1, "echo-50", "churn", "forgotten"), run_of(2, "churn", "http")])
    assert {row["key"]: row["day"] for row in result["rows"]} == {"echo-50": 1, "churn": 2, "http": 2}
    assert [(told["finished"], told["rows"]) for told in result["later"]] == [("2031-01-02", ["churn", "http"])]


def test_what_peers_of_a_later_run_said_is_kept():
    def run_of(**missing: str | None) -> dict[str, Any]:
        peers = {name: {"missing": why} for name, why in missing.items()}
        told = {name: {"openssl": "3"} for name, why in missing.items() if not why}
        return {"finished": "", "machine": {"commit": None}, "rows": [], "peers": peers, "tls": told}

    result = runner.merged([run_of(uvloop=None, zuvloop="no zuvloop"), run_of(zuvloop=None, rsloop="no rsloop")])
    assert {name: peer["missing"] for name, peer in result["peers"].items()} == {
        "uvloop": None,
        "zuvloop": None,
        "rsloop": "no rsloop",
    }
    assert set(result["tls"]) == {"uvloop", "zuvloop"}


def test_a_goal_is_measured_against_the_best_of_those_who_were_there():
    row = Row("some", "some row", against="uvloop")
    medians = {
        "some": {
            "ours": {"cpu_us": 9.0, "user_us": 3.0, "ratio": 0.7},
            "uvloop": {"cpu_us": 12.0, "user_us": 2.0},
            "quick": {"cpu_us": 10.0, "user_us": 4.0},
        }
    }
    others = ("uvloop", "quick", "absent")
    assert goals.times_the_best(row, "ours", others)(medians) == 0.9
    assert goals.times_the_best(row, "ours", others, "user_us")(medians) == 1.5
    assert goals.times_the_best(row, "ours", others, "user_us", "cpu_us")(medians) == 0.75
    assert goals.times_the_best(row, "ours", ("uvloop",))(medians) == 0.7  # of the ratios inside the rounds
    assert goals.times_the_best(row, "ours", ("absent",))(medians) is None
    assert goals.times_the_best(row, "absent", others)(medians) is None


def test_peers_that_are_missing_for_one_reason_are_named_in_one_line():
    peers = {"a": ("a loop", "no such module"), "b": ("its streams", "no such module"), "c": ("other", "too old")}
    console = Console(width=200, record=True, file=io.StringIO())
    report.print_missing(
        console, {"rows": [], "peers": {name: {"what": what, "missing": why} for name, (what, why) in peers.items()}}
    )
    assert console.export_text().splitlines() == [
        "missing: a (a loop), b: no such module",
        "missing: c (other): too old",
    ]


@pytest.mark.parametrize(("unit", "many"), [("message", "messages"), ("delivery", "deliveries"), ("MiB", "MiB")])
def test_units_have_their_plural(unit, many):
    assert report.plural(unit) == many


# ---------------------------------------------------------------- the command


def command(
    *words: str, cwd: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / "run.py"), *words],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        cwd=cwd,
        env=env,
    )


def test_a_run_writes_every_rounds_figures_and_shows_them_again(peers, tmp_path):
    file = tmp_path / "result.json"
    words = ("echo", "--rounds", "2", "--seconds", "0.1", "--warmup", "0.05", "--peers", "c-epoll,pybuntcp")
    done = command(*words, "--output", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(file.read_text())
    (row,) = result["rows"]
    assert {name: [s["round"] for s in samples] for name, samples in row["samples"].items()} == {
        "c-epoll": [0, 1],
        "pybuntcp": [0, 1],
    }
    assert result["machine"]["kernel"]
    assert result["peers"]["pybuntcp"]["version"].startswith("0.")
    shown = command("--show", str(file)).stdout
    assert row["title"] in shown
    assert shown.strip() in done.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nonsense",), "no question nonsense"),
        (("echo", "--peers", "nobody"), "no peer nobody"),
        (("--rounds", "0"), "--rounds must be more than 0"),
        (("--page", "x.md"), "--page needs --show"),
    ],
)
def test_what_cannot_be_asked_is_an_error_that_says_so(words, told):
    done = command(*words)
    assert done.returncode != 0
    assert told in done.stderr
