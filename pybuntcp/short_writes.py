"""short_writes: whether a program can have noticed that a `write` was short.

The problem: `write` returns how many bytes it has accepted, and a program that drops the count loses the rest, in
silence, as soon as a peer is slow. With a `drain` handler it may know better; without one nothing continues the write.
The rule: the instruction that follows the call says what becomes of the count. POP_TOP: it was dropped. RETURN_VALUE:
the caller of that function has it, and is asked in the same way; what a handler returns is dropped. Anything else:
somebody looked.

Owns `ShortWriteWarning`, its place among the filters, and that rule. It is asked after short writes alone, and remembers
its answers. In doubt it says that somebody looked. Does not know sockets: see _core/objects/short_writes.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable
from types import CodeType, FrameType
from typing import Any


class ShortWriteWarning(ResourceWarning):
    """A `Socket.write` was short, its count was ignored, and there is no `drain` handler: bytes are lost.

    It is shown by default, once for the handlers of a listener or a connection; `stats()` counts every such write in
    `short_writes_unnoticed`. Ways to avoid it: a `drain` handler that continues the write; `socket.sink()`, which keeps
    what the peer does not accept; `socket.pipe()`; code that uses the count; or a filter of `warnings`.
    """


DROPPED, RETURNED, USED = range(3)  # what becomes of the value of a call
REMEMBERED = 1024  # calls; a program has a few
TURNING = (
    "pybuntcp",
    "asyncio",
)  # packages that turn a loop: a frame of theirs means that a C function has called `write`
WRAPPERS = 8  # of one handler, at most; more are not looked through

_fates: dict[tuple[int, int], tuple[CodeType, int]] = {}  # by the id of the code, which is kept so that it stays


def show_by_default() -> None:
    """Python ignores a ResourceWarning unless told otherwise. This one loses data, so it is shown unless told otherwise."""
    ignored = ("ignore", None, ResourceWarning, None, 0)  # the last one of Python's own filters
    filters: Any = warnings.filters
    before = len(filters) - 1 if filters and filters[-1] == ignored else len(filters)
    warnings.simplefilter("default", ShortWriteWarning, append=True)
    filters.insert(before, filters.pop())  # whatever a user has set, or sets later, is asked first


def is_unnoticed(handlers: Iterable[Any]) -> bool:
    """Did whoever has called `write` drop the count? handlers: those of the socket. Called by the core, which has no frame."""
    frame: FrameType | None = sys._getframe(1)
    if frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in TURNING:
        return False
    while frame is not None:
        fate = fate_of(frame.f_code, frame.f_lasti)
        if fate != RETURNED:
            return fate == DROPPED
        if any(frame.f_code is code_of(handler) for handler in handlers):
            return True
        frame = frame.f_back
    return True


def fate_of(code: CodeType, at: int) -> int:
    """What becomes of the value of the call at this offset. Remembered: the code is copied to be read."""
    known = _fates.get((id(code), at))
    if known is None:
        if len(_fates) == REMEMBERED:
            _fates.clear()
        known = _fates[id(code), at] = (code, read_fate(code, at))
    return known[1]


def read_fate(code: CodeType, at: int) -> int:
    from opcode import opmap

    instructions = code.co_code  # as compiled: neither specialised nor instrumented
    while instructions[at] == opmap.get("CACHE"):  # a frame that has called another may stand there
        at -= 2
    following = after(instructions, at, opmap)
    if instructions[at] == opmap.get("PRECALL"):  # of Python 3.11; specialised, it does the work of the CALL behind it
        following = after(instructions, following, opmap)
    elif instructions[at] == opmap.get(
        "SEND"
    ):  # `await`, since Python 3.11: it jumps when what is awaited has its value
        following = after(instructions, following + 2 * instructions[at + 1] - 2, opmap)
    if following >= len(instructions):
        return USED
    return {opmap["POP_TOP"]: DROPPED, opmap["RETURN_VALUE"]: RETURNED}.get(instructions[following], USED)


def after(instructions: bytes, at: int, opmap: dict[str, int]) -> int:
    """Where the next instruction is. CACHE, since Python 3.11, is memory of the one before it."""
    skipped = (opmap.get("CACHE"), opmap.get("END_SEND"), opmap["NOP"])
    at += 2
    while at < len(instructions) and instructions[at] in skipped:
        at += 2
    return at


def code_of(handler: Any) -> CodeType | None:
    """The code of what is called first: of a function, a method, a partial, an object with `__call__`."""
    for _ in range(WRAPPERS):
        code = getattr(handler, "__code__", None)
        if isinstance(code, CodeType):
            return code
        handler = getattr(handler, "__func__", None) or getattr(handler, "func", None) or type(handler).__call__
    return None
