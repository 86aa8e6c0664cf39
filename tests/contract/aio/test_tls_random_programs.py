"""Whatever a program does with a transport with TLS, and its peer with the connection, the protocol is called as asyncio calls it.

As `test_random_operations`, over TLS: a program is some steps; a step is what one callback does, then the loop turns until
nothing moves any more. The peer is an end of TLS by hand on the other of two unix sockets. What must agree: the calls of each
step (chunks of data that follow each other are one), what was raised, the states, every byte at either end, how the peer saw
it end, and the reports. Not compared: when writing is paused, and buffer sizes, since asyncio counts in two layers; only that
pauses and resumptions alternate. A `close` of one that is closing is left out: asyncio's transport forgets its connection then.
"""

from __future__ import annotations

import asyncio
import socket

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.differential import end_as_discreet, plain_text, same, since_3_11
from support.kernel import pattern
from support.random_programs import FULL, Watched, played, same_steps, steps_of
from support.tls_end import TlsEnd, quiet
from support.tls_peer import client_context, server_context

OURS = st.one_of(
    st.tuples(st.just("write"), st.sampled_from([0, 1, 100, 5000, 20_000, FULL])),
    st.tuples(st.just("lines"), st.lists(st.sampled_from([1, 100, 5000, 20_000]), max_size=3)),
    st.sampled_from([("close",), ("abort",), ("pause",), ("resume",), ("resume",), ("write_eof",)]),
)
PEERS = st.one_of(
    st.tuples(st.just("send"), st.sampled_from([1, 100, 5000, 20_000, 60_000])),
    st.tuples(st.just("records"), st.sampled_from([2, 30])),
    st.sampled_from([("read",), ("read",), ("read",), ("notify",), ("notify",), ("finish",), ("leave",)]),
)
STEPS = steps_of(OURS, PEERS)
HOOKS = st.fixed_dictionaries(
    {
        "made": st.sampled_from([None, None, "write", "close"]),
        "data": st.sampled_from([None, None, "write", "pause", "close", "abort"]),
        "eof": st.sampled_from([None, None, "write", "close", "abort"]),
    }
)
NO_HOOKS: dict[str, str | None] = dict.fromkeys(("made", "data", "eof"))
PEERS_VERBS = ("send", "records", "read", "notify", "finish", "leave")


class WatchedOverTLS(Watched):
    """It does not close a transport that is closing, by itself or by the peer's end."""

    def __init__(self, hooks):
        super().__init__(hooks)
        self.paused = self.lost = False

    def eof_received(self):
        self.note("eof")

    def pause_writing(self):
        assert not self.paused
        self.paused = True

    def resume_writing(self):
        assert self.paused
        self.paused = False

    def connection_lost(self, error):
        assert not self.lost
        self.lost = True
        self.calls.append(["lost", error])

    def do(self, operation):
        if operation != ("close",) or not self.transport.is_closing():
            super().do(operation)


async def peer_does(end, name, what=None):
    """It reads in steps of its own alone."""
    if name == "read":
        await read(end)
    elif end.sock.fileno() < 0:
        return
    elif name == "leave":
        end.left = True
        end.close()
    elif name == "finish":
        end.silent = True
        end.finish()
    elif end.silent or end.over:  # it has answered close_notify
        return
    elif name == "notify":
        end.silent = True
        end.send(end.goodbye_held())
    else:
        words = [pattern(what)] if name == "send" else [b"%d, " % number for number in range(what)]
        end.send(b"".join(end.seal(word) for word in words))


async def read(end):
    """All that comes until nothing moves any more."""
    if end.sock.fileno() < 0 or end.over[-1:] in (["FIN"], ["reset"]):
        return
    end.listen()
    before = -1
    while before != len(end.came):
        before = len(end.came)
        await quiet()
    if end.sock.fileno() >= 0:
        end.deaf()


