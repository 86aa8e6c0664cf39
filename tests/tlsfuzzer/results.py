"""What a script of tlsfuzzer printed, and what two servers' results have to say about each other.

Owns: the reading of a script's output, conversation by conversation, so that one that was stopped at its bound still
tells what it did; and the comparison: which conversations fail on ours and not on the reference. Knows nothing of how
scripts and servers are run.

    NAME ...                            a conversation begins; so does "NAME" repeat 3, with or without dots
    Error while processing              it did not go as the script expects; behind it a traceback
    OK, or OK-expected failure          it did
    XPASS-...                           it went well, and the script was told that it would not
    Test end                            the script is through
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

BEGINS = re.compile(r"(?P<once>.*\S) \.\.\.|\"(?P<again>.*)\" repeat \d+(?:\.\.\.)?")
LAST_OF_A_TRACEBACK = re.compile(r"(?:\w+\.)*\w*(?:Error|Exception|Timeout|timeout|Alert)\w*(?:: .*)?")
ADDRESS = re.compile(r"0x[0-9a-f]+")  # of an object in the script: another one each time


@dataclass
class Result:
    """One script's: conversations in order, the reason of each that failed, and whether the script came to its end."""

    ran: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    ended: bool = False


def read_output(text: str) -> Result:
    """An unfinished conversation counts as one that failed. One that runs several times fails if it fails once."""
    result = Result()
    name, reason = None, ""
    for line in text.splitlines():
        begins = BEGINS.fullmatch(line)
        if begins:
            close(result, name, reason)
            name, reason = begins["once"] or begins["again"], "no outcome"
        elif line == "Error while processing":
            reason = "failed"
        elif line.startswith("OK"):
            reason = ""
        elif line.startswith("XPASS-"):
            reason = "passed, against expectation"
        elif reason == "failed" and LAST_OF_A_TRACEBACK.fullmatch(line):
            reason = ADDRESS.sub("0x", line)
        elif line == "Test end":
            result.ended = True
    close(result, name, reason)
    return result


def close(result: Result, name: str | None, reason: str) -> None:
    if name is None:
        return
    result.ran.append(name)
    if reason:
        result.failed.setdefault(name, reason)


@dataclass
class Difference:
    """A conversation that fails on ours and not on the reference."""

    script: str
    conversation: str
    reason: str

    def __str__(self) -> str:
        return f"{self.script}: {self.conversation}: {self.reason}"


def differences(script: str, reference: Result, ours: Result) -> list[Difference]:
    """Also a script that came to its end on the reference alone, and what it has not come to."""
    found = [Difference(script, name, reason) for name, reason in ours.failed.items() if name not in reference.failed]
    if reference.ended and not ours.ended:
        passed = {name for name in reference.ran if name not in reference.failed}
        found += [Difference(script, name, "was not had") for name in sorted(passed.difference(ours.ran))]
        found.append(Difference(script, "(the script)", "did not come to its end"))
    return found


def unlike(reference: Result, ours: Result) -> list[tuple[str, str, str]]:
    """Conversations that fail on both, for different reasons: (name, the reference's, ours)."""
    both = ((name, reference.failed[name], ours.failed[name]) for name in ours.failed if name in reference.failed)
    return [each for each in both if each[1] != each[2]]


def unexplained(found: list[Difference], known: dict[tuple[str, str], str]) -> list[Difference]:
    """Those that no documented difference covers; `known`: (script, a regular expression of conversations) -> why."""
    return [each for each in found if not any(covers(pair, each) for pair in known)]


def covers(pair: tuple[str, str], difference: Difference) -> bool:
    return pair[0] == difference.script and re.fullmatch(pair[1], difference.conversation) is not None
