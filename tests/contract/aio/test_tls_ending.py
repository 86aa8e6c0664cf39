"""How a connection with TLS ends: by the peer's close_notify, FIN or RST, by close, abort or a timeout; what waits to be sent
then, and what may still be called."""

from __future__ import annotations

import asyncio

import pytest
from support.differential import as_on_asyncio, unclosed
from support.kernel import pattern
from support.marks import mended_in_3_11
from support.streams import small_buffer
from support.tls_end import quiet
from support.tls_peer import versions
from support.tls_sides import SIDES, contexts, each_side

BIG = 4 << 20  # more than the kernels of both ends take, whose buffers are small


async def pending(notes, protocol, end):
    """The peer does not read, and the protocol has written more than leaves."""
    notes.leave_out_flow_control()
    end.deaf()
    small_buffer(protocol.transport)
    protocol.transport.write(pattern(BIG))
    await quiet()
    if notes.ours:
        assert protocol.transport.get_write_buffer_size() > 0


# ---------------------------------------------------------------- the peer ends

PEERS = {
    "close_notify": lambda end: end.say_goodbye(),
    "close_notify and FIN": lambda end: (end.say_goodbye(), end.finish()),
    "FIN": lambda end: end.finish(),
    "RST": lambda end: end.reset(),
    "data, close_notify": lambda end: end.send(end.seal(b"last") + end.goodbye_held()),
    "data, close_notify and FIN": lambda end: (end.send(end.seal(b"last") + end.goodbye_held()), end.finish()),
    "data, FIN": lambda end: (end.write(b"last"), end.finish()),
    "a piece of a record, FIN": lambda end: (end.send(end.seal(b"cut off")[:9]), end.finish()),
    "a bad record": lambda end: end.send(bytes.fromhex("1703030020") + bytes(32)),
    "no record": lambda end: end.send(b"GET / HTTP/1.1\r\n\r\n"),
    "close_notify, then data": lambda end: end.send(end.goodbye_held() + bytes.fromhex("1703030020") + bytes(32)),
}


@versions
@pytest.mark.parametrize("ending", PEERS)
@each_side
@as_on_asyncio
async def test_what_a_protocol_is_called_when_its_peer_ends(notes, tls, side, ending, version):
    async with SIDES[side](tls, notes.plain("us"), *contexts(side, version)) as (protocol, end):
        PEERS[ending](end)
        await protocol.called("connection_lost")
        notes("us", "state", protocol.transport.is_closing())
        if end.sock.fileno() >= 0:
            await end.is_over()
        await quiet()
    notes("peer", *end.over)
    assert notes.names("us").count("connection_lost") == 1


@each_side
@as_on_asyncio
async def test_a_fin_without_close_notify_is_answered_by_such_a_fin(notes, tls, side):
    async with SIDES[side](tls, notes.plain("us")) as (protocol, end):
        end.finish()
        await protocol.called("connection_lost")
        await end.is_over()
    notes("peer", *end.over)
    assert end.over == ["FIN"]


@pytest.mark.parametrize("answer", [True, False, None, 1, "x"])
@pytest.mark.parametrize("ending", ["close_notify", "FIN"])
@each_side
@as_on_asyncio
async def test_no_answer_of_eof_received_keeps_a_connection_open(notes, tls, side, ending, answer):
    async with SIDES[side](tls, notes.plain("us", eof_received=lambda protocol: answer)) as (protocol, end):
        PEERS[ending](end)
        await protocol.called("connection_lost")
        await end.is_over()
    notes("peer", *end.over)


@pytest.mark.parametrize("ending", ["close_notify", "FIN", "close_notify and FIN"])
@each_side
@as_on_asyncio
async def test_what_eof_received_writes(notes, tls, side, ending):
    def answer(protocol):
        protocol.transport.write(b"and goodbye")

    async with SIDES[side](tls, notes.plain("us", eof_received=answer)) as (protocol, end):
        PEERS[ending](end)
        await protocol.called("connection_lost")
        await end.is_over()
    notes("peer", *end.over)
    if notes.ours or ending != "FIN":  # after which asyncio drops it
        assert end.data == b"and goodbye"


@pytest.mark.parametrize("verb", ["close", "abort"])
@pytest.mark.parametrize("ending", ["close_notify", "FIN", "close_notify and FIN"])
@each_side
@as_on_asyncio
async def test_an_eof_received_that_ends_the_connection(notes, tls, side, ending, verb):
    def leave(protocol):
        getattr(protocol.transport, verb)()

    async with SIDES[side](tls, notes.plain("us", eof_received=leave)) as (protocol, end):
        PEERS[ending](end)
        await protocol.called("connection_lost")
        await end.is_over()
        await quiet()
    assert notes.names("us").count("connection_lost") == 1


