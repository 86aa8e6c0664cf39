"""A user's own SSLContext works as it is: its callbacks, key log, ALPN, verification, tickets, sessions, subclasses."""

from __future__ import annotations

import asyncio
import ssl
import sys

import pytest
from support.differential import as_on_asyncio, ssl_fields
from support.streams import address_of, collected
from support.tls import CA, CLIENT, CRL, PASSPHRASE, REVOKED_CLIENT, SERVER, STRANGE_SERVER
from support.tls_end import TlsEnd, kept, quiet
from support.tls_peer import certified, client_context, server_context, versions
from support.tls_records import records
from support.tls_sides import OLD, SIDES, contexts, each_side, greeted, serves

from pybuntcp.tls.memory_file import memory_path

# ---------------------------------------------------------------- the name that a client asks for


@as_on_asyncio
async def test_an_sni_callback_sees_the_object_the_name_and_the_context(notes, tls):
    ours = server_context()

    def asked(sslobject, name, context):
        notes("sni", type(sslobject).__name__, name, context is ours, sslobject.version())

    ours.sni_callback = asked
    async with tls.accepted_tls(notes.plain("server"), ours) as (protocol, end):
        await greeted(protocol, end)
    assert notes.seen["sni"][0][1] == "localhost"


@as_on_asyncio
async def test_an_sni_callback_gives_the_connection_another_context(notes, tls):
    first, other = certified(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), STRANGE_SERVER), server_context()

    def asked(sslobject, name, context):
        sslobject.context = other

    first.sni_callback = asked
    async with tls.accepted_tls(notes.plain("server"), first) as (protocol, end):
        await greeted(protocol, end)
        found = protocol.transport.get_extra_info("ssl_object")
        assert found.context is other
        assert protocol.transport.get_extra_info("sslcontext") is first
        assert end.tls.getpeercert(True) == SERVER.der


@pytest.mark.parametrize("answer", [ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME, ssl.ALERT_DESCRIPTION_ACCESS_DENIED])
@as_on_asyncio
async def test_an_sni_callback_refuses_with_an_alert(notes, tls, answer):
    ours = server_context()
    ours.sni_callback = lambda sslobject, name, context: answer
    await serves(notes, tls, TlsEnd.handshake, ours)
    assert "server" not in notes.seen


@as_on_asyncio
async def test_an_sni_callback_that_raises_fails_the_handshake(notes, tls):
    """The exception itself is unraisable: it goes to `sys.unraisablehook`."""
    ours, unraisable = server_context(), []

    def asked(sslobject, name, context):
        raise ValueError("from the callback")

    ours.sni_callback = asked
    hook, sys.unraisablehook = sys.unraisablehook, lambda args: unraisable.append(args.exc_value)
    try:
        await serves(notes, tls, TlsEnd.handshake, ours)
    finally:
        sys.unraisablehook = hook
    notes("unraisable", *unraisable)
    assert len(unraisable) == 1


# ---------------------------------------------------------------- what it says of a connection


@each_side
@as_on_asyncio
async def test_keys_are_logged(notes, tls, side, tmp_path):
    ours, theirs = contexts(side)
    ours.keylog_filename = str(tmp_path / "keys")
    async with SIDES[side](tls, notes.plain("us"), ours, theirs) as (protocol, end):
        await greeted(protocol, end)
    labels = {line.split()[0] for line in (tmp_path / "keys").read_text().splitlines() if not line.startswith("#")}
    assert {"CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"} <= labels
    ours.keylog_filename = None


