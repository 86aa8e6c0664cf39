"""Handshakes that fail, on either side: what is raised, what is reported, what the peer sees, as on asyncio's own loop."""

from __future__ import annotations

import asyncio
import gc
import ssl

import pytest
from support.differential import as_on_asyncio, unclosed
from support.protocols import Plain
from support.streams import address_of, collected
from support.tls import CA, EXPIRED_CLIENT, EXPIRED_SERVER, SERVER, STRANGE_CLIENT, STRANGE_SERVER, Identity
from support.tls_end import TlsEnd, kept, quiet
from support.tls_peer import certified, client_context, server_context, versions
from support.tls_sides import NEW, OLD, connects, serves


def server_of(identity: Identity = SERVER, **fields) -> ssl.SSLContext:
    return with_fields(certified(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), identity), fields)


def client_of(identity: Identity | None = None, **fields) -> ssl.SSLContext:
    context = client_context()
    if identity is not None:
        certified(context, identity)
    return with_fields(context, fields)


def with_fields(context, fields):
    ciphers = fields.pop("ciphers", None)
    for name, value in fields.items():
        setattr(context, name, value)
    if ciphers:
        context.set_ciphers(ciphers)
    return context


def asks(version=OLD, verify=ssl.CERT_REQUIRED):
    """A server's that wants a certificate of its client."""
    context = server_of(minimum_version=version, maximum_version=version, verify_mode=verify)
    context.load_verify_locations(cadata=CA.pem.decode())
    return context


# name -> (context of the server, context of the client, the name that the client asks for)
FAILURES = {
    "of another authority": lambda: (server_of(STRANGE_SERVER), client_of(), "localhost"),
    "of another host": lambda: (server_of(), client_of(), "example.test"),
    "of another address": lambda: (server_of(), client_of(), "127.0.0.2"),
    "expired": lambda: (server_of(EXPIRED_SERVER), client_of(), "localhost"),
    "no shared version": lambda: (server_of(maximum_version=OLD), client_of(minimum_version=NEW), "localhost"),
    "no shared version, the other way": lambda: (
        server_of(minimum_version=NEW),
        client_of(maximum_version=OLD),
        "localhost",
    ),
    "no shared cipher": lambda: (
        server_of(maximum_version=OLD, ciphers="ECDHE-ECDSA-AES128-GCM-SHA256"),
        client_of(ciphers="ECDHE-ECDSA-AES256-GCM-SHA384"),
        "localhost",
    ),
    "no certificate of the client, TLS 1.2": lambda: (asks(), client_of(), "localhost"),
    "a client of another authority, TLS 1.2": lambda: (asks(), client_of(STRANGE_CLIENT), "localhost"),
    "a client that is expired, TLS 1.2": lambda: (asks(), client_of(EXPIRED_CLIENT), "localhost"),
}
LATE = {  # with TLS 1.3 the client is done before the server has looked
    "no certificate of the client": lambda: (asks(NEW), client_of(), "localhost"),
    "a client of another authority": lambda: (asks(NEW), client_of(STRANGE_CLIENT), "localhost"),
    "a client that is expired": lambda: (asks(NEW), client_of(EXPIRED_CLIENT), "localhost"),
}


# ---------------------------------------------------------------- what one of them does not accept


@pytest.mark.parametrize("failure", FAILURES)
@as_on_asyncio
async def test_a_client_that_fails_raises_and_says_why_to_the_server(notes, tls, failure):
    server, client, name = FAILURES[failure]()
    await connects(notes, tls, TlsEnd.handshake, client, server, server_hostname=name)
    assert notes.names("client") == ["raised"]