@pytest.mark.parametrize("ending", ["close_notify", "FIN"])
@each_side
@as_on_asyncio
async def test_a_peer_that_ends_while_much_is_unsent(notes, tls, side, ending):
    """How much of it arrives depends on what the kernel has taken by then."""
    async with SIDES[side](tls, notes.plain("us")) as (protocol, end):
        await pending(notes, protocol, end)
        PEERS[ending](end)
        await quiet()
        end.listen()
        await protocol.called("connection_lost")
        await end.is_over()
    assert bytes(end.data) == pattern(BIG)[: len(end.data)]
    notes("peer", len(end.data) == BIG)


@each_side
@as_on_asyncio
async def test_a_peer_that_resets_while_much_is_unsent(notes, tls, side):
    async with SIDES[side](tls, notes.plain("us")) as (protocol, end):
        await pending(notes, protocol, end)
        end.reset()
        await protocol.called("connection_lost")
        await quiet()
    assert notes.names("us")[-1] == "connection_lost"


# ---------------------------------------------------------------- close


@versions
@each_side
@as_on_asyncio
async def test_close_says_goodbye_and_is_answered(notes, tls, side, version):
    async with SIDES[side](tls, notes.plain("us"), *contexts(side, version)) as (protocol, end):
        protocol.transport.close()
        notes("us", "closing", protocol.transport.is_closing())
        await protocol.called("connection_lost")
        await end.is_over()
    notes("peer", *end.over)
    assert end.over == ["close_notify", "FIN"]


@each_side
@as_on_asyncio
async def test_close_sends_what_was_written_in_the_same_step(notes, tls, side):
    async with SIDES[side](tls, notes.plain("us")) as (protocol, end):
        for word in (b"one ", b"two ", b"three"):
            protocol.transport.write(word)
        protocol.transport.close()
        await protocol.called("connection_lost")
        await end.is_over()
    notes("peer", bytes(end.data), *end.over)
    assert end.data == b"one two three"


@each_side
@as_on_asyncio
async def test_close_with_much_unsent_and_a_slow_peer_sends_all(notes, tls, side):
    async with SIDES[side](tls, notes.plain("us")) as (protocol, end):
        await pending(notes, protocol, end)
        protocol.transport.close()
        await quiet()
        end.listen()
        await protocol.called("connection_lost")
        await end.is_over()
    notes("peer", *end.over)
    assert bytes(end.data) == pattern(BIG)[: None if notes.ours else len(end.data)]


@each_side
@as_on_asyncio
async def test_a_peer_that_never_answers_goodbye_is_dropped_after_the_shutdown_timeout(notes, tls, side):
    async with SIDES[side](tls, notes.plain("us"), peer={"polite": False}, ssl_shutdown_timeout=0.05) as (
        protocol,
        end,
    ):
        protocol.transport.close()
        await protocol.called("connection_lost")
        await end.is_over()
    notes("peer", *end.over)


@each_side
@as_on_asyncio
async def test_a_peer_that_reads_nothing_is_dropped_after_the_shutdown_timeout(notes, tls, side):
    async with SIDES[side](tls, notes.plain("us"), ssl_shutdown_timeout=0.05) as (protocol, end):
        await pending(notes, protocol, end)
        protocol.transport.close()
        await protocol.called("connection_lost")


@pytest.mark.parametrize("then", ["FIN", "RST", "data, FIN"])
@each_side
@as_on_asyncio
async def test_a_peer_that_ends_otherwise_while_goodbye_waits(notes, tls, side, then):
    async with SIDES[side](tls, notes.plain("us"), peer={"polite": False}) as (protocol, end):
        protocol.transport.close()
        await quiet()
        if then == "data, FIN":
            end.send(end.seal(b"late"))
            end.finish()
        else:
            PEERS[then](end)
        await protocol.called("connection_lost")
        await quiet()
    notes("peer", *end.over)


@each_side
@as_on_asyncio
async def test_a_peer_that_sends_data_before_it_answers_goodbye(notes, tls, side):
    async with SIDES[side](tls, notes.plain("us"), peer={"polite": False}) as (protocol, end):
        protocol.transport.close()
        await end.until(lambda: "close_notify" in end.over)
        end.write(b"late")
        await quiet()
        notes("late", *notes.names("us"))
        end.say_goodbye()
        end.finish()
        await protocol.called("connection_lost")


@pytest.mark.parametrize("before", ["data", "close_notify", "both"])
@each_side
@as_on_asyncio
async def test_close_while_something_of_the_peer_is_unread(notes, tls, side, before):
    async with SIDES[side](tls, notes.plain("us")) as (protocol, end):
        if before != "close_notify":
            end.write(b"unread")
        if before != "data":
            end.say_goodbye()
        protocol.transport.close()
        await protocol.called("connection_lost")
        await end.is_over()


