"""The page of states is true: every flag has its line in `docs/state.md`, with the functions that set and clear it.

Reads the sources as text. Other files ask about several flags by the names that `connection/state.pyx` gives to masks.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "pybuntcp" / "_core"
STATE = CORE / "connection" / "state.pyx"

FLAG = r"\bS_[A-Z_]+\b"
HEADER = re.compile(r"^(?:cdef|cpdef|async def|def)\b[^\n(=:]*?(\w+)\(", re.MULTILINE)
ASSIGNMENT = re.compile(r"\bflags (\|=|&=|=) ([^\n#]*)")
MASK = re.compile(r"\bflags & \([^()\n]*\|")


def flags_of(source: str) -> dict[str, str]:
    """The enumerators of a source, with what its comment says of each."""
    return dict(re.findall(r"^    (S_[A-Z_]+) = 1U? << \d+\s*(?:# *(.*))?$", source, re.MULTILINE))


def bits_of(source: str) -> list[int]:
    return [int(bit) for bit in re.findall(r"^    S_[A-Z_]+ = 1U? << (\d+)", source, re.MULTILINE)]


def table_of(page: str) -> dict[str, tuple[set[str], set[str]]]:
    """From a flag to the functions that set it and those that clear it."""
    rows = re.findall(r"^\| `(S_[A-Z_]+)` \|[^|]*\|([^|]*)\|([^|]*)\|$", page, re.MULTILINE)
    assert len(rows) == len({row[0] for row in rows})
    return {flag: (set(re.findall(r"\w+", sets)), set(re.findall(r"\w+", clears))) for flag, sets, clears in rows}


def assigned(source: str) -> dict[str, tuple[set[str], set[str]]]:
    """The same, as a source has it. Who puts a socket into a list sets the list's flag."""
    found: dict[str, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    starts = [*HEADER.finditer(source)]
    ends = [start.start() for start in starts[1:]] + [len(source)]
    for start, end in zip(starts, ends, strict=True):
        body, name = source[start.start() : end], start[1]
        for flag in re.findall(rf"output_list_add\([^\n]*({FLAG})\)", body):
            found[flag][0].add(name)
        for operator, value in ASSIGNMENT.findall(body):
            kept, _, removed = value.partition("~")
            for flag in re.findall(FLAG, kept if operator != "&=" else ""):
                found[flag][0].add(name)
            for flag in re.findall(FLAG, removed):
                found[flag][1].add(name)
    return found


def masks(source: str) -> list[str]:
    return [line.strip() for line in source.splitlines() if MASK.search(line)]


def core() -> dict[str, str]:
    found = {path.relative_to(CORE).as_posix(): path.read_text() for path in CORE.rglob("*.pyx")}
    assert len(found) > 20
    return found


# --- the tree --------------------------------------------------------------------------------------------


def test_the_page_names_every_flag_and_no_other() -> None:
    """In the order of their bits, by which tests/unit/test_state_checks.py knows a flag."""
    page = (ROOT / "docs" / "state.md").read_text()
    flags = flags_of(STATE.read_text())
    assert len(flags) > 20
    assert list(table_of(page)) == list(flags)
    assert set(re.findall(FLAG, page)) == flags.keys()


def test_the_page_says_who_sets_and_clears_each_flag() -> None:
    assert table_of((ROOT / "docs" / "state.md").read_text()) == assigned("\n".join(core().values()))


def test_every_flag_has_a_bit_of_its_own_and_says_what_it_means() -> None:
    source = STATE.read_text()
    assert bits_of(source) == list(range(len(flags_of(source))))
    assert [flag for flag, meaning in flags_of(source).items() if len(meaning) < 20] == []


@pytest.mark.parametrize("name", sorted(core().keys() - {"connection/state.pyx"}))
def test_a_mask_of_several_flags_has_a_name(name: str) -> None:
    assert masks(core()[name]) == []


# --- the rules can fail ----------------------------------------------------------------------------------


def test_flags_are_found() -> None:
    source = "cdef enum:\n    S_A = 1 << 0    # one\n    S_B = 1 << 1\n"
    assert (flags_of(source), bits_of(source)) == ({"S_A": "one", "S_B": ""}, [0, 1])


def test_a_table_is_read() -> None:
    assert table_of("| `S_A` | means | `f`, `g` | |\n") == {"S_A": ({"f", "g"}, set())}


@pytest.mark.parametrize(
    ("line", "sets", "clears"),
    [
        ("s.flags |= S_A", {"S_A"}, set()),
        ("s.flags |= S_A | S_B      # both", {"S_A", "S_B"}, set()),
        ("s.flags |= raw.flags & S_A", {"S_A"}, set()),
        ("s.flags &= ~S_A", set(), {"S_A"}),
        ("s.flags = (s.flags | S_A) & ~(S_B | S_C)", {"S_A"}, {"S_B", "S_C"}),
        ("s.flags = s.flags & ~S_A | lost", set(), {"S_A"}),
        ("output_list_add(s, &loop_of(s).turn_flush, S_A)", {"S_A"}, set()),
        ("if s.flags & S_A:", set(), set()),
    ],
)
def test_assignments_are_found(line: str, sets: set[str], clears: set[str]) -> None:
    found = assigned(f"cdef void f(socket_t* s) noexcept nogil:\n    {line}\n")
    assert {flag for flag in found if found[flag][0] == {"f"}} == sets
    assert {flag for flag in found if found[flag][1] == {"f"}} == clears


def test_masks_are_found() -> None:
    assert masks("x = 1\n    if s.flags & (S_A | S_B):\n") == ["if s.flags & (S_A | S_B):"]
    assert masks("    s.flags = (s.flags | S_A) & ~(S_B | S_C)\n    if s.flags & S_A and s.flags & S_B:\n") == []
