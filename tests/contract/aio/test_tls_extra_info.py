"""`get_extra_info` of a transport with TLS: every name, while it is open and afterwards, and what its SSLObject answers."""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest
from support.differential import as_on_asyncio, ssl_fields
from support.marks import mended_in_3_11
from support.tls import CA, CLIENT
from support.tls_end import quiet
from support.tls_peer import certified, versions
from support.tls_sides import OLD, SIDES, contexts, each_side

NAMES = ("sslcontext", "ssl_object", "peercert", "cipher", "compression", "socket", "peername", "sockname", "nothing")


def known(transport, names=NAMES):
    """What it says, by name: all that is not the same in two runs by its type."""
    return {name: transport.get_extra_info(name, "a default") for name in names if name not in ("peername", "sockname")}


@versions
@each_side
@as_on_asyncio
async def test_every_name_is_known_from_connection_made_on(notes, tls, side, version):
    ours, theirs = contexts(side, version)

    def made(protocol, transport):
        notes("made", known(transport))
        assert transport.get_extra_info("sslcontext") is ours
        assert type(transport.get_extra_info("ssl_object")) is ssl.SSLObject

    async with SIDES[side](tls, notes.plain("us", connection_made=made), ours, theirs) as (protocol, end):
        transport = protocol.transport
        notes("open", known(transport))
        sock = transport.get_extra_info("socket")
        assert transport.get_extra_info("sockname") == sock.getsockname() == end.sock.getpeername()
        assert transport.get_extra_info("peername") == sock.getpeername() == end.sock.getsockname()
        notes("socket", sock.family, sock.type, sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE))
        assert transport.get_extra_info("nothing") is None


@mended_in_3_11
@versions
@each_side
@as_on_asyncio
async def test_the_ssl_object_answers_for_the_connection(notes, tls, side, version):
    ours, theirs = contexts(side, version)
    for context in (ours, theirs):
        context.set_alpn_protocols(["old", "new"])
    async with SIDES[side](tls, notes.plain("us"), ours, theirs) as (protocol, end):
        found = protocol.transport.get_extra_info("ssl_object")
        notes("ssl_object", ssl_fields(found))
        assert found.context is ours
        assert found.version() == end.tls.version()
        assert found.cipher() == end.tls.cipher() == protocol.transport.get_extra_info("cipher")
        assert found.selected_alpn_protocol() == "old"
        assert found.getpeercert() == protocol.transport.get_extra_info("peercert")
        if version is OLD:
            assert found.get_channel_binding("tls-unique") == end.tls.get_channel_binding("tls-unique")
        notes("ssl_object", len(found.get_channel_binding("tls-unique") or b""))
        notes.raised("ssl_object", found.get_channel_binding, "tls-nothing")
        assert found.shared_ciphers() is None or found.server_side


@versions
@as_on_asyncio
async def test_a_server_that_asks_knows_its_clients_certificate(notes, tls, version):
    ours, theirs = contexts("accepted", version)
    ours.verify_mode = ssl.CERT_REQUIRED
    ours.load_verify_locations(cadata=CA.pem.decode())
    async with tls.accepted_tls(notes.plain("us"), ours, certified(theirs, CLIENT)) as (protocol, _):
        peercert = protocol.transport.get_extra_info("peercert")
        notes("peercert", peercert)
        assert dict(part for (part,) in peercert["subject"])["commonName"] == "client"
        assert protocol.transport.get_extra_info("ssl_object").getpeercert(True) == CLIENT.der


@each_side
@as_on_asyncio
async def test_a_context_that_verifies_nobody_knows_an_empty_certificate(notes, tls, side):
    ours, theirs = contexts(side)
    if side == "connected":
        ours.check_hostname = False
    ours.verify_mode = ssl.CERT_NONE
    async with SIDES[side](tls, notes.plain("us"), ours, theirs) as (protocol, _):
        notes("open", protocol.transport.get_extra_info("peercert"))
        notes("open", ssl_fields(protocol.transport.get_extra_info("ssl_object")))


ENDS = {
    "close": lambda protocol, end: protocol.transport.close(),
    "abort": lambda protocol, end: protocol.transport.abort(),
    "the peer's close_notify": lambda protocol, end: (end.say_goodbye(), end.finish()),
    "the peer's end": lambda protocol, end: end.finish(),
    "the peer's reset": lambda protocol, end: end.reset(),
}


@pytest.mark.parametrize("ending", ENDS)
@each_side
@as_on_asyncio
async def test_what_is_known_in_connection_lost_and_after_it(notes, tls, side, ending):
    """Names of the TCP connection are forgotten by asyncio with the transport below; ours keep them."""
    kept_names = ("sslcontext", "ssl_object", "peercert", "cipher", "compression", "nothing")

    def lost(protocol, error):
        notes("in connection_lost", known(protocol.transport, kept_names))

    async with SIDES[side](tls, notes.plain("us", connection_lost=lost)) as (protocol, end):
        transport = protocol.transport
        before = {name: transport.get_extra_info(name) for name in kept_names}
        ENDS[ending](protocol, end)
        await protocol.called("connection_lost")
        await quiet()
        assert {name: transport.get_extra_info(name) for name in kept_names} == before
        notes("after", ssl_fields(transport.get_extra_info("ssl_object")))
        notes("after", transport.is_closing())


@each_side
@as_on_asyncio
async def test_a_protocol_that_is_asked_for_is_the_one_that_was_set(notes, tls, side):
    async with SIDES[side](tls, notes.plain("us")) as (protocol, _):
        assert protocol.transport.get_protocol() is protocol
        other = notes.plain("other")
        protocol.transport.set_protocol(other)
        assert protocol.transport.get_protocol() is other
        protocol.transport.set_protocol(protocol)
        assert isinstance(protocol.transport, asyncio.Transport)