@pytest.mark.parametrize("failure", FAILURES)
@as_on_asyncio
async def test_a_server_whose_handshake_fails_calls_no_protocol(notes, tls, failure):
    server, client, name = FAILURES[failure]()
    protocol = notes.plain("server")
    async with tls.served(lambda: protocol, ssl=server) as listening:
        end = await tls.dial_tls(address_of(listening), client, name=name)
        async with kept(end):
            end.handshake()
            await end.until(lambda: end.over)
            end.finish()
            await end.is_over()
            await quiet()
    notes("peer", *end.over)
    assert notes.names("server") == []


@pytest.mark.parametrize("failure", LATE)
@as_on_asyncio
async def test_a_client_whom_the_server_refuses_late_is_connected_and_lost(notes, tls, failure):
    server, client, name = LATE[failure]()
    protocol = notes.plain("client")
    async with tls.connecting_tls(protocol, client, server, server_hostname=name) as (connecting, end):
        end.listen()
        await notes.outcome("client", connecting)
        await end.until(lambda: end.over)
        end.finish()
        await protocol.called("connection_lost")
        await end.is_over()
    notes("peer", *end.over)


@pytest.mark.parametrize("failure", LATE)
@as_on_asyncio
async def test_a_server_that_refuses_its_client_late_calls_no_protocol(notes, tls, failure):
    server, client, _ = LATE[failure]()
    await serves(notes, tls, TlsEnd.handshake, server, client)
    assert notes.names("server") == []


# ---------------------------------------------------------------- what is no handshake, or half of one


HTTP = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
ANSWER = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
MESSES = {
    "plain HTTP": lambda end: end.send(HTTP if not end.server else ANSWER),
    "zeros": lambda end: end.send(bytes(64)),
    "one byte and an end": lambda end: (end.send(b"\x16"), end.finish()),
    "an alert": lambda end: end.send(bytes.fromhex("15030100020228")),
    "a warning, then an end": lambda end: (end.send(bytes.fromhex("15030100020100")), end.finish()),
    "application data": lambda end: end.send(bytes.fromhex("1703030004") + b"data"),
    "a record that is too long": lambda end: end.send(bytes.fromhex("160301ffff") + bytes(1000)),
    "an end at once": TlsEnd.finish,
    "a close at once": TlsEnd.close,
    "a reset at once": TlsEnd.reset,
}


@pytest.mark.parametrize("mess", MESSES)
@as_on_asyncio
async def test_a_client_raises_for_what_is_no_handshake(notes, tls, mess):
    await connects(notes, tls, MESSES[mess])


@pytest.mark.parametrize("mess", MESSES)
@as_on_asyncio
async def test_a_server_calls_no_protocol_for_what_is_no_handshake(notes, tls, mess):
    await serves(notes, tls, MESSES[mess])
    assert notes.names("server") == []


