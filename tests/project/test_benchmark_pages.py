"""The benchmarks' pictures and pages, drawn and filled from small made-up results; nothing is measured here.

Pictures need matplotlib, which the tests' requirements do not have: where it is not installed these tests are skipped.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

pytest.importorskip("rich")

from harness import markdown, plots  # noqa: E402
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
