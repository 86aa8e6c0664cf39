"""Pictures of a result file, an SVG for each question: bars for rows that stand alone, curves where rows form a series;
and summary.svg, the few bars that a reader is shown first.

Every bar and point is the median of the rounds, and a thin line goes from the smallest to the largest of them. Below a
picture stand the machine, the day and the commit, so that one that is passed on alone still says where it is from.

Promises: works from the result alone; the same result gives the same SVG; a question without figures has no picture.
Without matplotlib nothing is drawn (`can_draw`). It does not know how a figure was measured.
"""

from __future__ import annotations

import importlib.util
import textwrap
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from harness.markdown import computer, source
from harness.names import LIMIT, OUR_OWN, OURS, is_limit
from harness.questions import Question
from harness.report import Result, ratios, values
from harness.summary import BARS, picture_rows, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RowData = dict[str, Any]  # a row of the result file

FIGURES = {  # by the row's mode; else the server's CPU
    "idle": ("private_bytes", "private bytes a connection"),
    "wakeups": ("idle_cpu_ms", "server CPU while idle, ms"),
    "fixed": ("p99_us", "p99 latency, us"),
}
COLORS = {"ours": "#0072b2", "limit": "#999999", "other": "#e69f00"}  # apart for colour-blind readers, too
KEY = "blue: ours; grey: bare C, the least that the work can cost; orange: others"
CURVES = ("#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7b3294", "#8c6d31", "#a0a000")
MARKERS = "sohD^vPX*<>"
METADATA = {"Date": None, "Creator": None}
CUT = 4.0  # a bar is cut at so many times the median of all bars
SETTINGS = {
    "svg.hashsalt": OURS,
    "svg.fonttype": "none",
    "font.size": 8,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
}


def can_draw() -> bool:
    return importlib.util.find_spec("matplotlib") is not None


def draw(result: Result, folder: Path, questions: Iterable[Question]) -> list[Path]:
    """The files drawn: none without matplotlib."""
    if not can_draw():
        return []
    from matplotlib import rc_context

    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    with rc_context(SETTINGS):
        for question in questions:
            if groups := groups_of(rows_of(result, question), question.series):
                paths.append(folder / f"{question.name}.svg")
                picture(result, question, groups).savefig(paths[-1], metadata=METADATA)
        if bars := picture_rows(result):
            paths.append(folder / "summary.svg")
            summary_picture(result, bars).savefig(paths[-1], metadata=METADATA)
    return paths


def rows_of(result: Result, question: Question) -> list[RowData]:
    """The question's, of which there is at least one figure."""
    keys = {row.key for row in (*question.rows, *question.quick)}
    return [row for row in result["rows"] if row["key"] in keys and medians(row)]


def groups_of(rows: list[RowData], series: str) -> list[list[RowData]]:
    """Rows that differ only in the series' parameter, and in who was asked, are one group; others each its own."""
    found: dict[str, list[RowData]] = {}
    for row in rows:
        alike = repr([v for k, v in sorted(row.items()) if k not in ("key", "title", "samples", "among", series)])
        found.setdefault(alike if series in row else row["key"], []).append(row)
    return [sorted(group, key=lambda row: row.get(series, 0)) for group in found.values()]


def picture(result: Result, question: Question, groups: list[list[RowData]]) -> Figure:
    from matplotlib.figure import Figure

    heights = [3.6 if len(group) > 1 else 0.6 + 0.2 * len(group[0]["samples"]) for group in groups]
    figure = Figure(figsize=(9, sum(heights) + 1.1), layout="constrained")
    every = figure.subplots(len(groups), squeeze=False, height_ratios=heights)[:, 0]
    for axes, group in zip(every, groups, strict=True):
        if len(group) > 1:
            draw_curves(axes, group, question.series)
        else:
            draw_bars(axes, group[0])
    figure.suptitle("\n".join(textwrap.wrap(f"{question.name}: {question.about}", 100)), weight="bold")
    figure.supxlabel("\n".join(footer(result, groups)), x=0.01, ha="left", fontsize=7, color="#555555")
    return figure


