"""The test harness: transports, raw peers, a recorder of handlers, and a bounded loop.

One end of a connection is pybuntcp, in the thread of the test; the other is a plain `socket.socket`
in a thread of its own. Nothing here waits without a bound, and nothing sleeps in place of an event.

Three axes, all open: a `Transport` says how to listen, connect and dial (tcp, unix, tls), a loop says
how to turn (standalone, or in an asyncio loop), a `Recorder` is the `socket=` of `listen` and `connect` (Python handlers,
or slots). Tests written against the three run unchanged when a transport, a loop or a kind of handlers is added.

`from support import ...` gives what most tests of sockets use, which is in

kernel              what the kernel knows of a connection; bounded waits for it
recorder            handlers that remember
peers               raw sockets in a thread of their own
tls_socket          the peers' end of TLS
loops               pybuntcp.run(), bounded, stoppable
watchdog            one thread that interrupts the main one when a block there takes too long
hosted_loops        asyncio loops that ours live in
axis                which loops and transports a test runs on
transports          tcp, unix, and TLS over tcp
pairs               a connection ready for use, from either side
leaks               what a test left behind
clocks              timeouts as recorded, beats from the loop
marks               what a machine may lack

and `from support.TOPIC import ...` gives what one topic needs:

handlers            handlers that do nothing, echo or raise; exceptions and what they carry
endpoints           listeners and connects without a raw peer; both ends ours
addresses           ports that refuse, that never answer, of both families
threads             a call, or a whole test, in a thread of its own
asyncio_loops       coroutines on each kind of asyncio loop, bounded
coroutines          what a coroutine awaits: events, peers, the kernel; pairs made there
protocols           asyncio's protocols that remember, and answer as a test says; the loops that their tests run on
streams             connections of such protocols, and their peers: in threads of their own, or in the same loop
differential        programs that must see the same on asyncio's own loop and on ours
random_programs     programs that hypothesis makes of a transport's methods and a peer's acts
async_handlers      recorders whose handlers are `async def`
sinks               sockets whose kernel takes no more; drain callbacks that remember
piping              connections that are piped, seen from their peers
tls                 certificates, which engine it is, two ends of ours
tls_peer            a peer of TLS driven by hand, record by record
tls_end             the same in the loop that runs, for asyncio's protocols
tls_sides           the two sides of such a connection; upgrades; handshakes that fail
tls_records         records of TLS made by hand
tls_messages        peers that send a message of TLS in pieces
writers             C users whose writes are never refused
slots               recorders whose handlers are C slots; the axis `handlers`
programs            Python source, tools and servers as processes
servers             redis-server, PostgreSQL
resolver            programs whose names do not resolve
network_namespaces  programs in a network of their own
script_machine      a PATH of imitations, in which a shell script of the project runs
packages            building a package that cimports pybuntcp
documents           the code blocks of docs/
sources             the package's source files as text
echoes              a slow client of echo servers
summary             what a run says of skipped tests
"""

from .axis import LOOPS, calls_run, every_loop, plain, silent_crowd, unreferenced
from .clocks import LATE, Stopwatch, metronome, spin
from .hosted_loops import HostedLoop
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
from .marks import linux_only
from .pairs import (
    Feed,
    accepted,
    bring_about,
    connected,
    finish_and_wait,
    first_of_twenty_closes_the_others,
    reset_and_wait,
    send_and_wait,
    sides,
)
from .peers import Job, Peer, RawServer
from .recorder import EVENTS, Recorder
from .tls_socket import OVERHEAD, TlsSocket, wire_size
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
    "StandaloneLoop",
    "Stopwatch",
    "TcpTransport",
    "TlsSocket",
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
