"""The panels of a picture: what is drawn in one axes for one row of a result, or for rows that form a series.

Theory: the row's mode decides. `idle` is bars of memory, `wakeups` bars of CPU while idle, `fixed` dots of latency, all else bars of CPU a message, user and system stacked. Rows that
differ in nothing but the series' parameter are lines in one panel, a panel a figure.

Promises: peers in the tables' order, ours blue, the limit grey, others orange, apart for colour-blind readers too; every median has the spread of its rounds; a bar that would dwarf
the others is broken, and says its figure; a peer without a figure is there and says why.
It does not know: where in a picture it is, what a question is after, how a figure was measured.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from harness.peers import LIMIT, OUR_OWN, OURS, is_limit
from harness.report import Samples, disturbed, errors, good, ratios, values

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RowData = dict[str, Any]  # a row of the result file

SHADES = {"ours": ("#00568c", "#6cb6e6"), "limit": ("#6b6b6b", "#c4c4c4"), "other": ("#b04a00", "#f2b27a")}
OUR_LINES = ("#0072b2", "#56b4e9", "#003a5c", "#7a9cff")
LIMIT_LINES = ("#777777", "#aaaaaa")
OTHER_LINES = ("#d55e00", "#e69f00", "#009e73", "#cc79a7", "#8c6d31", "#a0a000", "#7b3294")
LATENCIES = (("p50_us", "o", "p50"), ("p99_us", "D", "p99"), ("p999_us", "^", "p99.9"))
MARKERS = "osD^vPX*<>"
UNITS = {
    "cpu_us": "server CPU, us a {}",
    "p50_us": "p50 latency, us",
    "p99_us": "p99 latency, us",
    "private_bytes": "private bytes a connection",
    "idle_cpu_ms": "server CPU while idle, ms",
}
PARAMETERS = {
    "depth": "messages in flight on each connection",
    "size": "size of a message",
    "rate": "messages a second",
}
RIGHT = 0.25  # inches
CLIP = 6.0  # so many times the next one: broken
WIDE = 25.0  # memory that differs more is on a log axis
UNLIMITED = float("inf")
DASHES = (0, (4, 3))
BOLD = f"bold figure: the least, or not to be told from it by the spreads ({LIMIT} aside)"
BROKEN = "broken bars are far longer than drawn: their figure stands beside them"
BUSY = "! other programs took over 5 % of a core in some rounds"


# --- panels ---


@dataclass(frozen=True)
class Panel:
    """What a picture must know of it. The height is that of the axes; `right` is kept free beside them; both in inches."""

    title: str
    kind: str  # "cpu", "memory", "latency", "lines"
    height: float
    labels: list[str]
    draw: Callable[[Axes], None]
    right: float = RIGHT
    against: str = ""  # who has the thin line
    notes: tuple[str, ...] = ()


def panels_of(rows: list[RowData], series: str) -> Iterator[Panel]:
    for group in groups_of(rows, series):
        if len(group) == 1:
            yield row_panel(group[0])
        else:
            yield from series_panels(group, series)


def groups_of(rows: list[RowData], series: str) -> list[list[RowData]]:
    """Rows that differ in the series' parameter only (and perhaps in who was asked) are one group, all others each its own."""
    apart = ("key", "title", "samples", "among", series)
    found: dict[str, list[RowData]] = {}
    for row in rows:
        alike = repr(sorted((k, v) for k, v in row.items() if k not in apart))
        found.setdefault(alike if series in row else row["key"], []).append(row)
    return list(found.values())


def row_panel(row: RowData) -> Panel:
    peers = list(row["samples"])
    kind, drawing, right, high = {
        "idle": ("memory", draw_memory, RIGHT, 0.27),
        "wakeups": ("memory", draw_wakeups, RIGHT, 0.27),
        "fixed": ("latency", draw_latency, 1.9, 0.4),
    }.get(row["mode"], ("cpu", draw_cpu, RIGHT, 0.27))
    labels = [peer + "!" * bool(disturbed(row["samples"][peer])) for peer in peers]
    against = row.get("against", LIMIT) if kind == "cpu" else ""
    height = high * len(peers) + 0.1
    return Panel(row["title"], kind, height, labels, lambda axes: drawing(axes, row), right, against, notes_of(row))


def notes_of(row: RowData) -> tuple[str, ...]:
    busy = (BUSY,) if any(disturbed(samples) for samples in row["samples"].values()) else ()
    broken = (BROKEN,) if cut_above(row) < UNLIMITED else ()
    return (*(() if row["mode"] == "fixed" else (BOLD,)), *broken, *busy)


