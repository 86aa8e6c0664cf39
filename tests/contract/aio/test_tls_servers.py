"""[A11] A `Server` with TLS: its end with connections and with handshakes that hang; `sendfile`; a loop that is closed under
transports with TLS."""

from __future__ import annotations

import asyncio
import contextlib
import io
import sys

import pytest
from support.asyncio_loops import new_host
from support.coroutines import seen, turns
from support.differential import as_on_asyncio, plain_text, since_3_11, unclosed
from support.kernel import pattern
from support.protocols import Plain
from support.streams import LARGE, address_of, collected, small_buffer
from support.tls_end import TlsStreams, kept, quiet
from support.tls_peer import server_context
from support.tls_sides import SIDES, each_side

BIG = 1 << 20
ends_clients = pytest.mark.skipif(sys.version_info < (3, 13), reason="Server.close_clients came with Python 3.13")
waits_for_connections = pytest.mark.skipif(
    sys.version_info < (3, 12, 1), reason="before Python 3.12.1 it does not wait for them"
)


@contextlib.asynccontextmanager
async def crowd(notes, tls, secured, hanging, **options):
    """A server with so many connections, and so many handshakes that have only begun."""
    protocols = [notes.plain(f"server {number}") for number in range(secured)]
    waiting = list(protocols)
    server = await tls.server(lambda: waiting.pop(0) if waiting else Plain(), ssl=server_context(), **options)
    ends = []
    try:
        for protocol in protocols:
            ends.append((await tls.dial_tls(address_of(server))).handshake())
            await protocol.called("connection_made")
            await ends[-1].is_secured()
        for _ in range(hanging):
            ends.append(await tls.dial_tls(address_of(server)))
            ends[-1].send(ends[-1].hold()[:20])
            ends[-1].listen()
        await quiet()
        yield server, protocols, ends
    finally:
        server.close()
        for protocol in protocols:
            protocol.transport.abort()
        for end in ends:
            end.close()
        await quiet()


# ---------------------------------------------------------------- servers


@as_on_asyncio
async def test_a_closed_server_keeps_its_connections(notes, tls):
    async with crowd(notes, tls, 2, 0) as (server, protocols, ends):
        server.close()
        notes("server", server.is_serving(), len(server.sockets))
        ends[0].write(b"still there?")
        await protocols[0].received(b"still there?")
        protocols[0].transport.write(b"yes")
        await ends[0].received(b"yes")


@as_on_asyncio
async def test_a_handshake_under_way_goes_on_when_its_server_is_closed(notes, tls):
    protocol = notes.plain("server")
    server = await tls.server(lambda: protocol, ssl=server_context())
    end = await tls.dial_tls(address_of(server))
    async with kept(end, protocol):
        end.step()
        await quiet()
        server.close()
        end.listen()
        await end.is_secured()
        await protocol.called("connection_made")
        end.write(b"hello")
        await protocol.received(b"hello")


@as_on_asyncio
async def test_a_closed_server_accepts_nobody(notes, tls):
    server = await tls.server(lambda: notes.plain("server"), ssl=server_context())
    address = address_of(server)
    server.close()
    await notes.outcome("client", tls.dial(address))
    assert notes.names("client") == ["raised"]
    await server.wait_closed()


@waits_for_connections
@pytest.mark.parametrize("verb", ["close", "abort"])
@as_on_asyncio
async def test_wait_closed_waits_for_connections(notes, tls, verb):
    async with crowd(notes, tls, 2, 0) as (server, protocols, _):
        waiting = asyncio.ensure_future(server.wait_closed())
        server.close()
        await quiet()
        notes("server", waiting.done())
        for protocol in protocols:
            getattr(protocol.transport, verb)()
        await waiting
        await quiet()
    assert notes.seen["server"] == [[False]]


@waits_for_connections
@as_on_asyncio
async def test_wait_closed_waits_for_a_handshake_that_hangs(notes, tls):
    async with crowd(notes, tls, 0, 1, ssl_handshake_timeout=0.1) as (server, _, ends):
        waiting = asyncio.ensure_future(server.wait_closed())
        server.close()
        await quiet()
        notes("server", waiting.done())
        await waiting
        await ends[0].is_over()
        notes("peer", *ends[0].over)


@ends_clients
@pytest.mark.parametrize("verb", ["close_clients", "abort_clients"])
@pytest.mark.parametrize("hanging", [0, 2])
@as_on_asyncio
async def test_the_clients_of_a_server_are_closed_and_aborted(notes, tls, verb, hanging):
    """asyncio's knows the transports below: `close_clients` has their connections end without close_notify, which ours says."""
    notes.leave_out("eof_received")
    async with crowd(notes, tls, 2, hanging) as (server, protocols, ends):
        server.close()
        getattr(server, verb)()
        for protocol in protocols:
            await protocol.called("connection_lost")
        for end in ends:
            await end.is_over()
            notes("peer", *end.over)
        await server.wait_closed()


@ends_clients
@pytest.mark.parametrize("verb", ["close_clients", "abort_clients"])
@as_on_asyncio
async def test_clients_with_much_unsent_are_closed_and_aborted(notes, tls, verb):
    notes.leave_out("eof_received")
    notes.leave_out_flow_control()
    async with crowd(notes, tls, 1, 0) as (server, (protocol,), (end,)):
        end.deaf()
        small_buffer(protocol.transport)
        protocol.transport.write(pattern(BIG))
        server.close()
        getattr(server, verb)()
        await quiet()
        notes("lost", "connection_lost" in protocol.log)
        end.listen()
        await protocol.called("connection_lost")
        await end.is_over()
        notes("peer", len(end.data) == BIG)
        await server.wait_closed()