async def connected(hooks, server):
    """A protocol on one of two sockets, and the peer on the other, both secured."""
    one, two = socket.socketpair()
    one.setblocking(False)
    loop, end = (
        asyncio.get_running_loop(),
        TlsEnd(two, client_context() if server else server_context(), server=not server),
    )
    end.left = end.silent = False
    end.handshake()
    if server:
        make = loop.connect_accepted_socket(lambda: WatchedOverTLS(hooks), one, ssl=server_context())
    else:
        make = loop.create_connection(
            lambda: WatchedOverTLS(hooks), sock=one, ssl=client_context(), server_hostname="localhost"
        )
    _, protocol = await make
    await quiet()
    end.deaf()
    return protocol, end


async def play(steps, hooks, server):
    """What was seen, step by step; what each has received."""
    protocol, end = await connected(hooks, server)
    seen, much = [], False
    for step in [*steps, [("read",)], [("abort",)], [("read",)]]:
        for operation in step:
            much = much or (operation[0] == "write" and operation[1] > 65536)
            unread = not protocol.lost and not protocol.transport.is_reading()
            if operation[0] in ("finish", "leave") and (unread or much):
                continue  # asyncio drops what is written after such an end, or waits; ours sends it, and closes
            if operation == ("pause",) and protocol.transport.is_closing():
                continue  # asyncio then does not see how its peer ends
            if operation == ("resume",) and hooks["data"] == "pause":
                continue  # asyncio calls for all it has decrypted at once, and for the end; ours obeys each pause
            if operation[0] in PEERS_VERBS:
                await peer_does(end, *operation)
            elif not protocol.lost:  # what asyncio does afterwards depends on how it was lost
                if operation == ("resume",):  # apart: a turn reads before it finds that what was written cannot be sent
                    await quiet()
                if not protocol.lost:
                    protocol.do(operation)
                if operation == ("resume",):  # asyncio reads again in the next turn, which a close() forestalls
                    await quiet()
        await quiet()
        calls = [same(call) if isinstance(call, list) else call for call in protocol.calls]
        if end.left:  # which error it is depends on what was tried first
            calls = [call[0] if isinstance(call, list) else call for call in calls]
        state = [protocol.transport.is_closing(), protocol.lost]
        seen.append((step, calls, list(protocol.raised), state))
        protocol.calls.clear()
        protocol.raised.clear()
    end.close()
    await quiet()
    return seen, bytes(protocol.received), [plain_text(each) for each in end.over], bytes(end.data)


@since_3_11
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS, HOOKS, st.booleans())
@example([[("pause",)], [("send", 1)], [("resume",), ("close",)]], NO_HOOKS, False)
@example([[("write", FULL)], [("read",)], [("close",)], [("read",)]], NO_HOOKS, True)
@example([[("pause",)], [("send", 100)], [("close",)], [("read",)]], NO_HOOKS, True)
@example([[("pause",)], [("send", 5000)], [("notify",)], [("resume",)], [("read",)]], NO_HOOKS, False)
@example([[("write", FULL)], [("notify",)], [("close",)]], NO_HOOKS, False)
@example([[("write", 1), ("close",), ("write", 1)], [("read",)]], {**NO_HOOKS, "eof": "write"}, False)
def test_a_protocol_is_called_as_asyncio_calls_it(no_leaks, steps, hooks, server):
    ours, our_reports = played("native", lambda: play(steps, hooks, server))
    theirs, their_reports = played("asyncio", lambda: play(steps, hooks, server))
    same_steps(ours[0], theirs[0])
    assert ours[1] == theirs[1], "received"
    resets = [
        ["FIN" if each == "reset" else each for each in over] for over in (ours[2], theirs[2])
    ]  # who has read is luck
    assert end_as_discreet(*resets) == resets[1], "how the peer saw it end"
    assert our_reports == their_reports, "reports"
    done = [operation[0] for step in steps for operation in step]
    failed = any("SSLError" in str(call) for _, calls, *_ in theirs[0] for call in calls)  # data after close()
    aborted = failed or "abort" in done or "abort" in hooks.values()
    told = hooks["eof"] == "write" and "finish" in done  # asyncio drops what is written then, ours sends it
    shorter = min(len(ours[3]), len(theirs[3])) if aborted or told else None  # what the kernel had of the rest is luck
    assert ours[3][:shorter] == theirs[3][:shorter], "sent"
