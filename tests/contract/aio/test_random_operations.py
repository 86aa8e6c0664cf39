"""[A1]-[A5] Whatever a program does with a transport, and its peer with the connection, the protocol is called as asyncio calls it.

A program here is some steps; a step is what one callback does, then the loop turns until nothing moves any more. It runs in a
stock loop and in ours, on a pair of unix sockets, whose kernel is the same thread's. What must agree: the calls of each step
(chunks of data that follow each other are one), what was raised, the states, and every byte at either end.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.coroutines import turns
from support.kernel import pattern
from support.marks import mended_in_3_11
from support.random_programs import FULL, Watched, played, same_steps, steps_of

from pybuntcp._aio import SocketTransport

SURE = 150_000  # bytes of FULL that it takes, however they are cut

OURS = st.one_of(
    st.tuples(st.just("write"), st.sampled_from([0, 1, 100, 5000, 5000, FULL, FULL])),
    st.tuples(st.just("lines"), st.lists(st.sampled_from([0, 1, 100, 5000]), max_size=3)),
    st.tuples(st.just("marks"), st.sampled_from([(0, 0), (1000, 10), (65536, 16384), (200_000, 200_000)])),
    st.sampled_from([("write_eof",), ("close",), ("abort",), ("pause",), ("resume",), ("resume",)]),
)
PEERS = st.one_of(
    st.tuples(st.just("send"), st.sampled_from([1, 100, 5000, 5000])),
    st.sampled_from([("read",), ("read",), ("finish",), ("leave",)]),
)
STEPS = steps_of(OURS, PEERS)
PAUSED = ["pause"] if sys.version_info >= (3, 11) else []  # asyncio of before reads on, when paused in connection_made
NO_HOOKS: dict[str, str | None] = dict.fromkeys(("made", "data", "eof", "pause", "resume"))
HOOKS = st.fixed_dictionaries(
    {
        "made": st.sampled_from([None, None, "write", "close", *PAUSED]),
        "data": st.sampled_from([None, None, "write", "pause", "close", "abort", "write_eof"]),
        "eof": st.sampled_from([None, "keep", "write"]),
        "pause": st.sampled_from([None, None, "write", "close", "abort"]),
        "resume": st.sampled_from([None, None, "write"]),
    }
)


class WatchedInPlain(Watched):
    """It knows whether an abort found bytes that had not left."""

    def __init__(self, hooks):
        super().__init__(hooks)
        self.ended = self.dropped = False

    def eof_received(self):
        if not self.ended:  # asyncio calls it again when reading is paused and resumed afterwards
            self.ended = True
            self.note("eof")
        return self.hooks["eof"] == "keep"

    def pause_writing(self):
        self.note("pause")

    def resume_writing(self):
        self.note("resume")

    def connection_lost(self, error):
        self.calls.append(f"lost: {type(error).__name__}")

    def do(self, operation):
        if operation == ("abort",) and self.transport.get_write_buffer_size() > 0:
            self.dropped = True
        super().do(operation)

    def write_lines(self, lines):
        if sys.version_info < (3, 12) or isinstance(self.transport, SocketTransport):
            super().write_lines(lines)
        else:  # asyncio's own forgets to pause, keeps empty ones, and fails after close
            self.transport.write(b"".join(lines))


class Peer:
    """The other end."""

    def __init__(self, sock):
        self.sock, self.received, self.ended = sock, bytearray(), None

    async def do(self, name, what=None):
        with contextlib.suppress(ConnectionError, BlockingIOError):
            if name == "send" and self.sock.fileno() >= 0:
                self.sock.send(pattern(what))
            elif name == "finish":
                with contextlib.suppress(OSError):
                    self.sock.shutdown(socket.SHUT_WR)
            elif name == "leave":
                self.sock.close()
        if name == "read":
            await self.read()

    async def read(self):
        """All that comes until nothing moves any more."""
        quiet = 0
        while quiet < 6 and not self.ended and self.sock.fileno() >= 0:
            quiet += 1
            try:
                while chunk := self.sock.recv(1 << 16):
                    self.received += chunk
                    quiet = 0
                self.ended = (
                    "end"  # also where asyncio resets, since it closes with bytes unread: that may lose some of ours
                )
            except BlockingIOError:
                await turns(3)
            except ConnectionResetError:
                self.ended = "reset"


async def play(steps, hooks):
    """What was seen, step by step; what the peer has received; whether an abort found bytes that had not left."""
    one, two = socket.socketpair()
    for each in (one, two):
        each.setblocking(False)
    peer, seen = Peer(two), []
    transport, protocol = await asyncio.get_running_loop().create_connection(lambda: WatchedInPlain(hooks), sock=one)
    await turns(12)
    for step in [*steps, [("read",)], [("abort",)], [("read",)]]:
        for operation in step:
            if operation[0] in ("send", "read", "finish", "leave"):
                await peer.do(*operation)
            elif operation == ("resume",):  # apart: a turn reads before it finds that what was written cannot be sent
                await turns(12)
                if transport.get_protocol() is not None:
                    protocol.do(operation)
                await turns(12)
            elif transport.get_protocol() is not None:  # what asyncio does afterwards depends on how it was lost
                protocol.do(operation)
        await turns(12)
        lost = transport.get_protocol() is None
        state = [transport.is_closing(), transport.is_reading(), not lost and transport.get_write_buffer_size() > 0]
        seen.append((step, list(protocol.calls), list(protocol.raised), state))
        protocol.calls.clear()
        protocol.raised.clear()
    two.close()
    return seen, [bytes(protocol.received), peer.ended is not None], bytes(peer.received), protocol.dropped


@mended_in_3_11
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS, HOOKS)
@example([[("pause",)], [("leave",)], [("write", 1), ("resume",)]], NO_HOOKS)
@example([[("pause",)], [("leave",)], [("resume",), ("write", 1)]], NO_HOOKS)
@example(
    [[("write", FULL)], [("read",)], [("write", 1), ("abort",)]], NO_HOOKS
)  # in ours the byte waits for the end of the step
def test_a_protocol_is_called_as_asyncio_calls_it(no_leaks, steps, hooks):
    ours, our_reports = played("native", lambda: play(steps, hooks))
    theirs, their_reports = played("asyncio", lambda: play(steps, hooks))
    same_steps(ours[0], theirs[0])
    assert [*ours[1], our_reports] == [*theirs[1], their_reports]
    certain = SURE if theirs[3] else None  # what of the rest the kernel had taken depends on how it was cut into pieces
    assert ours[2][:certain] == theirs[2][:certain]