def summary_picture(result: Result, bars: dict[str, list[float]]) -> Figure:
    """The row that everybody asks for first, without the rest: `bars` has the figures of each round by peer."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 0.42 * len(bars) + 1.5), layout="constrained")
    axes = figure.subplots()
    kinds = {words: kind_of(peer) for peer, words in BARS.items()}
    for place, (words, numbers) in enumerate(bars.items()):
        middle, weight = median(numbers), "bold" if kinds[words] == "ours" else "normal"
        axes.barh(place, middle, color=COLORS[kinds[words]], height=0.66)
        axes.text(-0.012, place, words, ha="right", va="center", weight=weight, transform=axes.get_yaxis_transform())
        axes.annotate(short(middle), (middle, place), (4, 0), textcoords="offset points", va="center", weight=weight)
    axes.set(xlim=(0, 1.1 * max(median(n) for n in bars.values())), yticks=[])
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle("Server CPU for an echo of 100 bytes, 50 connections: us a message, less is better", weight="bold")
    figure.supxlabel("\n".join(summary_footer(result)), x=0.01, ha="left", fontsize=7, color="#555555")
    return figure


def summary_footer(result: Result) -> list[str]:
    plan = result["plan"]
    run = f"medians of {plan['rounds']} interleaved rounds of {plan['seconds']} s on loopback"
    return [f"{computer(result)}; kernel {result['machine']['kernel']}", f"{result['finished'][:10]}, {run}"]


def draw_bars(axes: Axes, row: RowData) -> None:
    """A peer a bar, its figure beside it. A peer without a figure has no bar, and its reason is in the tables."""
    middles, against = medians(row), row["samples"].get(row.get("against", LIMIT), [])
    largest = {peer: max(values(samples, figure_of(row)), default=0) for peer, samples in row["samples"].items()}
    edge = min(max(largest.values()), CUT * median(middles.values()))
    for place, (peer, samples) in enumerate(row["samples"].items()):
        weight = "bold" if peer in OUR_OWN else "normal"
        axes.text(-0.01, place, peer, ha="right", va="center", weight=weight, transform=axes.get_yaxis_transform())
        words = "no figure"
        if peer in middles:
            times = ratios(samples, against)
            words = short(middles[peer]) + (f"  {median(times):.2f} x" if times else "")
            axes.barh(place, middles[peer], xerr=spread(row, peer), color=COLORS[kind_of(peer)], ecolor="black")
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
        axes.annotate(
            words,
            (min(largest[peer], edge), place),
            (4, 0),
            textcoords="offset points",
            va="center",
            weight=weight,
            bbox=box,
        )
    axes.set(title=row["title"], xlabel=unit_of(row), xlim=(0, edge * 1.2 or 1), yticks=[])
    axes.set_ylim(len(row["samples"]) - 0.4, -0.6)
    axes.grid(axis="x")


def draw_curves(axes: Axes, rows: list[RowData], series: str) -> None:
    """A peer a curve, if there is more than one point of it."""
    from matplotlib.ticker import LogLocator

    for number, peer in enumerate(dict.fromkeys(peer for row in rows for peer in row["samples"])):
        asked = [row for row in rows if peer in medians(row)]
        kind = kind_of(peer)
        if len(asked) > 1:
            axes.errorbar(
                [row[series] for row in asked],
                [medians(row)[peer] for row in asked],
                [[spread(row, peer)[side][0] for row in asked] for side in (0, 1)],
                label=peer,
                color=CURVES[number % len(CURVES)] if kind == "other" else COLORS[kind],
                marker=MARKERS[number % len(MARKERS)],
                linewidth=2.4 if peer == OURS else 1.2,
                linestyle="solid" if kind == "other" or peer == OURS else "dashed",
            )
    axes.set(title=f"against {series}", xlabel=series, ylabel=unit_of(rows[0]), xscale="log", yscale="log")
    axes.set_xticks([row[series] for row in rows], [f"{row[series]:,}" for row in rows])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7), numticks=30))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.minorticks_off()
    axes.grid()
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.02), frameon=False)


def footer(result: Result, groups: list[list[RowData]]) -> list[str]:
    plan = result["plan"]
    key = [KEY] if any(len(group) == 1 for group in groups) else []
    run = f"medians of {plan['rounds']} interleaved rounds of {plan['seconds']} s, smallest..largest; {result['cores']['words']}"
    machine = f"{computer(result)}; kernel {result['machine']['kernel']}"
    missing = ", ".join(name for name, peer in result["peers"].items() if peer["missing"])
    lines = [*key, machine, f"{result['finished'][:10]}, {source(result)}; {run}"]
    return lines + (textwrap.wrap(f"missing: {missing}", 150) if missing else [])


# --- figures and words ---


def kind_of(peer: str) -> str:
    return "ours" if peer in OUR_OWN else "limit" if is_limit(peer) else "other"


def figure_of(row: RowData) -> str:
    return FIGURES.get(row["mode"], ("cpu_us", ""))[0]


def unit_of(row: RowData) -> str:
    return FIGURES.get(row["mode"], ("", f"server CPU, us a {row.get('unit', 'message')}"))[1]


def medians(row: RowData) -> dict[str, float]:
    figure = figure_of(row)
    return {peer: median(found) for peer, samples in row["samples"].items() if (found := values(samples, figure))}


def spread(row: RowData, peer: str) -> list[list[float]]:
    """How far the smallest and the largest round are from the median."""
    found = values(row["samples"][peer], figure_of(row))
    return [[median(found) - min(found)], [max(found) - median(found)]]
