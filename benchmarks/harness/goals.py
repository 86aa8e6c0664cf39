"""What goals are made of: one figure beside another, out of the medians of a run.

Promises: a value is None when one of the two was not measured. A ratio of CPU to the peer that a row is against, or of that peer to another, is the median of the ratios inside the rounds; every other is one of medians.
It does not know: what is held to be enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from harness.questions import Medians, Row

Value = Callable[[Medians], float | None]


def figure_of(row: Row, peer: str, figure: str) -> Value:
    return lambda medians: medians.get(row.key, {}).get(peer, {}).get(figure)


def times(row: Row, peer: str, other: str, figure: str = "cpu_us") -> Value:
    """The figure of one beside that of another."""

    def value(medians: Medians) -> float | None:
        ours, theirs = (medians.get(row.key, {}).get(name, {}) for name in (peer, other))
        if figure == "cpu_us" and other == row.against and "ratio" in ours:
            return ours["ratio"]
        if figure == "cpu_us" and peer == row.against and theirs.get("ratio"):
            return 1 / theirs["ratio"]
        return ours[figure] / theirs[figure] if ours.get(figure) and theirs.get(figure) else None

    return value


def times_the_best(row: Row, peer: str, others: Iterable[str], figure: str = "cpu_us", best_by: str = "") -> Value:
    """The figure of one beside that of the best of others, which is who has least of it, or of `best_by`."""
    names, judged = tuple(others), best_by or figure

    def value(medians: Medians) -> float | None:
        measured = medians.get(row.key, {})
        found = {name: measured[name][judged] for name in names if judged in measured.get(name, {})}
        return times(row, peer, min(found, key=found.__getitem__), figure)(medians) if found else None

    return value