@mended_in_3_11
@pytest.mark.parametrize("again", ["close", "abort"])
@each_side
@as_on_asyncio
async def test_close_again_and_abort_after_close(notes, tls, side, again):
    async with SIDES[side](tls, notes.plain("us"), peer={"polite": False}) as (protocol, end):
        transport = protocol.transport
        transport.close()
        notes.raised("again", getattr(transport, again))
        end.finish()
        await protocol.called("connection_lost")
        for verb in ("close", "abort", "close"):
            notes.raised("after", getattr(transport, verb))
        await quiet()
        notes("after", transport.is_closing())
    assert notes.names("us").count("connection_lost") == 1


@each_side
@as_on_asyncio
async def test_abort_says_nothing_and_drops_what_is_unsent(notes, tls, side):
    async with SIDES[side](tls, notes.plain("us")) as (protocol, end):
        await pending(notes, protocol, end)
        protocol.transport.abort()
        notes("us", "closing", protocol.transport.is_closing())
        await protocol.called("connection_lost")
        end.listen()
        await end.is_over()
    assert len(end.data) < BIG
    assert "close_notify" not in end.over


@pytest.mark.parametrize("verb", ["close", "abort"])
@each_side
@as_on_asyncio
async def test_a_protocol_that_ends_its_connection_in_data_received_gets_no_more(notes, tls, side, verb):
    def leave(protocol, data):
        getattr(protocol.transport, verb)()

    async with SIDES[side](tls, notes.plain("us", data_received=leave)) as (protocol, end):
        end.write(b"one")
        await protocol.called("data_received")
        end.write(b"two")
        await protocol.called("connection_lost")
        await quiet()
    assert protocol.data == b"one"


# ---------------------------------------------------------------- afterwards


@pytest.mark.parametrize("ending", ["close", "abort", "lost"])
@each_side
@as_on_asyncio
async def test_writes_after_the_end_are_dropped_and_warned_of(notes, tls, side, ending):
    async with SIDES[side](tls, notes.plain("us"), peer={"polite": False}) as (protocol, end):
        transport = protocol.transport
        if ending == "lost":
            end.reset()
            await protocol.called("connection_lost")
        else:
            getattr(transport, ending)()
        for _ in range(8):
            notes.raised("write", transport.write, b"late")
        notes.raised("writelines", transport.writelines, [b"late"])
        notes.raised("write", transport.write, b"")
        notes.raised("write", transport.write, "text")
        end.finish()
        await protocol.called("connection_lost")
        await quiet()
        if ending != "lost":
            await end.until(lambda: end.over) if ending == "close" else None
    assert b"late" not in end.data


VERBS = {
    "pause_reading": lambda transport: transport.pause_reading(),
    "resume_reading": lambda transport: transport.resume_reading(),
    "is_reading": lambda transport: transport.is_reading(),
    "get_write_buffer_limits": lambda transport: transport.get_write_buffer_limits(),
    "can_write_eof": lambda transport: transport.can_write_eof(),
    "write_eof": lambda transport: transport.write_eof(),
    "is_closing": lambda transport: transport.is_closing(),
    "get_protocol": lambda transport: type(transport.get_protocol()).__name__,
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("ending", ["close", "abort", "the peer"])
@as_on_asyncio
async def test_what_may_be_called_while_it_ends_and_afterwards(notes, tls, ending, verb):
    async with tls.accepted_tls(notes.plain("us"), peer={"polite": False}) as (protocol, end):
        transport = protocol.transport
        if ending == "the peer":
            end.say_goodbye()
            end.finish()
        else:
            getattr(transport, ending)()
        notes.raised("at once", VERBS[verb], transport)
        if verb == "pause_reading" and ending == "the peer":
            notes.raised("at once", transport.resume_reading)
        end.finish()
        await protocol.called("connection_lost")
        notes.raised("afterwards", VERBS[verb], transport)


@as_on_asyncio
async def test_a_transport_that_was_closed_warns_of_nothing(notes, tls):
    with unclosed(notes):
        for side in SIDES.values():
            for verb in ("close", "abort"):
                async with side(tls, notes.plain("us")) as (protocol, _):
                    getattr(protocol.transport, verb)()
                    await protocol.called("connection_lost")
                    del protocol
    assert "unclosed" not in notes.seen


# ---------------------------------------------------------------- debug mode


@pytest.mark.parametrize("ending", ["close_notify", "FIN", "RST", "no record"])
@as_on_asyncio(debug=True)
async def test_in_debug_mode_an_end_is_logged_as_asyncio_does(notes, tls, ending):
    async with tls.accepted_tls(notes.plain("us")) as (protocol, end):
        PEERS[ending](end)
        await protocol.called("connection_lost")
        await quiet()


@as_on_asyncio(debug=True)
async def test_in_debug_mode_a_shutdown_timeout_is_logged_as_asyncio_does(notes, tls):
    async with tls.accepted_tls(notes.plain("us"), peer={"polite": False}, ssl_shutdown_timeout=0.05) as (protocol, _):
        protocol.transport.close()
        await protocol.called("connection_lost")
        await asyncio.sleep(0)