def draw_cpu(axes: Axes, row: RowData) -> None:
    """User and system stacked; a thin line where the peer is that ratios are to."""
    cut = cut_above(row)
    against = row.get("against", LIMIT)
    draw_bars(axes, row, "cpu_us", cut, lambda samples: times(samples, row["samples"].get(against, [])))
    if (line := medians(row, "cpu_us").get(against)) is not None and line <= cut:
        axes.axvline(line, color="#444444", linewidth=0.8, linestyle=DASHES, zorder=3)


def draw_memory(axes: Axes, row: RowData) -> None:
    held = [value for value in medians(row, "private_bytes").values() if value >= 1]
    draw_bars(axes, row, "private_bytes")
    if held and max(held) > WIDE * min(held):
        axes.set_xscale("log")
        axes.set_xlim(min(held) / 3, max(held) * (max(held) / min(held)) ** 0.15)
        plain_ticks(axes.xaxis, axes.get_xlim())


def draw_wakeups(axes: Axes, row: RowData) -> None:
    draw_bars(axes, row, "idle_cpu_ms", more=lambda samples: f"  {median(values(samples, 'wakeups')):,.0f} wake-ups")


def draw_bars(
    axes: Axes, row: RowData, figure: str, cut: float = UNLIMITED, more: Callable[[Samples], str] = lambda _: ""
) -> None:
    """A peer a bar, its figure at the end; bold is the least and what its spread cannot tell from it."""
    least = least_of(row, figure)
    for place, (peer, samples) in enumerate(row["samples"].items()):
        found = values(samples, figure)
        if not found:
            say_failure(axes, place, samples)
            continue
        middle = median(found)
        end = min(middle, cut)
        draw_bar(axes, place, peer, samples, end, end / middle if middle > 0 else 1.0)
        if middle > cut:
            break_bar(axes, place, end)
        else:
            spread(axes, place, found, "black")
        label(axes, end if middle > cut else max(found), place, short(middle) + more(samples), peer in least)
    axes.set_xlabel(unit_of(row, figure))
    shown = [min(value, cut) for samples in row["samples"].values() for value in values(samples, figure)]
    axes.set_xlim(0, max([*shown, 1e-9]) * 1.22)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")


def draw_bar(axes: Axes, place: int, peer: str, samples: Samples, end: float, scale: float) -> None:
    dark, light = SHADES[kind_of(peer)]
    user = median(values(samples, "user_us") or [0.0]) * scale
    if user and values(samples, "system_us"):
        user = min(user, end)
        axes.barh(place, end - user, left=user, height=0.68, color=light)
        axes.barh(place, user, height=0.68, color=dark)
    else:
        axes.barh(place, max(end, 0), height=0.68, color=light)


def break_bar(axes: Axes, place: int, end: float) -> None:
    """Two white strokes across it, near its end."""
    for across in (0.9, 0.92):
        axes.plot([across * end, (across + 0.012) * end], [place + 0.4, place - 0.4], color="white", linewidth=2)


def draw_latency(axes: Axes, row: RowData) -> None:
    """Dots on a log axis, the figures in a column of their own."""
    axes.set_xscale("log")
    for place, (peer, samples) in enumerate(row["samples"].items()):
        shown = [(median(v), v, mark) for figure, mark, _ in LATENCIES if (v := values(samples, figure))]
        if not shown:
            say_failure(axes, place, samples)
            continue
        dark, light = SHADES[kind_of(peer)]
        for step, (middle, found, mark) in enumerate(shown):
            spread(axes, place + (step - 1) * 0.25, found, light)
            axes.plot(middle, place + (step - 1) * 0.25, mark, color=dark, markersize=5, zorder=4)
        words = " / ".join(short(middle) for middle, _, _ in shown)
        axes.text(1.015, place, words, va="center", fontsize=8, transform=beside(axes))
    axes.text(1.015, -0.9, "p50 / p99 / p99.9, us", va="center", fontsize=8, color="#666666", transform=beside(axes))
    plain_ticks(axes.xaxis, axes.get_xlim())
    axes.set_xlabel("latency, us, from when a message was due")


# --- series ---


def series_panels(rows: list[RowData], series: str) -> Iterator[Panel]:
    rows = sorted(rows, key=lambda row: row[series])
    figures = {"idle": ("private_bytes",), "fixed": ("p50_us", "p99_us")}.get(rows[0]["mode"], ("cpu_us",))
    for figure in figures:
        if any(values(samples, figure) for row in rows for samples in row["samples"].values()):
            yield line_panel(rows, series, figure)


