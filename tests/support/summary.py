"""What a run says of its skipped tests at the end: each reason once, with the number of tests.

pytest's own list (`-rs`) has a line for each place that skips: without the programs that tests compare with, some hundred lines.
`-ra` in pyproject.toml is without `s` therefore. A plugin: conftest.py takes its hook over.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest


def reason_of(report: Any) -> str:
    """Of a skipped test or file; its longrepr is (path, line, "Skipped: reason")."""
    return str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr).removeprefix("Skipped: ")


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any) -> None:
    counted = Counter(reason_of(report) for report in terminalreporter.getreports("skipped"))
    if not counted:
        return
    terminalreporter.section("skipped, by reason")
    for reason, count in counted.most_common():
        terminalreporter.line(f"{count:5} {reason}")
