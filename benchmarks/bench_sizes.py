"""sizes: what does a message cost as it grows? 16 bytes to 4 MiB there and back, 50 connections, one in flight on each.

From 64 KiB on it is the kernel's copying; what is left to a server is how often it asks, and whether it copies once more.
"""

from __future__ import annotations

from bench_echo import ECHO_50
from harness.questions import Question, Row

KIB = 1024


def size(count: int, words: str) -> Row:
    return Row(f"size-{count}", f"echo, {words}, 50 connections", size=count, among="series")


ROWS = (
    size(16, "16 B"),
    ECHO_50,
    size(KIB, "1 KiB"),
    size(16 * KIB, "16 KiB"),
    size(64 * KIB, "64 KiB"),
    size(256 * KIB, "256 KiB"),
    size(KIB * KIB, "1 MiB"),
    size(4 * KIB * KIB, "4 MiB"),
)
QUESTION = Question(name="sizes", about="echo of 16 B to 4 MiB", rows=ROWS, quick=(), series="size")