@each_side
@as_on_asyncio
async def test_a_message_callback_sees_the_messages(notes, tls, side):
    ours, theirs = contexts(side)
    seen = []
    ours._msg_callback = lambda conn, direction, version, content, message, data: seen.append((direction, message.name))
    async with SIDES[side](tls, notes.plain("us"), ours, theirs) as (protocol, end):
        await greeted(protocol, end)
    notes("messages", *sorted({f"{direction} {name}" for direction, name in seen}))
    assert ("read", "FINISHED") in seen
    ours._msg_callback = None


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(["h2", "http/1.1"], ["http/1.1"]), (["h2"], ["http/1.1"]), ([], ["h2"]), (["h2"], [])],
    ids=["one", "none", "not ours", "not theirs"],
)
@each_side
@as_on_asyncio
async def test_alpn_is_what_both_have(notes, tls, side, ours, theirs):
    our_context, their_context = contexts(side)
    if ours:
        our_context.set_alpn_protocols(ours)
    if theirs:
        their_context.set_alpn_protocols(theirs)
    async with SIDES[side](tls, notes.plain("us"), our_context, their_context) as (protocol, end):
        await greeted(protocol, end)
        chosen = protocol.transport.get_extra_info("ssl_object").selected_alpn_protocol()
        notes("chosen", chosen)
        assert chosen == end.tls.selected_alpn_protocol()


@pytest.mark.parametrize("verify", [ssl.CERT_NONE, ssl.CERT_OPTIONAL, ssl.CERT_REQUIRED])
@pytest.mark.parametrize("has", [False, True], ids=["without", "with"])
@as_on_asyncio
async def test_each_verify_mode_of_a_server_does_what_it_says(notes, tls, verify, has):
    ours, theirs = contexts("accepted", OLD)
    ours.verify_mode = verify
    ours.load_verify_locations(cadata=CA.pem.decode())
    if has:
        certified(theirs, CLIENT)
    protocol = notes.plain("server")
    async with tls.served(lambda: protocol, ssl=ours) as server:
        end = (await tls.dial_tls(address_of(server), theirs)).handshake()
        async with kept(end, protocol):
            await end.until(lambda: end.secured or end.over)
            await quiet()
            if protocol.transport is not None:
                notes("server", protocol.transport.get_extra_info("peercert"))
    assert (notes.names("server")[:1] == ["connection_made"]) is (has or verify != ssl.CERT_REQUIRED)


@as_on_asyncio
async def test_a_list_of_revoked_certificates_is_heeded(notes, tls):
    ours, theirs = contexts("accepted", OLD)
    ours.verify_mode = ssl.CERT_REQUIRED
    ours.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    ours.load_verify_locations(cadata=CA.pem.decode())
    with memory_path(CRL) as path:
        ours.load_verify_locations(path)
    await serves(notes, tls, TlsEnd.handshake, ours, certified(theirs, REVOKED_CLIENT))
    assert "server" not in notes.seen


@as_on_asyncio
async def test_a_key_with_a_passphrase_serves(notes, tls):
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with memory_path(SERVER.cert) as cert, memory_path(SERVER.encrypted_key(PASSPHRASE)) as key:
        ours.load_cert_chain(cert, key, PASSPHRASE)
    async with tls.accepted_tls(notes.plain("server"), ours) as (protocol, end):
        await greeted(protocol, end)


# ---------------------------------------------------------------- sessions


@pytest.mark.parametrize("tickets", [0, 1, 2, 5])
@as_on_asyncio
async def test_a_server_sends_as_many_tickets_as_its_context_says(notes, tls, tickets):
    """They are the records that the peer receives after its own Finished."""
    ours = server_context()
    ours.num_tickets = tickets
    protocol = notes.plain("server")
    async with tls.served(lambda: protocol, ssl=ours) as server:
        end = await tls.dial_tls(address_of(server))
        async with kept(end, protocol):
            finished = await end.finished_held()
            before = len(end.came)
            end.send(finished)
            await protocol.called("connection_made")
            await quiet()
            assert len(records(bytes(end.came[before:]))) == tickets
            notes("tickets", tickets, end.tls.session is not None)


@versions
@as_on_asyncio
async def test_a_client_of_the_same_session_is_told_that_it_is_reused(notes, tls, version):
    ours, theirs = contexts("accepted", version)
    ours.num_tickets = 2
    session = None
    for reused in (False, True):
        async with tls.accepted_tls(notes.plain("server"), ours, theirs, peer={"session": session}) as (protocol, end):
            await greeted(protocol, end)
            found = protocol.transport.get_extra_info("ssl_object")
            assert found.session_reused is reused is end.tls.session_reused
            session = end.tls.session
            notes("statistics", ours.session_stats())


