"""The benchmarks' pictures and pages, drawn and filled from small made-up results; and the pages of this repository, which
have to say what its result files say. Nothing is measured here.

Pictures need matplotlib, which the tests' requirements do not have: where it is not installed these tests are skipped.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS, BENCHMARKS = ROOT / "docs", ROOT / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

pytest.importorskip("rich")

import run  # noqa: E402
from harness import markdown, plots, summary  # noqa: E402
from harness.questions import Goal, Question, Row  # noqa: E402

Draw = Callable[[dict[str, Any], Path, Iterable[Any]], list[Path]]
PEERS = ("c-epoll", "pybuntcp", "uvloop", "asyncio")


# --- made-up results ---


def sample(number: int, cpu: float) -> dict[str, Any]:
    return {
        "round": number,
        "cpu_us": cpu,
        "user_us": cpu / 4,
        "system_us": cpu * 3 / 4,
        "server_share": 0.99,
        "rate": 1e6 / cpu,
        "p50_us": 10 * cpu,
        "p99_us": 20 * cpu,
        "p999_us": 40 * cpu,
        "private_bytes": 100 * cpu,
        "idle_cpu_ms": cpu,
        "wakeups": 3,
        "generator": {"bottleneck": False, "share": 0.5},
    }


def row(key: str, *cpu: float, **given: Any) -> dict[str, Any]:
    """One median a peer, in the order of PEERS; three rounds, ten per cent apart."""
    samples = {p: [sample(n, c * f) for n, f in enumerate((0.9, 1, 1.1))] for p, c in zip(PEERS, cpu, strict=False)}
    return {"key": key, "title": f"echo, {key}", "mode": "echo", "against": "c-epoll", "samples": samples, **given}


def result(*rows: dict[str, Any]) -> dict[str, Any]:
    here = {"what": "a server", "version": "1.0", "missing": None}
    return {
        "finished": "2031-02-03T04:05:06+00:00",
        "took_seconds": 120.0,
        "machine": {
            "cpu": "a processor",
            "cores": 2,
            "memory_kib": 2**23,
            "machine": "x86_64",
            "system": "Linux",
            "kernel": "6.1",
            "libc": "glibc 2.36",
            "governor": None,
            "hypervisor": True,
            "python": "3.12.1",
            "compiler": "cc 12",
            "commit": {"revision": "0123456789abcdef", "changed": False},
        },
        "cores": {"server": 0, "load": 1, "words": "server on core 0, load on core 1"},
        "plan": {"rounds": 3, "warmup": 0.1, "seconds": 0.4, "suite": None},
        "peers": {**dict.fromkeys(PEERS, here), "bun": {"what": "Bun", "version": None, "missing": "no bun here"}},
        "tls": {},
        "rows": list(rows),
    }


def question(*keys: str, series: str = "") -> Question:
    rows = tuple(Row(key, key) for key in keys)
    return Question(name="asked", about="what is asked", rows=rows, quick=(), series=series)


def failed(row: dict[str, Any], peer: str) -> dict[str, Any]:
    row["samples"][peer] = [{"round": n, "error": "it did not start"} for n in range(3)]
    return row


# --- pictures ---


@pytest.fixture(scope="module")
def draw(tmp_path_factory: pytest.TempPathFactory) -> Draw:
    """`plots.draw`, every font used once: matplotlib keeps their files open, which the leak check would count."""
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    plots.draw(result(row("a", 1, 2, 3)), tmp_path_factory.mktemp("fonts"), [question("a")])
    return plots.draw


def drawn(draw: Draw, folder: Path, asked: Question, *rows: dict[str, Any]) -> str:
    (path,) = draw(result(*rows), folder, [asked])
    return path.read_text()


def test_every_kind_of_row_is_in_the_picture(draw: Draw, tmp_path: Path) -> None:
    rows = [row(f"{mode}-row", 1, 2, 3, 4, mode=mode) for mode in ("echo", "idle", "wakeups", "fixed")]
    questions = [question(*(r["key"] for r in rows)), question("other")]
    assert draw(result(*rows), tmp_path / "new", questions) == [tmp_path / "new" / "asked.svg"]
    text = (tmp_path / "new" / "asked.svg").read_text()
    units = ("server CPU, us a message", "private bytes a connection", "server CPU while idle, ms", "p99 latency, us")
    for words in (
        *(r["title"] for r in rows),
        *units,
        *PEERS,
        "a processor",
        "0123456789",
        "2031-02-03",
        "missing: bun",
    ):
        assert words in text


def test_a_bar_says_its_median_and_how_many_times_that_of_the_limit_it_is(draw: Draw, tmp_path: Path) -> None:
    assert ">3.00  1.50 x<" in drawn(draw, tmp_path, question("a"), row("a", 2, 3))


def test_the_same_result_gives_the_same_svg(draw: Draw, tmp_path: Path) -> None:
    one, two = (drawn(draw, tmp_path / name, question("a"), row("a", 1, 2, 3)) for name in ("one", "two"))
    assert one == two


def test_rows_of_a_series_share_one_panel(draw: Draw, tmp_path: Path) -> None:
    rows = [row(f"{size} B", 1, 2, 3, 4, size=size) for size in (2**20, 16, 4096)]
    text = drawn(draw, tmp_path, question(*(r["key"] for r in rows), series="size"), *rows)
    assert text.count("server CPU, us a message") == 1
    for words in ("16", "4,096", "1,048,576", "against size"):
        assert f">{words}<" in text


def test_a_curve_has_more_than_one_point(draw: Draw, tmp_path: Path) -> None:
    few = failed(row("few", 1, 2, 3, connections=10), "uvloop")
    many = row("many", 1, 2, 3, 4, connections=1000)
    text = drawn(draw, tmp_path, question("few", "many", series="connections"), few, many)
    assert ">pybuntcp<" in text
    assert ">asyncio<" not in text
    assert ">uvloop<" not in text


@pytest.mark.parametrize("mode", ["echo", "idle", "wakeups", "fixed"])
def test_a_peer_without_a_figure_stands_there_without_a_bar(draw: Draw, tmp_path: Path, mode: str) -> None:
    text = drawn(draw, tmp_path, question("a"), failed(row("a", 1, 2, 3, 4, mode=mode), "uvloop"))
    assert text.count(">no figure<") == 1
    assert ">uvloop<" in text


def test_a_question_without_a_figure_has_no_picture(draw: Draw, tmp_path: Path) -> None:
    asked = failed(failed(row("a", 1, 2), "c-epoll"), "pybuntcp")
    assert draw(result(asked), tmp_path, [question("a")]) == []


def test_the_summary_is_drawn_where_its_row_was_measured(draw: Draw, tmp_path: Path) -> None:
    rows = [row(summary.BARS_ROW, 1, 2, 3, 4)]
    assert draw(result(*rows), tmp_path, []) == [tmp_path / "summary.svg"]
    text = (tmp_path / "summary.svg").read_text()
    for words in ("bare C (epoll)", "pybuntcp", "uvloop", "asyncio", "2.00", "a processor", "2031-02-03"):
        assert words in text
    assert ">Bun<" not in text


def test_a_bar_is_cut_where_it_would_dwarf_the_others(draw: Draw) -> None:
    (axes,) = plots.picture(*asked_alone(row("a", 1, 2, 3, 400))).axes
    assert axes.get_xlim()[1] == pytest.approx(plots.CUT * 2.5 * 1.2)
    (axes,) = plots.picture(*asked_alone(row("a", 1, 2, 3, 4))).axes
    assert axes.get_xlim()[1] == pytest.approx(4 * 1.1 * 1.2)


def asked_alone(one: dict[str, Any]) -> tuple[dict[str, Any], Question, list[list[dict[str, Any]]]]:
    return result(one), question("a"), [[one]]


def test_without_matplotlib_nothing_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "can_draw", lambda: False)
    assert plots.draw(result(row("a", 1, 2)), tmp_path / "new", [question("a")]) == []
    assert not (tmp_path / "new").exists()


# --- pages ---


GOALS = [Goal("CPU of ours", lambda medians: medians["a"]["pybuntcp"]["cpu_us"], 1.0)]
WHOLE = """# Figures

