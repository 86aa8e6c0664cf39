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
STAYING = {
    f"installed-{host}": host for host in ("uvloop", "asyncio")
}  # loops that stay, with our transports in place of theirs
OTHER_LOOPS = (
    "rloop",
    "zuvloop",
    "rsloop",
)  # event loops of others with transports of their own, beside uvloop and asyncio
TRANSPORTS = (*EVENT_LOOPS, *STAYING, "aiofastnet", "aiofastnet-uvloop", *OTHER_LOOPS)  # whose transports are compared
WHOLE_LOOPS = (*EVENT_LOOPS, *OTHER_LOOPS)  # whose scheduling is: the others are one of these with other transports


def transports(form: str, loops: tuple[str, ...] = TRANSPORTS) -> dict[str, str]:
    """The peers that are the same asyncio program on each loop, by loop."""
    return {loop: ours_on(loop, form) or f"{loop}-{form}" for loop in loops}


def ours_on(loop: str, form: str) -> str:
    """The peer's name where the transports are ours: on our own loop, and in one that stays; "" = they are others'."""
    if loop == "native":
        return f"pybuntcp-{form}"
    return f"pybuntcp-{form}-{STAYING[loop]}" if loop in STAYING else ""


def ours_beside(peers: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """Of peers by loop: ours beside each of the others, and ours in a loop that stays beside what that has of its own."""
    beside = [(peers["native"], peers[loop]) for loop in peers if not ours_on(loop, "")]
    return (*beside, *((peers[loop], peers[host]) for loop, host in STAYING.items() if loop in peers))


def of_others(peers: dict[str, str]) -> tuple[str, ...]:
    """Of peers by loop: those whose transports are not ours."""
    return tuple(peer for loop, peer in peers.items() if not ours_on(loop, ""))


PROTOCOL = {loop: ours_on(loop, "protocol") or loop for loop in TRANSPORTS}  # the plainest program
BUFFERED = transports("buffered")
STREAMS = transports("streams")
SCHEDULING = transports("scheduling", WHOLE_LOOPS)
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
        *(
            form[loop]
            for form in (PROTOCOL, BUFFERED, STREAMS, SCHEDULING, *PROGRAMS.values())
            for loop in ("native", *STAYING)
            if loop in form
        ),
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
AIO_STAYS = frozenset({"aio-50", "aio-five"})  # a Protocol, in loops that stay, too
AIO = AIO_STAYS | {"aio", "aio-churn", "aio-idle"}  # a Protocol, and a handler of ours beside it
SCHEDULES = frozenset({"sleeps", "calls", "timers", "tasks", "gather"})  # an event loop without sockets
STREAM = frozenset({"upload", "download"})
CHURN = frozenset({"churn"})  # who closes when the client has ended
MANY = ANY_MODE | STREAM | HTTP | {"fanout"}  # what a server of everybody's can
FIVE_ONLY = frozenset({"five"})
TLS = frozenset({"tls", "tls-fifty"})
AIO_TLS = frozenset({"aio-tls", "aio-tls-fifty"})  # a Protocol over TLS, on all loops
AIO_HTTPS = "aio-tls-uvicorn"
OVER_TLS = TLS | AIO_TLS | {AIO_HTTPS}
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
    "aio-tls-fifty": "fifty",
    AIO_HTTPS: "uvicorn",
    "aio-exactly": "exactly",
    **{f"aio-{program}": program for program in PROGRAMS},
} | {mode: mode for mode in MANY | RESP | PROXY | SCHEDULES}  # as a server is told


def is_limit(name: str) -> bool:
    """Bare C: what the others are measured by."""
    return name.startswith("c-")