def line_panel(rows: list[RowData], series: str, figure: str) -> Panel:
    rows, notes = curves_only(rows, series)
    peers = {peer: None for row in rows for peer in row["samples"]}
    drawing = lambda axes: draw_lines(axes, rows, series, figure)  # noqa: E731
    height = max(3.6, 0.2 * len(peers))
    right = 0.42 + 0.078 * max(map(len, peers), default=0)
    return Panel(common_words(rows), "lines", height, ["10,000.0"], drawing, right, notes=notes)


def curves_only(rows: list[RowData], series: str) -> tuple[list[RowData], tuple[str, ...]]:
    """Without peers that were asked once, for one point is no curve; and notes on the failures of the rest."""
    asked = [peer for row in rows for peer in row["samples"]]
    kept = [{**row, "samples": {p: s for p, s in row["samples"].items() if asked.count(p) > 1}} for row in rows]
    every = [(row, peer, samples) for row in kept for peer, samples in row["samples"].items()]
    busy = (BUSY,) if any(disturbed(samples) for _, _, samples in every) else ()
    failed: dict[str, str] = {}
    for row, peer, samples in every:
        if not good(samples):
            at = f"{failed[peer].partition(':')[0]}, " if peer in failed else f"{peer} at "
            failed[peer] = f"{at}{amount(row[series], series)}: {failure(samples)}"
    return kept, (*busy, *failed.values())


def draw_lines(axes: Axes, rows: list[RowData], series: str, figure: str) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    ends: dict[str, tuple[float, float, str]] = {}
    for peer, (color, mark) in line_styles(rows).items():
        points = [(row[series], v) for row in rows if (v := values(row["samples"].get(peer, []), figure))]
        if points:
            draw_line(axes, peer, points, color, mark)
            ends[peer] = (points[-1][0], median(points[-1][1]), color)
    axes.set_xticks([row[series] for row in rows], [amount(row[series], series) for row in rows])
    axes.set_xticks([], minor=True)
    axes.set_xlabel(PARAMETERS.get(series, series))
    axes.set_ylabel(unit_of(rows[0], figure))
    axes.grid(True)
    plain_ticks(axes.yaxis, axes.get_ylim())
    name_lines(axes, ends)


def draw_line(axes: Axes, peer: str, points: list[tuple[float, list[float]]], color: str, mark: str) -> None:
    across, low, high = [x for x, _ in points], [min(v) for _, v in points], [max(v) for _, v in points]
    axes.fill_between(across, low, high, color=color, alpha=0.18, linewidth=0)
    strong = peer == OURS
    style = DASHES if kind_of(peer) == "limit" else "solid"
    axes.plot(
        across,
        [median(v) for _, v in points],
        color=color,
        marker=mark,
        markersize=5 if strong else 4,
        linewidth=2.4 if strong else 1.3,
        linestyle=style,
        zorder=4 if strong else 3,
    )


def name_lines(axes: Axes, ends: dict[str, tuple[float, float, str]]) -> None:
    """Each name at its line's end, moved apart where they would cover each other."""
    if not ends:
        return
    height = axes.get_window_extent().height
    where = {peer: axes.transAxes.inverted().transform(axes.transData.transform(e[:2]))[1] for peer, e in ends.items()}
    places = moved_apart(where, 11.5 * axes.figure.dpi / 72 / height)
    for peer, (across, value, color) in ends.items():
        axes.annotate(
            peer,
            (across, value),
            (1.035, places[peer]),
            textcoords="axes fraction",
            va="center",
            color=darker(color),
            weight="bold" if peer in OUR_OWN else "normal",
            arrowprops={
                "arrowstyle": "-",
                "color": color,
                "linewidth": 0.6,
                "shrinkA": 2,
                "shrinkB": 3,
                "relpos": (0, 0.5),
            },
        )


def moved_apart(where: dict[str, float], gap: float) -> dict[str, float]:
    """The same order, `gap` or more between neighbours, as near as can be to where they were, between 0 and 1."""
    names = sorted(where, key=lambda name: where[name])
    up, down = [where[name] for name in names], [where[name] for name in names]
    for index in range(1, len(names)):
        up[index] = max(up[index], up[index - 1] + gap)
        down[-index - 1] = min(down[-index - 1], down[-index] - gap)
    middle = [(above + below) / 2 for above, below in zip(up, down, strict=True)]
    last = len(names) - 1
    return {name: max(i * gap, min(1 - (last - i) * gap, middle[i])) for i, name in enumerate(names)}


