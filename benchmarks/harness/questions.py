"""What is asked: a `Row` is one line of a table, a `Question` is a file bench_<name>.py, a `Plan` says how long and where.

Owns the words in which questions, goals and figures are written. Measures nothing and starts nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from harness.machine import Cores
from harness.names import ASKED, LIMIT

Sample = dict[str, Any]
Medians = dict[str, dict[str, dict[str, float]]]  # row -> peer -> figure -> median


@dataclass(frozen=True)
class Row:
    """What is asked. `mode` is the load's; `five` differs for the server only, and `wakeups` is the load's `idle`.
    `upload` and `download` are the load's `echo` with a reply of another length, and what the server behind a proxy does; `handshake` is of the load that speaks TLS; `http` is asked by wrk; of a `client` the client is measured, and what is `alone` asks nobody."""

    key: str
    title: str
    mode: str = "echo"
    connections: int = 50
    size: int = 100
    depth: int = 1
    base: int = 0
    touch: bool = False
    threads: int = 0  # loops of the server; 0 = one, in its main thread
    command: str = ""  # of redis-benchmark
    among: str = ""  # who is asked: the peers with this mode; "" = those with the load's
    against: str = LIMIT  # the peer all ratios are to
    beside: tuple[tuple[str, str], ...] = ()  # a second ratio: (peer, to which)
    unit: str = "message"  # what is counted
    tls: str = ""  # the version, "1.2" or "1.3"; "" = none
    pieces: bool = False  # over TLS: the server answers with fifty writes of 20 bytes
    resume: bool = False  # each connection resumes the session of the one before it
    behind: str = ""  # `client`: the database that is asked; it is on the load's core
    reply: int = 0  # bytes of a reply; 0 = as many as were sent
    stalled: int = 0  # fan-out: subscribers beside `connections` that never read
    rate: float = 0  # `fixed`: messages a second
    flood: int = 0  # so many clients do nothing but handshakes meanwhile

    @property
    def server_mode(self) -> str:
        if self.tls and not self.among:
            return "tls-fifty" if self.pieces else "tls"
        if self.threads or self.among:
            return self.among or "threads"
        return self.mode if self.mode in ASKED else "echo"


@dataclass(frozen=True)
class Goal:
    """A figure this project holds itself to. `value` returns None when it was not measured."""

    text: str
    value: Callable[[Medians], float | None]
    at_most: float


@dataclass(frozen=True)
class Question:
    """A file bench_<name>.py: rows, what their figures mean, and goals."""

    name: str
    about: str
    rows: tuple[Row, ...]
    quick: tuple[Row, ...]
    goals: tuple[Goal, ...] = field(default=())
    series: str = ""  # what grows from row to row, as `Row` calls it: then the plot is a curve


@dataclass(frozen=True)
class Plan:
    """How long and where."""

    rounds: int
    warmup: float
    seconds: float
    cores: Cores
    libssl: str = ""  # for the load that speaks TLS
    suite: str | None = None  # of TLS 1.3, the only one that load offers; None = all of OpenSSL's, in its order