# ---------------------------------------------------------------- sendfile


@each_side
@as_on_asyncio
async def test_a_file_arrives_whole(notes, tls, file, side):
    notes.leave_out_flow_control()
    file.seek(0)
    async with SIDES[side](tls, notes.plain("us")) as (protocol, end):
        await notes.outcome("sendfile", asyncio.get_running_loop().sendfile(protocol.transport, file))
        await end.received(pattern(LARGE))
        notes("file", file.tell())
        protocol.transport.write(b"after")
        await end.received(pattern(LARGE) + b"after")


@pytest.mark.parametrize(("offset", "count"), [(0, 10), (1000, None), (1000, 10), (LARGE, None), (10, LARGE * 2)])
@as_on_asyncio
async def test_offset_and_count_choose_a_part(notes, tls, file, offset, count):
    notes.leave_out_flow_control()
    file.seek(0)
    wanted = pattern(LARGE)[offset:][:count]
    async with tls.accepted_tls(notes.plain("us")) as (protocol, end):
        loop = asyncio.get_running_loop()
        await notes.outcome("sendfile", loop.sendfile(protocol.transport, file, offset, count))
        await end.received(wanted)


@each_side
@as_on_asyncio
async def test_without_fallback_it_is_refused_and_the_connection_goes_on(notes, tls, file, side):
    async with SIDES[side](tls, notes.plain("us")) as (protocol, end):
        loop = asyncio.get_running_loop()
        await notes.outcome("sendfile", loop.sendfile(protocol.transport, file, fallback=False))
        protocol.transport.write(b"still open")
        await end.received(b"still open")
    assert notes.names("sendfile") == ["raised"]


@as_on_asyncio
async def test_a_file_that_has_no_descriptor_is_sent(notes, tls):
    async with tls.accepted_tls(notes.plain("us")) as (protocol, end):
        loop = asyncio.get_running_loop()
        await notes.outcome("sendfile", loop.sendfile(protocol.transport, io.BytesIO(pattern(100_000))))
        await end.received(pattern(100_000))


@as_on_asyncio
async def test_what_is_written_before_and_after_keeps_its_place(notes, tls, file):
    notes.leave_out_flow_control()
    file.seek(0)
    async with tls.accepted_tls(notes.plain("us")) as (protocol, end):
        protocol.transport.write(b"<" * 100_000)
        await asyncio.get_running_loop().sendfile(protocol.transport, file)
        protocol.transport.write(b">" * 100_000)
        await end.received(b"<" * 100_000 + pattern(LARGE) + b">" * 100_000)


@as_on_asyncio
async def test_a_closing_transport_is_refused(notes, tls, file):
    async with tls.accepted_tls(notes.plain("us")) as (protocol, _):
        protocol.transport.close()
        await notes.outcome("sendfile", asyncio.get_running_loop().sendfile(protocol.transport, file))
        await protocol.called("connection_lost")
    assert notes.names("sendfile") == ["raised"]


@as_on_asyncio
async def test_a_peer_that_goes_in_the_middle_is_an_error(notes, tls, file):
    notes.leave_out_flow_control()
    file.seek(0)
    async with tls.accepted_tls(notes.plain("us")) as (protocol, end):
        end.deaf()
        small_buffer(protocol.transport)
        sending = asyncio.ensure_future(asyncio.get_running_loop().sendfile(protocol.transport, file))
        await seen(lambda: protocol.transport.get_write_buffer_size() > 65536, "more of it than the mark to be unsent")
        await quiet()
        notes("sending", sending.done())
        end.reset()
        await protocol.called("connection_lost")
        with pytest.raises(ConnectionError):  # which one: whether the thread that reads the file was just at it
            await sending


# ---------------------------------------------------------------- a loop that is closed


@since_3_11
@pytest.mark.parametrize("hanging", [False, True])
def test_a_loop_that_is_closed_under_them_warns_and_leaves_no_descriptor(no_leaks, hanging):
    """Which of asyncio's transports the warning names, the one with TLS or the one below it, is its own."""
    warned = {}
    for kind in ("asyncio", "native"):
        tls = TlsStreams("tcp")
        loop = new_host(kind)
        notes = _Warnings()

        async def opened(tls=tls):
            server, client = Plain(), Plain()
            listening = await tls.server(lambda: server, ssl=server_context())
            if hanging:
                sock = await tls.dial(address_of(listening))
                await turns(10)
                listening.close()
                return [sock]
            await tls.connect_tls(client, address_of(listening))
            await server.called("connection_made")
            listening.close()
            return []

        with collected(), unclosed(notes):
            socks = loop.run_until_complete(opened())
            loop.close()
            for sock in socks:
                sock.close()
        tls.close()
        warned[kind] = {text for text in notes.texts if "transport" in text}
    assert warned["asyncio"]
    assert warned["native"]


class _Warnings:
    def __init__(self):
        self.texts = []

    def __call__(self, who, text):
        self.texts.append(plain_text(text))