def line_styles(rows: list[RowData]) -> dict[str, tuple[str, str]]:
    """peer -> colour and marker."""
    peers = list({peer: None for row in rows for peer in row["samples"]})
    found: dict[str, tuple[str, str]] = {}
    for kind, colors in (("ours", OUR_LINES), ("limit", LIMIT_LINES), ("other", OTHER_LINES)):
        for number, peer in enumerate(p for p in peers if kind_of(p) == kind):
            found[peer] = (colors[number % len(colors)], MARKERS[peers.index(peer) % len(MARKERS)])
    return {peer: found[peer] for peer in peers}


# --- figures and words ---


def kind_of(peer: str) -> str:
    return "ours" if peer in OUR_OWN else "limit" if is_limit(peer) else "other"


def medians(row: RowData, figure: str) -> dict[str, float]:
    return {peer: median(found) for peer, samples in row["samples"].items() if (found := values(samples, figure))}


def least_of(row: RowData, figure: str) -> set[str]:
    """Who has the smallest median, and whose spread touches that one's; the limit is no competitor."""
    middles = {peer: m for peer, m in medians(row, figure).items() if kind_of(peer) != "limit"}
    if len(middles) < 2:
        return set()
    best = min(middles, key=lambda peer: middles[peer])
    most = max(values(row["samples"][best], figure))
    return {peer for peer in middles if min(values(row["samples"][peer], figure)) <= most}


def cut_above(row: RowData) -> float:
    """Where bars of CPU are broken: a third of them or more is below, and the next is more than CLIP times as long."""
    ordered = sorted(medians(row, "cpu_us").values())
    for place in range(max(2, len(ordered) // 3), len(ordered)):
        if ordered[place] > CLIP * ordered[place - 1] > 0:
            return ordered[place - 1] * 1.5
    return UNLIMITED


def times(samples: Samples, against: Samples) -> str:
    found = ratios(samples, against)
    if not found:
        return ""
    middle = median(found)
    return f"  {middle:.2f} x" if middle >= 0.1 else f"  {middle:.1g} x"


def failure(samples: Samples) -> str:
    said = (errors(samples) or ["not measured"])[0]
    return "no figure: " + textwrap.shorten(said, 80, placeholder=" ..") if not good(samples) else "no figure"


def unit_of(row: RowData, figure: str) -> str:
    return UNITS[figure].format(row.get("unit", "message"))


def short(value: float) -> str:
    """Three figures that count."""
    if value == 0:
        return "0"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 100 else f"{value:,.0f}"


def amount(value: float, series: str) -> str:
    if series != "size" or value < 1024:
        return f"{value:,.0f}" + " B" * (series == "size")
    return f"{value / 1024:,.0f} KiB" if value < 2**20 else f"{value / 2**20:,.0f} MiB"


def common_words(rows: list[RowData]) -> str:
    """What the titles have in common, part by part."""
    titles = [row["title"].split(", ") for row in rows]
    return ", ".join(part for part in titles[0] if all(part in title for title in titles))


def beside(axes: Axes) -> Any:
    """Across in parts of the axes, down in places."""
    return axes.get_yaxis_transform()


def spread(axes: Axes, place: float, found: list[float], color: str) -> None:
    if len(found) > 1:
        axes.plot([min(found), max(found)], [place, place], color=color, linewidth=1.1, marker="|", markersize=5)


def say_failure(axes: Axes, place: int, samples: Samples) -> None:
    axes.text(0.008, place, failure(samples), va="center", color="#777777", style="italic", transform=beside(axes))


def label(axes: Axes, across: float, place: int, words: str, strong: bool) -> None:
    axes.annotate(
        words,
        (across, place),
        (5, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
        weight="bold" if strong else "normal",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        zorder=5,
    )


def darker(color: str) -> tuple[float, ...]:
    """For letters, which are thinner than lines."""
    from matplotlib.colors import to_rgb

    return tuple(0.75 * part for part in to_rgb(color))


def plain_ticks(axis: Any, limits: tuple[float, float]) -> None:
    """1, 2, 5, 10 and not 10^0; finer where the axis is short."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    span = limits[1] / limits[0]
    steps = (1.0, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8) if span < 8 else (1.0, 2, 5) if span < 2000 else (1.0,)
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
