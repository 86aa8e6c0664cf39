"""tls_idle: what does a TLS connection hold while nothing happens? Memory of the server's process for each of 2,000 open connections: after the handshake and one message of 100 bytes, and of 64 KiB.

The slope between 200 and 2,200 connections, as in bench_idle.py: what a server costs by existing does not count.
"""

from __future__ import annotations

from harness.goals import figure_of
from harness.names import OURS
from harness.questions import Goal, Question, Row


def idle(key: str, size: int, words: str) -> Row:
    title = f"memory of an idle TLS connection, after one message of {words}"
    return Row(key, title, "idle", 2000, size, base=200, touch=True, tls="1.3", against=OURS)


SMALL, LARGE = idle("tls-idle", 100, "100 B"), idle("tls-idle-64k", 65536, "64 KiB")


QUESTION = Question(
    name="tls_idle",
    about="memory of the process for each idle TLS connection",
    rows=(SMALL, LARGE),
    quick=(LARGE,),
    goals=(
        Goal("idle TLS connection: bytes, after 100 B", figure_of(SMALL, OURS, "private_bytes"), 24 * 1024),
        Goal("idle TLS connection: bytes, after 64 KiB", figure_of(LARGE, OURS, "private_bytes"), 24 * 1024),
    ),
)
