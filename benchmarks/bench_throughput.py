"""throughput: what does a mebibyte cost in one direction? Uploads: 1 MiB comes, one byte goes back. Downloads: one byte comes, 1 MiB goes back. Eight connections.

Protocols hand the whole MiB to their transport, whose business it is what becomes of the part that the kernel does not take; pybuntcp, Bun and bare C go on when there is room.

The kernel's copy is most of it. In an upload a server chooses how much it reads at once, in a download whether it keeps what the kernel did not take or writes on from where it lies.
"""

from __future__ import annotations

from harness.questions import Question, Row

MIB = 1 << 20


def stream(mode: str, size: int, reply: int) -> Row:
    return Row(mode, f"{mode}, 1 MiB at a time, 8 connections", mode, 8, size, reply=reply, unit="MiB")


UPLOAD, DOWNLOAD = stream("upload", MIB, 1), stream("download", 1, MIB)
QUESTION = Question(
    name="throughput",
    about="1 MiB there or back, 8 connections",
    rows=(UPLOAD, DOWNLOAD),
    quick=(UPLOAD, DOWNLOAD),
)