Words that stay.

<!-- row a -->
old
<!-- end -->

<!-- beside a -->
<!-- end -->
<!-- goals -->
<!-- end -->
<!-- behind -->
<!-- end -->
<!-- missing -->
<!-- end -->
<!-- machine -->
<!-- end -->
<!-- tls -->
<!-- end -->

<!-- another comment -->
Last words.
"""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "page.md"
    path.write_text(WHOLE)
    return path


def full() -> dict[str, Any]:
    return result(row("a", 1, 2, 3, 4, beside=[["pybuntcp", "uvloop"]]), row("b", 1, 2))


def block(text: str, marker: str) -> list[str]:
    found = re.search(re.escape(f"<!-- {marker} -->\n") + "(.*?)<!-- end -->", text, re.DOTALL)
    assert found is not None
    return found[1].strip().splitlines()


def test_a_row_is_a_table_with_ours_in_bold(target: Path) -> None:
    markdown.fill(target, full(), [])
    title, _, heads, rules, *peers = block(target.read_text(), "row a")
    assert title == "**echo, a**"
    assert heads.startswith("| peer | server CPU us/message | user | system | x c-epoll |")
    assert rules.startswith("| --- | ---: |")
    assert [line.split(" | ")[0] for line in peers] == ["| c-epoll", "| **pybuntcp**", "| uvloop", "| asyncio"]
    assert "| **2.00 (1.80..2.20)** |" in peers[1]


def test_filling_twice_gives_the_same_page(target: Path) -> None:
    markdown.fill(target, full(), GOALS)
    once = target.read_text()
    markdown.fill(target, full(), GOALS)
    assert target.read_text() == once


def test_words_outside_the_blocks_stay(target: Path) -> None:
    markdown.fill(target, full(), [])
    text = target.read_text()
    assert text.startswith("# Figures\n\nWords that stay.\n\n<!-- row a -->\n")
    assert text.endswith("<!-- end -->\n\n<!-- another comment -->\nLast words.\n")
    assert "old" not in text


def test_every_block_is_filled_without_markup(target: Path) -> None:
    markdown.fill(target, full(), GOALS)
    text = target.read_text()
    assert "| **pybuntcp** | **uvloop** | 0.67 (0.67..0.67) |" in block(text, "beside a")
    assert "| CPU of ours | 2.00 | 1.00 | missed |" in block(text, "goals")
    assert block(text, "behind")[0].startswith("- echo, a: pybuntcp is behind c-epoll: server CPU 100% more")
    assert block(text, "missing") == ["- missing: bun (Bun): no bun here"]
    assert "- kernel: Linux 6.1, glibc 2.36" in block(text, "machine")
    assert "- c-epoll, pybuntcp, uvloop, asyncio: 1.0" in block(text, "machine")
    assert block(text, "tls") == ["Nothing was measured over TLS."]
    assert not re.search(r"\[/?(dim|bold|red|yellow)?\]", text)


def test_rows_of_a_series_stand_side_by_side(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("<!-- series size a b -->\n<!-- end -->\n")
    rows = row("a", 1, 2, 3, size=16), row("b", 10, 30, 20, 40, size=1024)
    assert markdown.fill(path, result(*rows), []) == []
    title, _, heads, _, *peers = block(path.read_text(), "series size a b")
    assert title == "**server CPU us/message (x c-epoll)**"
    assert heads == "| size: | 16 | 1,024 |"
    assert peers[1] == "| **pybuntcp** | **2.00 (2.00 x)** | 30.00 (3.00 x) |"
    assert not any("asyncio" in peer for peer in peers)  # not asked for the first


def test_rows_that_no_marker_asks_for_are_named(target: Path) -> None:
    assert markdown.fill(target, full(), []) == ["b"]


def test_failed_samples_are_named_and_their_peer_stays_in_the_table(target: Path) -> None:
    data = full()
    failed(data["rows"][0], "uvloop")
    markdown.fill(target, data, [])
    text = target.read_text()
    assert any(line.startswith("| uvloop | - |") for line in block(text, "row a"))
    assert any("failed: uvloop" in line and "it did not start" in line for line in block(text, "missing"))
    assert block(text, "beside a") == ["Not measured."]


def test_without_ours_nobody_is_said_to_be_behind(target: Path) -> None:
    data = full()
    for one in data["rows"]:
        del one["samples"]["pybuntcp"]
    markdown.fill(target, data, [])
    assert block(target.read_text(), "behind") == ["pybuntcp was not measured."]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("<!-- row unknown -->\n<!-- end -->\n", "the result has no row unknown"),
        ("<!-- beside b -->\n<!-- end -->\n", "row b sets nobody beside another"),
        ("<!-- series size a x -->\n<!-- end -->\n", "the result has no row x"),
        ("<!-- series colour a b -->\n<!-- end -->\n", "rows have no colour"),
        ("<!-- row a -->\n", "<!-- row a --> has no <!-- end -->"),
        ("<!-- row a -->\n<!-- row b -->\n<!-- end -->\n", "line 2: <!-- row a --> has no <!-- end -->"),
        ("words\n<!-- rows a -->\n<!-- end -->\n", "line 3: <!-- end -->, and no block is open"),
    ],
)
def test_a_page_that_cannot_be_filled_is_named_and_left_alone(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "page.md"
    path.write_text(text)
    with pytest.raises(markdown.PageError, match=re.escape(f"{path}: {complaint}")):
        markdown.fill(path, full(), [])
    assert path.read_text() == text


def test_signs_that_mean_something_in_markdown_are_escaped() -> None:
    assert markdown.escaped("123* a|b <c>") == r"123\* a\|b \<c>"


# --- what a reader is shown first ---


def compared(one: dict[str, Any], against: str = "") -> str:
    line = summary.Line(one["key"], "a question", PEERS[1:] + PEERS[:1])
    table = summary.Comparison("head", ("ours", "uvloop", "asyncio", "bare C"), (line,), against)
    return summary.compare_lines(result(one), table)[-1]


def test_the_best_is_bold_and_so_is_a_tie_and_bare_c_is_neither() -> None:
    assert compared(row("a", 1, 2, 3, 4)) == "| a question | **2.00** | 3.00 | 4.00 | 1.00 |"
    assert compared(row("a", 1, 3.1, 3, 4)) == "| a question | **3.10** | **3.00** | 4.00 | 1.00 |"


def test_a_table_of_ratios_has_the_median_of_those_in_each_round() -> None:
    assert compared(row("a", 1, 1, 2, 8), "uvloop") == "| a question | **0.50** | 1.00 | 4.00 | 0.50 |"


@pytest.mark.parametrize(("mode", "ours"), [("idle", "200"), ("fixed", "40.0")])
def test_a_table_for_readers_takes_the_figure_of_the_rows_mode(mode: str, ours: str) -> None:
    assert f"| **{ours}** |" in compared(row("a", 1, 2, 3, 4, mode=mode))


def test_a_peer_that_was_not_measured_has_a_dash() -> None:
    assert compared(failed(row("a", 1, 2, 3, 4), "uvloop")) == "| a question | **2.00** | - | 4.00 | 1.00 |"


def test_a_comparison_that_is_not_known_or_not_measured_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    for marker, complaint in (
        ("compare colours", "no comparison colours"),
        ("summary", "the result has no row echo-50"),
    ):
        path.write_text(f"<!-- {marker} -->\n<!-- end -->\n")
        with pytest.raises(markdown.PageError, match=complaint):
            markdown.fill(path, full(), [])


def test_the_run_is_told_in_one_paragraph(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("<!-- run -->\n<!-- end -->\n")
    markdown.fill(path, full(), [])
    words = " ".join(block(path.read_text(), "run"))
    for said in (
        "a processor",
        "Linux 6.1",
        "Python 3.12.1, uvloop 1.0",
        "3 interleaved rounds",
        "2031-02-03, commit 01",
    ):
        assert said in words
    assert "Bun" not in words  # it was not there


# --- the pages of this repository ---

HANDLERS = ("performance.md", "performance/results.md", "performance/goals.md", "../README.md")
LOOPS = ("performance-asyncio.md", "performance/results-asyncio.md")


def measured(*names: str) -> dict[str, Any]:
    return run.merged([json.loads((DOCS / "performance" / f"{name}.json").read_text()) for name in names])


def result_of(page: str) -> dict[str, Any]:
    return measured("asyncio", "asyncio-tls") if page in LOOPS else measured("result")


@pytest.mark.parametrize("page", [*HANDLERS, *LOOPS])
def test_a_page_says_what_its_result_file_says(page: str, tmp_path: Path) -> None:
    path = shutil.copy(DOCS / page, tmp_path / "page.md")
    markdown.fill(path, result_of(page), [goal for q in run.QUESTIONS.values() for goal in q.goals])
    assert path.read_text() == (DOCS / page).read_text(), "run `make pages`"


@pytest.mark.parametrize("pages", [HANDLERS, LOOPS], ids=["handlers", "loops"])
def test_no_row_of_a_result_file_is_left_out(pages: tuple[str, ...]) -> None:
    text = "".join((DOCS / page).read_text() for page in pages)
    asked = {key for found in markdown.MARKER.finditer(text) for key in (found[2] or found[4] or "").split()}
    assert [row["key"] for row in result_of(pages[0])["rows"] if row["key"] not in asked] == []


@pytest.mark.parametrize("folder", ["results", "results-asyncio"])
def test_every_picture_of_a_result_is_on_its_page(folder: str) -> None:
    page = f"performance/{folder}.md"
    asked = {q.name for q in run.QUESTIONS.values() if plots.rows_of(result_of(page), q)}
    assert asked == set(re.findall(r"\]\((\w+)\.svg\)", (DOCS / page).read_text()))


@pytest.mark.parametrize(("page", "most"), [("performance.md", 150), ("performance-asyncio.md", 120)])
def test_a_readers_page_is_short(page: str, most: int) -> None:
    assert len((DOCS / page).read_text().splitlines()) <= most


def test_the_picture_for_readers_says_the_medians() -> None:
    drawn = (DOCS / "performance" / "summary.svg").read_text()
    bars = summary.picture_rows(measured("result"))
    assert [*bars] == [*summary.BARS.values()]
    for words, numbers in bars.items():
        assert f">{words}<" in drawn
        assert f">{summary.short(median(numbers))}<" in drawn
    assert measured("result")["finished"][:10] in drawn


@pytest.mark.parametrize(
    ("name", "table", "least"),
    [("result", summary.README, 2), ("result", summary.COMPARISONS["servers"], 2)],
    ids=["readme", "page"],
)
def test_a_table_for_readers_has_rows_in_which_ours_loses_or_ties(name: str, table: Any, least: int) -> None:
    rows = {row["key"]: row for row in measured(name)["rows"]}
    lines = [summary.cells_of(rows[line.key], line, table) for line in table.lines]
    alone = [cells for cells in lines if [cell.peer for cell in cells if cell.bold] == ["pybuntcp"]]
    assert len(lines) - len(alone) >= least


def test_the_readmes_table_has_six_rows_and_five_peers_and_the_day(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("before\n<!-- summary -->\n<!-- end -->\nafter\n")
    markdown.fill(path, measured("result"), [])
    heads, _, *table = block(path.read_text(), "summary")
    assert heads == "| server CPU, us | pybuntcp | uvloop | aiofastnet | asyncio | Bun |"
    assert table.index("") == 6
    assert measured("result")["finished"][:10] in " ".join(table[6:])


AHEAD = {  # what a page says of others -> (row, ours, theirs, figure) in which theirs has to be less
    "performance.md": {
        "Bare C": [("echo-50", "pybuntcp", "c-epoll", "cpu_us")],
        "At 10,000 busy connections": [
            *(("echo-10000", "pybuntcp", peer, "cpu_us") for peer in ("uvloop", "rloop", "bun")),
            *(("echo-5000", peer, "pybuntcp", "cpu_us") for peer in ("uvloop", "rloop", "bun")),
        ],
        "Messages of 1 MiB": [("size-1048576", "pybuntcp", "uvloop", "cpu_us")],
        "Downloads": [("download", "pybuntcp", peer, "cpu_us") for peer in ("uvloop", "asyncio", "bun")],
        "TLS": [
            *((key, "pybuntcp", "bun", "cpu_us") for key in ("tls-100", "tls-1k", "tls-64k", "handshake", "resumed")),
            ("tls-idle", "pybuntcp", "bun", "private_bytes"),
        ],
        "Many messages in flight and a handler that works": [
            ("five-50", "pybuntcp", "bun-sink", "cpu_us"),
            ("five-50", "bun-sink", "pybuntcp-slots", "cpu_us"),
        ],
        "Fan-out": [("fanout", "pybuntcp", "bun", "p50_us")],
        "One connection at a time inside uvloop or asyncio": [
            ("loops-1", f"pybuntcp-{loop}", loop, "cpu_us") for loop in ("uvloop", "asyncio")
        ],
        "`async def` handlers": [
            ("awaits-50", "pybuntcp-uvloop-async", "uvloop-streams", "cpu_us"),
            ("awaits-50", "uvloop-streams", "pybuntcp-uvloop-reader", "cpu_us"),
        ],
        "HTTP": [("http", "pybuntcp-http", "nginx", "cpu_us")],
        "Latency at a fixed rate": [
            ("latency-20000", "pybuntcp", "c-epoll", "p99_us"),
            ("latency-20000", "pybuntcp", "aiofastnet-uvloop", "p999_us"),
        ],
    },
    "performance-asyncio.md": {
        "rloop": [
            *((f"aio-{kib}k", "pybuntcp-protocol", "rloop", "cpu_us") for kib in (16, 64, 256, 1024, 4096)),
            ("aio-asyncpg", "pybuntcp-asyncpg", "rloop-asyncpg", "cpu_us"),
            *((key, "pybuntcp-scheduling", "rloop-scheduling", "cpu_us") for key in ("sleeps", "calls", "tasks")),
        ],
        "uvloop": [(f"aio-{key}", "pybuntcp-protocol", "uvloop", "cpu_us") for key in ("1", "1024k", "4096k")],
        "BufferedProtocols": [
            ("aio-buffered", "pybuntcp-buffered", f"{loop}-buffered", "cpu_us")
            for loop in ("uvloop", "rloop", "aiofastnet-uvloop")
        ],
        "redis-py as a client": [
            ("aio-redis-py", "pybuntcp-redis-py", f"{loop}-redis-py", "cpu_us") for loop in ("uvloop", "asyncio")
        ],
        "10,000 connections": [("aio-10000", "pybuntcp-protocol", "aiofastnet-uvloop", "cpu_us")],
        "Latency over TLS under `wrk`": [
            ("aio-tls-uvicorn", "pybuntcp-uvicorn", f"{loop}-uvicorn", "p99_us")
            for loop in ("uvloop", "asyncio", "aiofastnet-uvloop")
        ],
    },
}


def bullets_under(page: str, heading: str) -> list[str]:
    """The bold words that begin the items of a list."""
    (section,) = re.findall(rf"^## {heading}.*?\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    return re.findall(r"^- \*\*(.+?)\*\*", section, re.MULTILINE)


@pytest.mark.parametrize("page", [*AHEAD])
def test_others_are_ahead_where_a_page_says_so(page: str) -> None:
    assert bullets_under((DOCS / page).read_text(), "Where others are ahead") == [*AHEAD[page]]
    rows = {row["key"]: row["samples"] for row in result_of(page)["rows"]}
    not_so = [
        (words, claim)
        for words, claims in AHEAD[page].items()
        for claim in claims
        for key, ours, theirs, figure in [claim]
        if median(s[figure] for s in rows[key][theirs]) >= median(s[figure] for s in rows[key][ours])
    ]
    assert not_so == [], "the run says otherwise: change the sentence, on the page and in AHEAD"
