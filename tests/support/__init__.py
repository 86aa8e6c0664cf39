"""The test harness: transports, raw peers, a recorder of handlers, and a bounded loop.

One end of a connection is pybuntcp, in the thread of the test; the other is a plain `socket.socket`
in a thread of its own. Nothing here waits without a bound, and nothing sleeps in place of an event.

Three axes, all open: a `Transport` says how to listen, connect and dial (tcp, unix, tls), a loop says
how to turn (standalone, or in an asyncio loop), a `Recorder` is the `socket=` of `listen` and `connect`. Tests written
against the three run unchanged when a transport or a loop is added.

kernel      what the kernel knows of a connection; bounded waits for it
recorder    handlers that remember
peers       raw sockets in a thread of their own
sealed      the peers' end of TLS
loops       pybuntcp.run(), bounded, stoppable
hosts       asyncio loops that ours live in
axis        which loops and transports a test runs on
transports  tcp, unix, and TLS over tcp
pairs       a connection ready for use, from either side
leaks       what a test left behind
clocks      timeouts as recorded, beats from the loop
"""

from .axis import LOOPS, calls_run, every_loop, plain, silent_crowd, unreferenced
from .clocks import LATE, Stopwatch, metronome, spin
from .hosts import HostedLoop
from .kernel import (
    TIMEOUT,
    data_segments_received,
    descriptors,
    hung_up,
    pattern,
    raw,
    shrink_send_buffer,
    unread_bytes,
    unsent_bytes,
    wait_for,
    was_reset,
)
from .leaks import check_nothing_left, end_everything, sweep, warm
from .loops import GAUGES, Loop, LoopHung, StandaloneLoop, run_loop, unraisable
from .pairs import (
    Feed,
    accepted,
    bring_about,
    connected,
    finish_and_wait,
    first_of_twenty_closes_the_others,
    linux_only,
    reset_and_wait,
    send_and_wait,
    sides,
)
from .peers import Job, Peer, RawServer
from .recorder import EVENTS, Recorder
from .sealed import OVERHEAD, SealedSocket, wire_size
from .transports import TRANSPORTS, TcpTransport, TlsTransport, Transport, UnixTransport

__all__ = [
    "EVENTS",
    "GAUGES",
    "LATE",
    "LOOPS",
    "OVERHEAD",
    "TIMEOUT",
    "TRANSPORTS",
    "Feed",
    "HostedLoop",
    "Job",
    "Loop",
    "LoopHung",
    "Peer",
    "RawServer",
    "Recorder",
    "SealedSocket",
    "StandaloneLoop",
    "Stopwatch",
    "TcpTransport",
    "TlsTransport",
    "Transport",
    "UnixTransport",
    "accepted",
    "bring_about",
    "calls_run",
    "check_nothing_left",
    "connected",
    "data_segments_received",
    "descriptors",
    "end_everything",
    "every_loop",
    "finish_and_wait",
    "first_of_twenty_closes_the_others",
    "hung_up",
    "linux_only",
    "metronome",
    "pattern",
    "plain",
    "raw",
    "reset_and_wait",
    "run_loop",
    "send_and_wait",
    "shrink_send_buffer",
    "sides",
    "silent_crowd",
    "spin",
    "sweep",
    "unraisable",
    "unread_bytes",
    "unreferenced",
    "unsent_bytes",
    "wait_for",
    "warm",
    "was_reset",
    "wire_size",
]
