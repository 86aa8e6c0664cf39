"""Pictures of a result file: one for each question, as PNG and as SVG; bars for rows that stand alone, lines where rows form a series over one parameter.

Theory: a picture is a column of panels (panels.py), laid out in inches from the top, so that a bar is as thick with three peers as with twenty; above them what colours and marks
mean, as far as they occur; below them the machine, the day, the commit and the rounds, so that a picture that is passed on alone still says where it is from.

Promises: works from the result alone; the same result gives the same SVG; a question without rows in the result has no picture. Without matplotlib nothing is drawn (`can_draw`).
It does not know: what is in a panel, how a figure was measured.
"""

from __future__ import annotations

import importlib.util
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.markdown import computer, source
from harness.panels import DASHES, LATENCIES, SHADES, Panel, RowData, kind_of, panels_of
from harness.peers import LIMIT, OUR_OWN, OURS
from harness.questions import Question
from harness.report import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, DPI = 9.0, 110  # inches
SETTINGS = {
    "svg.hashsalt": OURS,
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
}

# --- files ---


def can_draw() -> bool:
    return importlib.util.find_spec("matplotlib") is not None


def draw(result: Result, folder: Path, questions: Iterable[Question]) -> list[Path]:
    """The files drawn: none without matplotlib, none for a question that the result does not answer."""
    try:
        from matplotlib import rc_context
    except ImportError:
        return []
    paths: list[Path] = []
    with rc_context(SETTINGS):
        for question in questions:
            if panels := list(panels_of(rows_of(result, question), getattr(question, "series", ""))):
                paths += save(picture(result, question, panels), folder / question.name)
    return paths


def rows_of(result: Result, question: Question) -> list[RowData]:
    """The question's, of which there is at least one figure or failure."""
    keys = {row.key for row in (*question.rows, *question.quick)}
    return [row for row in result["rows"] if row["key"] in keys and any(row["samples"].values())]


def save(figure: Figure, stem: Path) -> list[Path]:
    stem.parent.mkdir(parents=True, exist_ok=True)
    png, svg = (stem.parent / f"{stem.name}.{kind}" for kind in ("png", "svg"))
    figure.savefig(png, dpi=DPI, metadata={"Software": None})
    figure.savefig(svg, metadata={"Date": None, "Creator": None})
    return [png, svg]


# --- a picture ---


def picture(result: Result, question: Question, panels: list[Panel]) -> Figure:
    """Title, key, panels and footer, from the top down."""
    from matplotlib.figure import Figure

    title = textwrap.wrap(f"{question.name}: {question.about}", 100)
    notes = footer(result, panels)
    top, between = 0.45 + 0.2 * len(title), 0.88
    height = top + sum(panel.height + between for panel in panels) + 0.16 * len(notes) + 0.1
    figure = Figure(figsize=(WIDTH, height))
    figure.text(0.15 / WIDTH, 1 - 0.12 / height, "\n".join(title), va="top", weight="bold", fontsize=11)
    add_key(figure, panels, 1 - (0.12 + 0.2 * len(title)) / height)
    left = 0.25 + 0.078 * max(len(name) for panel in panels for name in panel.labels)
    down = top
    for panel in panels:
        down += 0.3 + panel.height
        box = (left / WIDTH, 1 - down / height, (WIDTH - left - panel.right) / WIDTH, panel.height / height)
        add_panel(figure.add_axes(box), panel)
        down += between - 0.3
    figure.text(0.15 / WIDTH, 0.08 / height, "\n".join(notes), va="bottom", fontsize=7.5, color="#555555")
    return figure


def add_panel(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title)
    if panel.kind != "lines":
        axes.set_ylim(len(panel.labels) - 0.45, -0.55)
        axes.set_yticks(range(len(panel.labels)), panel.labels)
        axes.tick_params(axis="y", length=0)
        axes.grid(True, axis="x")
        for tick, name in zip(axes.get_yticklabels(), panel.labels, strict=True):
            tick.set_weight("bold" if name.rstrip("!") in OUR_OWN else "normal")
    panel.draw(axes)


def add_key(figure: Figure, panels: list[Panel], height: float) -> None:
    """What colours and marks mean, as far as the panels have them."""
    from matplotlib.legend_handler import HandlerTuple
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    kinds = {panel.kind for panel in panels}
    groups = {kind_of(name.rstrip("!")) for panel in panels if panel.kind != "lines" for name in panel.labels}
    names = {k: name for k, name in (("ours", OURS), ("other", "others"), ("limit", LIMIT)) if k in groups}
    entries: dict[str, Any] = {name: tuple(Patch(color=s) for s in SHADES[kind]) for kind, name in names.items()}
    if "cpu" in kinds:
        user, system = (tuple(Patch(color=SHADES[kind][shade]) for kind in names) for shade in (0, 1))
        measures = " or ".join(sorted({panel.against for panel in panels if panel.against}))
        line = Line2D([], [], color="#444444", linewidth=0.8, linestyle=DASHES)
        entries |= {"user": user, "system": system, f"1 x: {measures}": line}
    if "latency" in kinds:
        entries |= {name: Line2D([], [], color="#555555", marker=m, linestyle="") for _, m, name in LATENCIES}
    entries["smallest..largest"] = Patch(color="#bbbbbb") if kinds == {"lines"} else Line2D([], [], color="#555555")
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="upper left",
        bbox_to_anchor=(0.07 / WIDTH, height),
        ncols=len(entries),
        frameon=False,
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0)},
        fontsize=8,
        columnspacing=1.4,
        handletextpad=0.5,
    )


def footer(result: Result, panels: list[Panel]) -> list[str]:
    plan = result["plan"]
    run = f"medians of {plan['rounds']} interleaved rounds of {plan['seconds']} s; {result['cores']['words']}"
    lines = [
        f"{computer(result)}; kernel {result['machine']['kernel']}",
        f"{result['finished'][:10]}, {source(result)}; {run}",
    ]
    lines += dict.fromkeys(note for panel in panels for note in panel.notes)
    if absent := [name for name, peer in result["peers"].items() if peer["missing"]]:
        lines += textwrap.wrap("missing: " + ", ".join(absent), 130)
    return lines
