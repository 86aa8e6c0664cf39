"""proxy: what do bytes cost that only pass? A TCP proxy between the load and a server of bare C: 100-byte messages on 50 connections, then 1 MiB at a time each way on 8.

The CPU is the proxy's alone: the server behind it is `c-epoll` on the load's core, so rates are what that core can do. Ratios are to `pybuntcp-pipe`: bare C has no proxy here.
"""

from __future__ import annotations

from harness.names import PIPE
from harness.questions import Question, Row

MIB = 1 << 20


def stream(mode: str, way: str, size: int, reply: int) -> Row:
    title = f"proxy, 1 MiB at a time {way}, 8 connections"
    return Row(f"proxy-{mode}", title, mode, 8, size, reply=reply, unit="MiB", among="proxy", against=PIPE)


ROWS = (
    Row("proxy-echo", "proxy, echo of 100 B, 50 connections", among="proxy", against=PIPE),
    stream("upload", "to the server", MIB, 1),
    stream("download", "from the server", 1, MIB),
)
QUESTION = Question(name="proxy", about="100-byte messages and 1 MiB through a TCP proxy", rows=ROWS, quick=ROWS)
