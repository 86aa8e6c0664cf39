"""Rewrites the tables of docs/compatibility.md: `make docs`, or `python tests/suites/page.py`.

Owns what stands between the page's markers: the scores, out of scores.json, which `make suites ARGS=--store` writes;
what is expected to fail and what is left out, out of the files in catalogue/. `tests/project/test_suites.py` says whether
the page is current.
"""

from __future__ import annotations

import json
import re
from typing import Any

import run
from source import ROOT
from suite import Suite

PAGE = ROOT / "docs" / "compatibility.md"


def scores(suites: dict[str, Suite], stored: dict[str, Any]) -> str:
    rows = [
        "| suite | version | on pybuntcp: passed | failed | on asyncio: passed | failed | fail here alone | CPython |"
    ]
    rows.append("|---|---|---|---|---|---|---|---|")
    for name, suite in suites.items():
        if name not in stored:
            rows.append(f"| {suite.title} (`{name}`) | {suite.version} | no complete run yet | | | | | |")
            continue
        row = stored[name]
        part = " with `--quick`" if row.get("quick") else ""
        rows.append(score(f"{suite.title} (`{name}`){part}", row, row))
        if "fallback" in row:
            rows.append(score("&emsp;TLS on the fallback engine", row, row["fallback"]))
    return "\n".join(rows)


def score(title: str, run: dict[str, Any], found: dict[str, Any]) -> str:
    cells = [title, run["version"], found["passed"], found["failed"], found["control_passed"]]
    cells += [len(found["control_failed"]), len(found["expected"]) + len(found["unlisted"]), run["python"]]
    return "| " + " | ".join(map(str, cells)) + " |"


def listed(table: dict[str, str], nothing: str) -> str:
    """Test ids below the reason that they share."""
    lines = []
    for why in dict.fromkeys(table.values()):
        tests = ", ".join(f"`{test}`" for test, each in table.items() if each == why)
        lines.append(f"- {tests}: {why}.")
    return "\n".join(lines) or nothing


def expected(suites: dict[str, Suite]) -> str:
    return listed({test: why for suite in suites.values() for test, why in suite.expected.items()}, "None.")


def left_out(suites: dict[str, Suite]) -> str:
    parts = [
        f"{suite.title} tests (`{name}`):\n\n{listed(suite.left_out, '')}"
        for name, suite in suites.items()
        if suite.left_out
    ]
    return "\n\n".join(parts) or "None."


def current(page: str) -> str:
    """The page as it should be."""
    suites = run.catalogue()
    parts = {
        "scores": scores(suites, json.loads(run.SCORES.read_text(encoding="utf-8"))),
        "expected": expected(suites),
        "left out": left_out(suites),
    }
    for name, text in parts.items():
        between = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        page = between.sub(lambda found, text=text: f"{found[1]}\n{text}\n\n{found[2]}", page)  # type: ignore[misc]
    return page


if __name__ == "__main__":
    PAGE.write_text(current(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