@pytest.mark.parametrize("ending", ["finish", "close", "reset"])
@as_on_asyncio
async def test_a_server_whose_client_goes_after_half_of_its_hello_calls_no_protocol(notes, tls, ending):
    def act(end):
        hello = end.hold()
        end.send(hello[: len(hello) // 2])
        getattr(end, ending)()

    await serves(notes, tls, act)
    assert notes.names("server") == []


@pytest.mark.parametrize("ending", ["finish", "close", "reset"])
@versions
@as_on_asyncio
async def test_a_client_whose_server_goes_in_the_middle_raises(notes, tls, version, ending):
    protocol = notes.plain("client")
    async with tls.connecting_tls(protocol, peer_context=server_of(maximum_version=version)) as (connecting, end):
        flight = await end.answer_held()
        end.send(flight[: len(flight) // 2])
        await quiet()
        getattr(end, ending)()
        await notes.outcome("client", connecting)
    assert notes.names("client") == ["raised"]


@pytest.mark.parametrize("ending", ["finish", "close", "reset"])
@as_on_asyncio
async def test_a_server_whose_client_goes_before_it_has_finished_calls_no_protocol(notes, tls, ending):
    protocol = notes.plain("server")
    async with tls.served(lambda: protocol, ssl=server_of(maximum_version=OLD)) as server:
        end = await tls.dial_tls(address_of(server))
        async with kept(end):
            end.step()
            flight = await end.answer_held()
            end.send(flight[: len(flight) // 2])
            await quiet()
            getattr(end, ending)()
            await quiet()
    assert notes.names("server") == []


# ---------------------------------------------------------------- time


@as_on_asyncio
async def test_a_client_whose_server_says_nothing_raises_after_the_handshake_timeout(notes, tls):
    end = await connects(notes, tls, lambda end: None, ssl_handshake_timeout=0.05)
    assert len(end.came) > 100


@as_on_asyncio
async def test_a_server_whose_client_says_nothing_drops_it_after_the_handshake_timeout(notes, tls):
    await serves(notes, tls, lambda end: None, ssl_handshake_timeout=0.05)
    assert notes.seen["peer"] == [["FIN"]]


@pytest.mark.parametrize("timeout", [0, -1, 0.0, -0.5])
@pytest.mark.parametrize("name", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
@as_on_asyncio
async def test_a_timeout_that_is_not_positive_is_refused(notes, tls, name, timeout):
    with collected():
        async with tls.listening() as (address, _):
            await notes.outcome("client", tls.connect_tls(notes.plain("client"), address, **{name: timeout}))
        await quiet()


# ---------------------------------------------------------------- debug mode

SOME = ("of another authority", "of another host", "no shared version")


@pytest.mark.parametrize("failure", SOME)
@as_on_asyncio(debug=True)
async def test_in_debug_mode_a_client_that_fails_logs_what_asyncio_logs(notes, tls, failure):
    server, client, name = FAILURES[failure]()
    await connects(notes, tls, TlsEnd.handshake, client, server, server_hostname=name)


@pytest.mark.parametrize("failure", ["no shared version", "no certificate of the client, TLS 1.2"])
@as_on_asyncio(debug=True)
async def test_in_debug_mode_a_server_whose_handshake_fails_logs_what_asyncio_logs(notes, tls, failure):
    server, client, _ = FAILURES[failure]()
    await serves(notes, tls, TlsEnd.handshake, server, client)


@pytest.mark.parametrize("mess", ["plain HTTP", "an end at once", "a reset at once"])
@as_on_asyncio(debug=True)
async def test_in_debug_mode_a_server_logs_what_is_no_handshake_as_asyncio_does(notes, tls, mess):
    await serves(notes, tls, MESSES[mess])


@as_on_asyncio(debug=True)
async def test_in_debug_mode_a_timeout_is_logged_as_asyncio_does(notes, tls):
    await connects(notes, tls, lambda end: None, ssl_handshake_timeout=0.05)
    await serves(notes, tls, lambda end: None, ssl_handshake_timeout=0.05)


# ---------------------------------------------------------------- what stays


@as_on_asyncio
async def test_handshakes_that_fail_leave_no_transport_that_is_not_closed(notes, tls):
    with unclosed(notes):
        for mess in ("plain HTTP", "an end at once", "a reset at once"):
            await serves(notes, tls, MESSES[mess])
            await connects(notes, tls, MESSES[mess])
        await connects(notes, tls, lambda end: None, ssl_handshake_timeout=0.05)


@pytest.mark.parametrize("steps", range(10))
@as_on_asyncio
async def test_a_client_that_is_cancelled_at_any_step_leaves_nothing(notes, tls, steps):
    """How far it had got by then is each loop's own."""
    protocol = Plain()
    async with tls.served(Plain, ssl=server_context()) as server:
        connecting = asyncio.ensure_future(tls.connect_tls(protocol, address_of(server)))
        for _ in range(steps):
            await asyncio.sleep(0)
        connecting.cancel()
        await asyncio.wait([connecting])
        if connecting.cancelled():
            assert "data_received" not in protocol.log
        else:
            protocol.transport.abort()
        await quiet()
    gc.collect()
