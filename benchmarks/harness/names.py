"""What peers are called, which of them are ours, and the words for what they can do: `Peer.modes` are such words.

It does not know: who is there, what is asked.
"""

from __future__ import annotations

from harness.build import BUILD

LIMIT = "c-epoll"
OURS = "pybuntcp"
SINK = "pybuntcp-sink"
SLOTS = "pybuntcp-slots"
FALLBACK = "pybuntcp-fallback"  # the engine for a Python whose OpenSSL cannot be borrowed
REDIS = "redis-server"
REDIS_SLOTS = "pybuntcp-redis-slots"
REDIS_PYTHON = "pybuntcp-redis"
HTTP_EXAMPLE = "pybuntcp-http"
PIPE = "pybuntcp-pipe"
RELAY = "pybuntcp-relay"
SPEAK_HTTP = ("nginx", "bun-http", "node-http")  # all of it, as the example does
EVENT_LOOPS = ("native", "uvloop", "asyncio")  # as servers/event_loops.py names them; `native` is ours
EMBEDDED = {loop: f"pybuntcp-{loop}" for loop in EVENT_LOOPS}
READER = {loop: f"pybuntcp-{loop}-reader" for loop in EVENT_LOOPS}
ASYNC = {loop: f"pybuntcp-{loop}-async" for loop in EVENT_LOOPS}
TRANSPORTS = (*EVENT_LOOPS, "aiofastnet", "aiofastnet-uvloop", "rloop")  # whose transports are compared


def transports(form: str) -> dict[str, str]:
    """The peers that are the same asyncio program on each loop, by loop."""
    return {loop: f"pybuntcp-{form}" if loop == "native" else f"{loop}-{form}" for loop in TRANSPORTS}


def ours_beside(peers: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """Of peers by loop: ours beside each of the others."""
    return tuple((peers["native"], peer) for loop, peer in peers.items() if loop != "native")


PROTOCOL = {loop: "pybuntcp-protocol" if loop == "native" else loop for loop in TRANSPORTS}  # the plainest program
BUFFERED = transports("buffered")
STREAMS = transports("streams")
PROGRAMS = {form: transports(form) for form in ("uvicorn", "aiohttp", "redis-py", "asyncpg")}
OUR_OWN = frozenset(
    {
        OURS,
        SINK,
        SLOTS,
        FALLBACK,
        REDIS_SLOTS,
        REDIS_PYTHON,
        HTTP_EXAMPLE,
        PIPE,
        RELAY,
        *EMBEDDED.values(),
        *READER.values(),
        *ASYNC.values(),
        *(form["native"] for form in (PROTOCOL, BUFFERED, STREAMS, *PROGRAMS.values())),
    }
)
ANY_MODE = frozenset({"echo", "five"})
THREADS = frozenset({"threads"})
LOOPS = frozenset({"loops"})  # a handler or a Protocol on an asyncio event loop
AWAITS = frozenset({"awaits"})  # the same with `await`
RESP = frozenset({"resp"})
HTTP = frozenset({"http"})
PROXY = frozenset({"proxy"})  # between the load and a server of bare C
SERIES = frozenset({"series"})  # who is asked the rows of a curve: one of each kind
LAYERS = frozenset({"layers"})  # who is a layer of ours, or the limit below
AIO = frozenset({"aio", "aio-five", "aio-churn", "aio-idle"})  # a Protocol, and a handler of ours beside it
STREAM = frozenset({"upload", "download"})
CHURN = frozenset({"churn"})  # who closes when the client has ended
MANY = ANY_MODE | STREAM | HTTP | {"fanout"}  # what a server of everybody's can
FIVE_ONLY = frozenset({"five"})
TLS = frozenset({"tls", "tls-fifty"})
TLS_FOLDER = BUILD / "tls"  # the certificate; see tls.py
LEFT_OUT_WHEN_QUICK = frozenset(
    {
        "asyncio-buffered",
        "uvloop-buffered",
        "asyncio-streams",
        "uvloop-streams",
        "gevent",
        "aiofastnet",
        "node",
        "c-libuv",
        FALLBACK,
    }
    | {READER[loop] for loop in ("uvloop", "asyncio")}
    | set(ASYNC.values())
)  # variations of others that are asked
ASKED = {
    "tls-fifty": "fifty",
    "aio-five": "five",
    "aio-exactly": "exactly",
    **{f"aio-{program}": program for program in PROGRAMS},
} | {mode: mode for mode in MANY | RESP | PROXY}  # as a server is told


def is_limit(name: str) -> bool:
    """Bare C: what the others are measured by."""
    return name.startswith("c-")
