"""[A10] `start_tls`, call by call: bytes that came early, plain writes that wait, failures, cancelling."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import pytest
from support.differential import as_on_asyncio, ssl_fields
from support.kernel import pattern
from support.streams import abort, collected, small_buffer
from support.tls import CA, CLIENT
from support.tls_end import TlsEnd, TlsStreams, quiet
from support.tls_peer import certified, client_context, server_context
from support.tls_sides import both_upgraded, greeted, upgrade, upgraded

BIG = 1 << 20
each_kind = pytest.mark.parametrize("server", [True, False], ids=["server", "client"])


def counterpart(sock, server, **options):
    """The peer of such a connection, as an end of TLS."""
    return TlsEnd(sock, client_context() if server else server_context(), server=not server, **options)


@contextlib.asynccontextmanager
async def plain(tls: TlsStreams, protocol, server, **options):
    """A protocol with a connection in plain, and its peer, which has said nothing."""
    async with tls.accepted(protocol) as (protocol, sock):
        end = counterpart(sock, server, **options)
        try:
            yield protocol, end
        finally:
            if protocol.transport.get_protocol() is None or protocol.transport.is_closing():
                await quiet()
            if "connection_lost" not in protocol.log and protocol.transport.get_protocol() is not protocol:
                protocol.log.append("connection_lost")
            end.close()


# ---------------------------------------------------------------- both sides


@each_kind
@as_on_asyncio
async def test_a_connection_goes_over_to_tls_without_connection_made(notes, tls, server):
    async with plain(tls, notes.plain("us"), server) as (protocol, end):
        await upgraded(notes, protocol, server, end)
        await greeted(protocol, end)
        end.say_goodbye()
        end.finish()
        await protocol.called("connection_lost")
        await end.is_over()
    notes("peer", *end.over)
    assert notes.names("us").count("connection_made") == 1


@each_kind
@as_on_asyncio
async def test_what_is_known_of_it_is_that_of_tls_and_of_the_old_transport(notes, tls, server):
    async with plain(tls, notes.plain("us"), server) as (protocol, end):
        old = protocol.transport
        before = {name: old.get_extra_info(name) for name in ("peername", "sockname")}
        new = await upgraded(notes, protocol, server, end)
        await end.is_secured()
        assert {name: new.get_extra_info(name) for name in before} == before
        assert type(new.get_extra_info("ssl_object")) is ssl.SSLObject
        fields = ssl_fields(new.get_extra_info("ssl_object"))
        notes("new", {name: value for name, value in fields.items() if name not in ("session_reused",)})
        notes("new", new.get_extra_info("cipher"), new.get_extra_info("compression"), new.is_reading())
        notes("socket", type(new.get_extra_info("socket")).__name__)
        assert new.get_extra_info("socket").fileno() == old.get_extra_info("socket").fileno()
        assert new.get_protocol() is protocol
        new.abort()
        await protocol.called("connection_lost")


@each_kind
@as_on_asyncio
async def test_the_protocol_of_an_upgrade_may_be_another(notes, tls, server):
    second = notes.plain("second")
    async with plain(tls, notes.plain("first"), server) as (first, end):
        upgrading = asyncio.ensure_future(upgrade(second, server, first.transport))
        await quiet(3)
        end.handshake()
        second.transport = await upgrading
        await end.is_secured()
        end.write(b"for the second")
        await second.received(b"for the second")
        second.transport.close()
        await second.called("connection_lost")
        first.log.append("connection_lost")
    assert notes.names("first") == ["connection_made"]


@as_on_asyncio
async def test_two_ends_of_one_loop_go_over_and_part(notes, tls):
    async with tls.pair(notes.plain("server"), notes.plain("client")) as (server, client):
        server.transport, client.transport = await both_upgraded(server, client)
        server.transport.write(pattern(BIG))
        client.transport.write(pattern(BIG))
        await asyncio.gather(server.received(pattern(BIG)), client.received(pattern(BIG)))
        client.transport.close()
        await client.called("connection_lost")
        await server.called("connection_lost")
        server.transport.close()


# ---------------------------------------------------------------- what came, and was written, before


@pytest.mark.parametrize("how", ["in data_received", "with a pause"])
@as_on_asyncio
async def test_a_hello_in_the_same_segment_as_the_command_is_the_protocols_as_in_asyncio(notes, tls, how):
    """It was received in plain before `start_tls` began: whoever pipelines it has it to blame. What comes later is TLS."""
    tasks = []

    def command(protocol, data):
        if how == "with a pause":
            protocol.transport.pause_reading()
        tasks.append(asyncio.ensure_future(upgrade(protocol, True, ssl_handshake_timeout=0.2)))

    async with plain(tls, notes.plain("us", data_received=command), True) as (protocol, end):
        end.send(b"STARTTLS\n" + end.hold())
        end.listen()
        await protocol.called("data_received")
        assert protocol.data.startswith(b"STARTTLS\n\x16\x03")
        notes("task", type((await asyncio.gather(*tasks, return_exceptions=True))[0]).__name__)
    notes.seen["us"] = notes.names("us")


@as_on_asyncio
async def test_a_hello_that_waits_in_the_kernel_belongs_to_tls(notes, tls):
    """The peer does not wait for the answer to its command; the server reads only the command."""
    async with plain(tls, notes.plain("us"), True) as (protocol, end):
        protocol.transport.pause_reading()
        end.handshake()
        await quiet()
        await upgraded(notes, protocol, True)
        await end.is_secured()
        end.write(b"over TLS")
        await protocol.received(b"over TLS")
        protocol.transport.close()
        await protocol.called("connection_lost")
    assert protocol.data == b"over TLS"


@each_kind
@as_on_asyncio
async def test_data_behind_the_handshake_is_received(notes, tls, server):
    async with plain(tls, notes.plain("us"), server) as (protocol, end):
        upgrading = asyncio.ensure_future(upgraded(notes, protocol, server))
        await quiet()
        if server:
            end.send(await end.finished_held() + end.seal(b"at once"))
        else:
            end.listen()
            await end.is_secured()
            end.write(b"at once")
        await upgrading
        await protocol.received(b"at once")
        await abort(protocol)


@each_kind
@as_on_asyncio
async def test_what_was_written_in_plain_goes_before_the_first_record(notes, tls, server):
    async with plain(tls, notes.plain("us"), server) as (protocol, end):
        protocol.transport.write(b"220 go ahead\n")
        upgrading = asyncio.ensure_future(upgraded(notes, protocol, server))
        words = await asyncio.get_running_loop().sock_recv(end.sock, 13)
        assert words == b"220 go ahead\n"
        await quiet()
        end.handshake()
        await upgrading
        await end.is_secured()
        protocol.transport.write(b"over TLS")
        await end.received(b"over TLS")
        await abort(protocol)


@each_kind
@as_on_asyncio
async def test_much_that_waits_in_plain_goes_before_the_first_record(notes, tls, server):
    notes.leave_out_flow_control()
    async with plain(tls, notes.plain("us"), server) as (protocol, end):
        small_buffer(protocol.transport)
        protocol.transport.write(pattern(BIG))
        notes("waits", protocol.transport.get_write_buffer_size() > 0)
        upgrading = asyncio.ensure_future(upgraded(notes, protocol, server))
        received = bytearray()
        while len(received) < BIG:
            received += await asyncio.get_running_loop().sock_recv(end.sock, BIG - len(received))
        assert received == pattern(BIG)
        end.handshake()
        await upgrading
        await end.is_secured()
        protocol.transport.write(b"over TLS")
        await end.received(b"over TLS")
        await abort(protocol)
    assert notes.seen["waits"] == [[True]]
    notes.reports.clear()  # asyncio's SSLProtocol is told to resume what it has not paused


# ---------------------------------------------------------------- the old transport


@each_kind
@as_on_asyncio
async def test_the_old_transport_knows_a_protocol_that_is_not_the_programs(notes, tls, server):
    async with plain(tls, notes.plain("us"), server) as (protocol, end):
        old = protocol.transport
        new = await upgraded(notes, protocol, server, end)
        await end.is_secured()
        assert old.get_protocol() is not protocol
        assert old.is_closing() == notes.ours  # closed for use
        new.close()
        await protocol.called("connection_lost")
        await quiet()
        notes("old", old.is_closing(), new.is_closing())


# ---------------------------------------------------------------- failures

CONTEXTS = {
    "a name that is not its": (False, {"server_hostname": "example.test"}),
    "plain text": (True, {}),
    "an end": (True, {}),
    "a reset": (True, {}),
    "silence": (True, {"ssl_handshake_timeout": 0.05}),
}


@pytest.mark.parametrize("failure", CONTEXTS)
@as_on_asyncio
async def test_an_upgrade_that_fails_raises_and_closes_the_connection(notes, tls, failure):
    server, options = CONTEXTS[failure]
    with collected():
        async with plain(tls, notes.plain("us"), server) as (protocol, end):
            old = protocol.transport
            if failure == "a name that is not its":
                end.listen()
            upgrading = asyncio.ensure_future(upgraded(notes, protocol, server, **options))
            await quiet()
            {
                "plain text": lambda: end.send(b"HELO localhost\r\n"),
                "an end": end.finish,
                "a reset": end.reset,
            }.get(failure, lambda: None)()
            await upgrading
            await quiet()
            notes("old", old.is_closing())
            if end.sock.fileno() >= 0:
                end.listen()
                await end.is_over()
    notes("peer", *end.over[-1:])
    assert notes.names("start_tls") == ["raised"]


@each_kind
@as_on_asyncio
async def test_an_upgrade_that_is_cancelled_closes_the_connection(notes, tls, server):
    with collected():
        async with plain(tls, notes.plain("us"), server) as (protocol, end):
            old = protocol.transport
            upgrading = asyncio.ensure_future(upgrade(protocol, server))
            await quiet(3)
            upgrading.cancel()
            await asyncio.wait([upgrading])
            notes("start_tls", upgrading.cancelled(), old.is_closing())
            end.listen()
            await end.is_over()
            await quiet()
    assert notes.seen["start_tls"] == [[True, True]]


@each_kind
@as_on_asyncio
async def test_an_upgrade_whose_old_transport_is_closed_in_the_middle(notes, tls, server):
    with collected():
        async with plain(tls, notes.plain("us"), server) as (protocol, _):
            old = protocol.transport
            upgrading = asyncio.ensure_future(upgraded(notes, protocol, server))
            await quiet(3)
            old.abort()
            await upgrading
            await quiet()


@as_on_asyncio
async def test_a_client_certificate_is_asked_for_in_an_upgrade(notes, tls):
    ours = server_context()
    ours.verify_mode = ssl.CERT_REQUIRED
    ours.load_verify_locations(cadata=CA.pem.decode())
    async with tls.accepted(notes.plain("us")) as (protocol, sock):
        end = TlsEnd(sock, certified(client_context(), CLIENT))
        new = await upgraded(notes, protocol, True, end, context=ours)
        notes("peercert", new.get_extra_info("peercert"))
        new.abort()
        await protocol.called("connection_lost")
        end.close()
