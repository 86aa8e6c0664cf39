"""Which lines of the .pyx files were executed: `python coverage.py BUILD_FOLDER`, after a run of a PYBUNTCP_COVERAGE build.

Owns the way back from gcov's lines of generated C to lines of Cython. Cython's own tracing would take the GIL in every
nogil function and so test another program; gcov's counters change nothing. Above each statement's C stands a comment with
its file and line; the first C line below it that can be executed says whether the statement was.
"""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ORIGIN = re.compile(r'\s*/\* "(?:[^"]*/)?(pybuntcp/[\w/]+\.pyx)":(\d+)$')
Hits = dict[str, dict[int, int]]


def main(folder: Path) -> int:
    hits: Hits = defaultdict(dict)
    for counters in sorted(folder.glob("CMakeFiles/*.dir/*.gcda")):
        collect(folder / counters.stem, c_counts(folder, counters), hits)
    for name, lines in sorted(hits.items()):
        missed = [line for line, count in sorted(lines.items()) if not count]
        share = 100 * (len(lines) - len(missed)) / len(lines)
        print(
            f"{share:5.1f} %  {name:32} {len(lines):4} statements; not executed: {' '.join(map(str, missed)) or 'none'}"
        )
    return 0 if hits else 1


def c_counts(folder: Path, counters: Path) -> dict[int, int]:
    """Line of the generated file -> how often it was executed, for the lines that can be."""
    command = ["gcov", "--json-format", "--stdout", str(counters.relative_to(folder))]
    report = subprocess.run(command, cwd=folder, check=True, capture_output=True).stdout
    text = gzip.decompress(report) if report[:2] == b"\x1f\x8b" else report
    files = json.loads(text)["files"]
    counts: dict[int, int] = defaultdict(int)
    for file in files:
        if Path(file["file"]).name == counters.stem:
            for line in file["lines"]:
                counts[line["line_number"]] += line["count"]
    return counts


def collect(generated: Path, counts: dict[int, int], hits: Hits) -> None:
    waiting = None
    for number, line in enumerate(generated.read_text(encoding="utf-8").splitlines(), 1):
        if origin := ORIGIN.match(line):
            waiting = (origin[1], int(origin[2]))
        elif waiting and number in counts:
            name, at = waiting
            hits[name][at] = max(hits[name].get(at, 0), counts[number])
            waiting = None


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