@as_on_asyncio
async def test_the_session_of_a_client_is_that_of_its_object(notes, tls):
    ours, theirs = contexts("connected")
    theirs.num_tickets = 2
    async with tls.connected_tls(notes.plain("client"), ours, theirs) as (protocol, end):
        await greeted(protocol, end)
        session = protocol.transport.get_extra_info("ssl_object").session
        notes("session", type(session).__name__, session.has_ticket, len(session.id))


# ---------------------------------------------------------------- subclasses


class Counting(ssl.SSLContext):
    """A user's subclass, which hands out objects of its own."""

    wrapped = 0

    def wrap_bio(self, *args, **options):
        self.wrapped += 1
        self.options_seen = sorted(options)
        return super().wrap_bio(*args, **options)


class Own(ssl.SSLObject):
    """What `sslobject_class` makes."""


@each_side
@as_on_asyncio
async def test_the_object_is_of_the_contexts_own_class(notes, tls, side):
    ours = server_context() if side == "accepted" else client_context()
    ours.sslobject_class = Own
    async with SIDES[side](tls, notes.plain("us"), ours) as (protocol, end):
        await greeted(protocol, end)
        notes("object", ssl_fields(protocol.transport.get_extra_info("ssl_object")))
        assert type(protocol.transport.get_extra_info("ssl_object")) is Own


@each_side
@as_on_asyncio
async def test_a_subclass_of_sslcontext_is_asked_for_its_object_once(notes, tls, side):
    if side == "accepted":
        ours = certified(Counting(ssl.PROTOCOL_TLS_SERVER))
    else:
        ours = Counting(ssl.PROTOCOL_TLS_CLIENT)
        ours.load_verify_locations(cadata=CA.pem.decode())
    async with SIDES[side](tls, notes.plain("us"), ours) as (protocol, end):
        await greeted(protocol, end)
        assert protocol.transport.get_extra_info("sslcontext") is ours
    assert ours.wrapped == 1
    notes("subclass", ours.options_seen)


class Refusing(ssl.SSLContext):
    def wrap_bio(self, *args, **options):
        raise ZeroDivisionError("of a subclass")


@as_on_asyncio
async def test_a_subclass_that_raises_fails_the_connection_with_that(notes, tls):
    ours = Refusing(ssl.PROTOCOL_TLS_CLIENT)
    with collected():
        async with tls.served(asyncio.Protocol) as server:
            options = {"ssl": ours, "server_hostname": "localhost"}
            await notes.outcome("client", tls.connect(lambda: notes.plain("client"), address_of(server), **options))
            await quiet()
    assert notes.names("client") == ["raised"]


@as_on_asyncio
async def test_a_subclass_of_a_server_that_raises_is_reported_and_the_server_goes_on(notes, tls):
    ours = Refusing(ssl.PROTOCOL_TLS_SERVER)
    with collected():
        async with tls.served(lambda: notes.plain("server"), ssl=ours) as server:
            for _ in range(2):
                end = (await tls.dial_tls(address_of(server))).handshake()
                async with kept(end):
                    await quiet()
                    notes("serving", server.is_serving())
    assert "server" not in notes.seen


@as_on_asyncio
async def test_a_context_that_changes_changes_the_next_connection_alone(notes, tls):
    ours, theirs = server_context(), client_context()
    protocols = [notes.plain("first"), notes.plain("second")]
    made = iter(protocols)
    async with tls.served(lambda: next(made), ssl=ours) as server:
        found = []
        for protocol in protocols:
            end = (await tls.dial_tls(address_of(server), theirs)).handshake()
            async with kept(end, protocol):
                await protocol.called("connection_made")
                await greeted(protocol, end)
                found.append(protocol.transport.get_extra_info("ssl_object").version())
            ours.maximum_version = OLD
    assert found == ["TLSv1.3", "TLSv1.2"]
    notes("versions", found)
