"""[A4] From `connection_made` to `connection_lost`, the order of calls, and what each ending does with what is pending."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest
from support.asyncio_loops import on_loop
from support.coroutines import done, seen, turns
from support.kernel import pattern, was_reset
from support.protocols import (
    Recording,
    accepted,
    connect,
    connected,
    either_side,
    no_tls_yet,
    on_both,
    on_ours,
    serve,
    slow,
    target_of,
)

pytestmark = no_tls_yet

BIG = 1 << 22
HUGE = 64 << 20

ENDINGS = {"close": lambda protocol: protocol.transport.close(), "abort": lambda protocol: protocol.transport.abort()}


# ---------------------------------------------------------------- the beginning


@on_both
async def test_connection_made_comes_before_data_that_had_arrived_and_before_the_waiter(transport):
    order = []
    server = transport.raw_server()
    peer = server.accept()
    peer.send(b"early")
    peer.shutdown()
    protocol = Recording(
        made=lambda protocol: order.append("made"),
        data=lambda protocol: order.append("data"),
        eof=lambda protocol: order.append("eof"),
    )
    await connect(transport, lambda: protocol, server)
    order.append("awaited")
    await protocol.until("lost")
    assert order[0] == "made"
    assert order.index("made") < order.index("awaited")
    assert order.index("data") < order.index("eof")
    assert protocol.calls == ["made", "data", "eof", "lost"]


@on_both
async def test_connection_made_comes_once_and_first_for_each_that_is_accepted(transport):
    protocols = []

    def factory():
        protocols.append(Recording())
        return protocols[-1]

    server = await serve(transport, factory)
    peers = [transport.peer(target_of(server)) for _ in range(20)]
    for peer in peers:
        await done(peer.send(b"hello"))
    await seen(lambda: len(protocols) == 20 and all(len(each.received) == 5 for each in protocols), "twenty hellos")
    for peer in peers:
        peer.close()
    for protocol in protocols:
        await protocol.until("lost")
        assert protocol.calls == ["made", "data", "eof", "lost"]
    assert len(protocols) == 20
    server.close()


@on_both
@either_side
@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_protocol_that_ends_its_connection_in_connection_made_gets_no_data(transport, side, ending):
    protocol = Recording(made=ENDINGS[ending])
    peer = await side(transport, protocol)
    peer.send(b"for nobody").ignore()
    await protocol.until("lost")
    await turns(5)
    assert protocol.calls == ["made", "lost"]
    assert protocol.error is None


@on_both
async def test_what_is_written_in_connection_made_is_sent_before_it_closes_there(transport):
    def made(protocol):
        protocol.transport.write(b"greeting")
        protocol.transport.close()

    protocol = Recording(made=made)
    peer = await accepted(transport, protocol)
    assert await done(peer.recv_until_eof()) == b"greeting"
    await protocol.until("lost")


# ---------------------------------------------------------------- the peer's end


@on_both
@either_side
@pytest.mark.parametrize("answer", [None, False, 0, ""])
async def test_the_peers_end_closes_unless_eof_received_says_otherwise(transport, side, answer):
    protocol = Recording(eof=lambda protocol: answer)
    peer = await side(transport, protocol)
    peer.send(b"last words")
    peer.shutdown()
    await protocol.until("lost")
    assert protocol.calls == ["made", "data", "eof", "lost"]
    assert protocol.error is None
    assert await done(peer.recv_until_eof()) == b""


@on_both
@either_side
@pytest.mark.parametrize("answer", [True, 1])
async def test_a_connection_that_eof_received_keeps_open_can_be_written_to(transport, side, answer):
    protocol = Recording(eof=lambda protocol: answer)
    peer = await side(transport, protocol)
    peer.shutdown()
    await protocol.until("eof")
    await turns()
    assert not protocol.transport.is_closing()
    for _ in range(3):
        protocol.transport.write(b"answer ")
        await turns(2)
    assert await done(peer.recv_exactly(21)) == 3 * b"answer "
    protocol.transport.close()
    assert await done(peer.recv_until_eof()) == b""
    await protocol.until("lost")
    assert protocol.calls == ["made", "eof", "lost"]


@on_both
async def test_what_is_written_in_eof_received_is_sent(transport):
    protocol = Recording(eof=lambda protocol: protocol.transport.write(pattern(BIG)))
    peer = await slow(transport, protocol)
    peer.shutdown()
    assert await done(peer.recv_until_eof()) == pattern(BIG)
    await protocol.until("lost")


@on_both
@pytest.mark.parametrize("keep", [False, True])
async def test_a_peer_that_ends_while_bytes_are_pending_gets_them(transport, keep):
    protocol = Recording(eof=lambda protocol: keep)
    peer = await slow(transport, protocol)
    protocol.transport.write(pattern(BIG))
    peer.shutdown()
    await protocol.until("eof")
    assert protocol.transport.is_closing() is not keep
    if keep:
        protocol.transport.write(b"more")
        protocol.transport.close()
    assert await done(peer.recv_until_eof()) == pattern(BIG) + (b"more" if keep else b"")
    await protocol.until("lost")
    assert protocol.error is None


@on_both
async def test_write_eof_ends_our_side_and_reading_goes_on(transport):
    protocol = Recording()
    peer = await connected(transport, protocol)
    assert protocol.transport.can_write_eof() is True
    protocol.transport.write(b"request")
    protocol.transport.write_eof()
    protocol.transport.write_eof()
    assert await done(peer.recv_until_eof()) == b"request"
    peer.send(b"response")
    assert await protocol.got(8) == b"response"
    assert not protocol.transport.is_closing()
    peer.shutdown()
    await protocol.until("lost")
    assert protocol.calls == ["made", "data", "eof", "lost"]


@on_both
async def test_write_eof_comes_after_what_is_pending(transport):
    protocol = Recording()
    peer = await slow(transport, protocol)
    protocol.transport.write(pattern(BIG))
    protocol.transport.write_eof()
    assert await done(peer.recv_until_eof()) == pattern(BIG)
    peer.send(b"got it")
    assert await protocol.got(6) == b"got it"
    protocol.transport.close()
    await protocol.until("lost")


@on_both
async def test_both_sides_may_end_their_half_and_the_connection_is_open_until_it_is_closed(transport):
    protocol = Recording(eof=lambda protocol: True)
    peer = await connected(transport, protocol)
    protocol.transport.write_eof()
    peer.shutdown()
    await protocol.until("eof")
    await turns()
    assert "lost" not in protocol.calls
    protocol.transport.close()
    await protocol.until("lost")
    assert protocol.error is None


# ---------------------------------------------------------------- close and abort


@on_loop("native", timeout=40)  # asyncio moves its whole buffer for each piece that it sends, before Python 3.12
async def test_close_sends_64_mib_to_a_reader_that_is_slow(transport):
    protocol = Recording()
    peer = await connected(transport, protocol)
    protocol.transport.write(pattern(HUGE))
    protocol.transport.close()
    protocol.transport.close()
    received = bytearray()
    while len(received) < HUGE:
        received += await done(peer.recv(1 << 20))
        await asyncio.sleep(0)
    assert received == pattern(HUGE)
    assert await done(peer.recv_until_eof()) == b""
    await protocol.until("lost")
    assert protocol.error is None
    assert protocol.calls == ["made", "pause", "resume", "lost"]


@on_both
async def test_close_sends_what_is_pending_and_then_ends(transport):
    protocol = Recording()
    peer = await slow(transport, protocol)
    protocol.transport.write(pattern(BIG))
    protocol.transport.close()
    assert await done(peer.recv_until_eof()) == pattern(BIG)
    await protocol.until("lost")
    assert protocol.error is None
    assert protocol.calls == ["made", "pause", "resume", "lost"]


@on_both
async def test_abort_drops_what_is_pending(transport):
    protocol = Recording()
    peer = await slow(transport, protocol)
    protocol.transport.write(pattern(BIG))
    protocol.transport.abort()
    received = await done(peer.recv_until_eof())
    assert len(received) < BIG
    assert received == pattern(BIG)[: len(received)]
    await protocol.until("lost")
    assert protocol.error is None
    assert protocol.calls == ["made", "pause", "lost"]


@on_both
async def test_abort_cuts_a_close_short_that_waits(transport):
    protocol = Recording()
    peer = await slow(transport, protocol)
    protocol.transport.write(pattern(BIG))
    protocol.transport.close()
    await turns(5)
    protocol.transport.abort()
    await protocol.until("lost")
    assert len(await done(peer.recv_until_eof())) < BIG


@on_both
@either_side
@pytest.mark.parametrize("ending", ENDINGS)
async def test_connection_lost_is_called_by_the_loop_once_and_last(transport, side, ending):
    protocol = Recording()
    peer = await side(transport, protocol)
    peer.send(b"on its way").ignore()
    called_before = len(protocol.calls)
    ENDINGS[ending](protocol)
    assert len(protocol.calls) == called_before
    for again in (*ENDINGS.values(), *ENDINGS.values()):
        again(protocol)
    await protocol.until("lost")
    await turns()
    assert protocol.calls.count("lost") == 1
    assert protocol.calls[-1] == "lost"
    assert "eof" not in protocol.calls
    assert protocol.error is None


@on_both
@pytest.mark.parametrize("ending", ENDINGS)
async def test_connection_lost_comes_before_what_is_scheduled_after_the_call(transport, ending):
    order = []
    protocol = Recording(lost=lambda protocol: order.append("lost"))
    await connected(transport, protocol)
    loop = asyncio.get_running_loop()
    loop.call_soon(order.append, "before")
    ENDINGS[ending](protocol)
    loop.call_soon(order.append, "after")
    await protocol.until("lost")
    await turns(2)
    assert order == ["before", "lost", "after"]


@on_both
@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_protocol_that_ends_its_connection_in_data_received_gets_no_more(transport, ending):
    protocol = Recording(data=ENDINGS[ending])
    peer = await connected(transport, protocol)
    peer.send(pattern(1 << 20)).ignore()
    await protocol.until("lost")
    first = len(protocol.received)
    await turns(5)
    assert protocol.calls == ["made", "data", "lost"]
    assert len(protocol.received) == first


# ---------------------------------------------------------------- resets


@on_both
@either_side
async def test_a_reset_is_told_with_its_error_and_without_eof_received(tcp, side):
    protocol = Recording()
    peer = await side(tcp, protocol)
    peer.send(b"before")
    assert await protocol.got(6) == b"before"
    peer.reset()
    await protocol.until("lost")
    await turns()
    assert isinstance(protocol.error, ConnectionResetError)
    assert protocol.calls == ["made", "data", "lost"]


@on_both
async def test_a_reset_ends_a_connection_whose_bytes_are_pending(tcp):
    protocol = Recording()
    peer = await slow(tcp, protocol)
    protocol.transport.write(pattern(BIG))
    peer.reset()
    await protocol.until("lost")
    await turns()
    assert isinstance(protocol.error, (ConnectionResetError, BrokenPipeError))
    assert protocol.calls == ["made", "pause", "lost"]
    assert protocol.transport.get_write_buffer_size() == 0


@on_both
async def test_a_reset_ends_a_connection_that_is_paused_and_has_bytes_pending(tcp):
    protocol = Recording()
    peer = await slow(tcp, protocol)
    protocol.transport.pause_reading()
    protocol.transport.write(pattern(BIG))
    peer.reset()
    await protocol.until("lost")
    assert isinstance(protocol.error, (ConnectionResetError, BrokenPipeError))
    assert protocol.calls == ["made", "pause", "lost"]


@on_both
async def test_a_reset_ends_a_close_that_waits_for_pending_bytes(tcp):
    protocol = Recording()
    peer = await slow(tcp, protocol)
    protocol.transport.write(pattern(BIG))
    protocol.transport.close()
    peer.reset()
    await protocol.until("lost")
    assert isinstance(protocol.error, (ConnectionResetError, BrokenPipeError))
    assert protocol.calls == ["made", "pause", "lost"]


@on_both
async def test_a_reset_of_a_half_closed_connection_is_found_by_the_next_write(tcp):
    protocol = Recording(eof=lambda protocol: True)
    peer = await connected(tcp, protocol)
    found = protocol.transport.get_extra_info("socket")
    peer.shutdown()
    await protocol.until("eof")
    peer.reset()
    await seen(lambda: was_reset(found), "the reset")
    protocol.transport.write(b"into the void")
    await protocol.until("lost")
    assert isinstance(protocol.error, (ConnectionResetError, BrokenPipeError))
    assert protocol.calls == ["made", "eof", "lost"]


async def gone(transport, protocol):
    """The protocol has a connection that is not read, and whose peer has gone."""
    peer = await connected(transport, protocol)
    protocol.transport.pause_reading()
    if transport.can_reset:
        peer.reset()
        await seen(lambda: was_reset(protocol.transport.get_extra_info("socket")), "the reset")
    else:
        await done(peer.close())


@on_both
@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_write_that_fails_is_what_the_connection_is_lost_by_also_if_it_is_ended_at_once(transport, ending):
    protocol = Recording()
    await gone(transport, protocol)
    protocol.transport.write(b"for nobody")
    ENDINGS[ending](protocol)
    await protocol.until("lost")
    assert isinstance(protocol.error, (ConnectionResetError, BrokenPipeError))


@on_both
async def test_after_a_write_that_has_failed_write_eof_does_nothing(transport):
    protocol = Recording()
    await gone(transport, protocol)
    protocol.transport.write(b"for nobody")
    protocol.transport.write_eof()
    protocol.transport.write(b"dropped")
    assert protocol.transport.is_closing()
    await protocol.until("lost")
    assert isinstance(protocol.error, (ConnectionResetError, BrokenPipeError))


@on_ours
async def test_a_deadline_that_passes_under_a_protocol_that_writes_in_each_turn_loses_the_connection_once(transport):
    def write_on(protocol):
        protocol.transport.write(b"x")
        if not protocol.transport.is_closing():
            asyncio.get_running_loop().call_soon(write_on, protocol)

    protocol = Recording(made=write_on)
    server = await serve(transport, lambda: protocol, read_timeout=0.05)
    peer = transport.peer(target_of(server))
    await done(peer.connected)
    await protocol.until("lost")
    assert isinstance(protocol.error, TimeoutError)
    assert protocol.transport.get_extra_info("socket").fileno() == -1
    await turns()
    assert protocol.calls == ["made", "lost"]
    server.close()


# ---------------------------------------------------------------- afterwards


@on_both
@pytest.mark.parametrize("ending", ENDINGS)
async def test_after_connection_lost_the_transport_does_nothing_and_raises_nothing(transport, ending):
    protocol = Recording()
    await connected(transport, protocol)
    it = protocol.transport
    ENDINGS[ending](protocol)
    await protocol.until("lost")
    await turns(2)
    assert it.get_protocol() is None
    it.close()
    it.abort()
    it.write(b"x")
    it.write_eof()
    it.pause_reading()
    it.resume_reading()
    it.set_write_buffer_limits(10, 5)
    assert it.get_write_buffer_limits() == (5, 10)
    assert (it.is_closing(), it.is_reading(), it.can_write_eof(), it.get_write_buffer_size()) == (True, False, True, 0)
    await turns(2)
    assert protocol.calls == ["made", "lost"]


@on_both
async def test_writelines_after_connection_lost_is_dropped(transport):
    protocol = Recording()
    await connected(transport, protocol)
    protocol.transport.abort()
    await protocol.until("lost")
    await turns(2)
    protocol.transport.writelines([])
    protocol.transport.set_protocol(protocol)
    assert protocol.transport.get_protocol() is protocol
    assert protocol.calls == ["made", "lost"]


class Plain(asyncio.Protocol):
    """Keeps nothing but what it must, so that nothing but the loop and the transport hold it."""

    def __init__(self, lost):
        self.lost = lost

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, error):
        del self.transport
        self.lost.set_result(None)


async def end_by_close(it, peer):
    it.close()


async def end_by_abort(it, peer):
    it.abort()


async def end_by_peer(it, peer):
    await done(peer.close())


async def end_by_reset(it, peer):
    await done(peer.reset())


@on_both
@pytest.mark.parametrize("end", [end_by_close, end_by_abort, end_by_peer, end_by_reset])
@pytest.mark.parametrize("asked", [False, True], ids=["", "asked for its socket"])
async def test_after_connection_lost_nobody_holds_the_protocol(tcp, end, asked):
    assert await still_held(tcp, end, asked) in ([], ["transport"])  # asyncio's transport refers to itself


@on_ours
@pytest.mark.parametrize("end", [end_by_close, end_by_abort, end_by_peer, end_by_reset])
@pytest.mark.parametrize("asked", [False, True], ids=["", "asked for its socket"])
async def test_after_connection_lost_nobody_holds_protocol_and_transport(tcp, end, asked):
    assert await still_held(tcp, end, asked) == []


async def still_held(tcp, end, asked):
    """What is alive after `connection_lost`, without the collector of garbage."""
    lost = asyncio.get_running_loop().create_future()
    server = tcp.raw_server()
    peer = server.accept()
    loop = asyncio.get_running_loop()
    it, protocol = await loop.create_connection(lambda: Plain(lost), *server.sock.getsockname())
    await done(peer.connected)
    if asked:
        assert it.get_extra_info("socket").fileno() >= 0
    held = {"transport": weakref.ref(it), "protocol": weakref.ref(protocol)}
    gc.collect()
    gc.disable()
    try:
        await end(it, peer)
        del it, protocol
        await lost
        await turns(3)
        return [name for name, ref in held.items() if ref() is not None]
    finally:
        gc.enable()


@on_ours
async def test_after_connection_lost_nobody_holds_an_accepted_protocol_and_its_transport(transport):
    lost = asyncio.get_running_loop().create_future()
    dead = []

    class Accepted(Plain):
        def connection_made(self, it):
            super().connection_made(it)
            dead.extend([weakref.ref(it), weakref.ref(self)])

    server = await serve(transport, lambda: Accepted(lost))
    peer = transport.peer(target_of(server))
    await done(peer.connected)
    await seen(lambda: dead, "the connection")
    gc.collect()
    gc.disable()
    try:
        await done(peer.close())
        await lost
        await turns(3)
        assert [ref() for ref in dead] == [None, None]
    finally:
        gc.enable()
    server.close()


@on_both
async def test_a_transport_that_is_kept_holds_no_protocol(transport):
    lost = asyncio.get_running_loop().create_future()
    server = transport.raw_server()
    server.accept()
    it, protocol = await connect(transport, lambda: Plain(lost), server)
    dead = weakref.ref(protocol)
    it.close()
    del protocol
    await lost
    await turns(3)
    assert dead() is None
    assert it.get_protocol() is None
