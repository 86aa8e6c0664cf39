"""Records of a peer that no library sends: byte by byte, many in a segment, empty ones, keys that change, in a protocol's calls."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import pytest
from support.differential import as_on_asyncio
from support.kernel import pattern
from support.streams import address_of
from support.tls_end import kept, quiet
from support.tls_peer import client_context, server_context, versions
from support.tls_records import (
    ALERT,
    DATA,
    HANDSHAKE,
    KEY_UPDATE_NOT_REQUESTED,
    KEY_UPDATE_REQUESTED,
    TICKET,
    Sealer,
    alert,
    keylog,
    record,
    records,
)
from support.tls_sides import NEW, OLD, SIDES, contexts, each_side


@contextlib.asynccontextmanager
async def sealing(notes, tls, side, version=NEW, **answers):
    """A connection whose peer sends records made by hand from now on: protocol, peer, sealer."""
    ours, theirs = contexts(side, version)
    for context in (ours, theirs):
        context.options |= ssl.OP_NO_TICKET  # a ticket of TLS 1.2 is no message of a Sealer's
    with keylog(theirs) as keys:
        async with SIDES[side](tls, notes.plain("us", **answers), ours, theirs) as (protocol, end):
            yield protocol, end, Sealer(end, keys)


async def byte_by_byte(end, data):
    for at in range(len(data)):
        end.send(data[at : at + 1])
        await quiet(2)


# ---------------------------------------------------------------- pieces


@each_side
@as_on_asyncio
async def test_records_that_come_byte_by_byte(notes, tls, side):
    async with SIDES[side](tls, notes.plain("us")) as (protocol, end):
        await byte_by_byte(end, end.seal(b"one ") + end.seal(b"two ") + end.seal(b"three"))
        await protocol.received(b"one two three")
        await byte_by_byte(end, end.goodbye_held())
        await protocol.called("connection_lost")
        await end.is_over()
    notes("peer", *end.over)


@versions
@as_on_asyncio
async def test_a_handshake_that_comes_byte_by_byte(notes, tls, version):
    protocol = notes.plain("server")
    async with tls.served(lambda: protocol, ssl=server_context(version)) as server:
        end = await tls.dial_tls(address_of(server), client_context(version))
        async with kept(end, protocol):
            await byte_by_byte(end, end.hold())
            if version is OLD:
                await byte_by_byte(end, await end.answer_held())
                end.listen()
            else:
                flight = await end.answer_held()
                end.listen()
                await byte_by_byte(end, flight)
            await protocol.called("connection_made")
            end.step()
            await end.is_secured()
            end.write(b"hello")
            await protocol.received(b"hello")


@each_side
@as_on_asyncio
async def test_each_cut_between_two_records(notes, tls, side):
    async with SIDES[side](tls, notes.plain("us")) as (protocol, end):
        expected = b""
        for cut in range(1, 52):
            sealed = end.seal(b"one ") + end.seal(b"two ")
            expected += b"one two "
            end.send(sealed[:cut])
            await quiet(2)
            end.send(sealed[cut:])
            await protocol.received(expected)


@pytest.mark.parametrize("count", [2, 50, 500])
@each_side
@as_on_asyncio
async def test_many_records_in_one_segment(notes, tls, side, count):
    async with SIDES[side](tls, notes.plain("us")) as (protocol, end):
        words = [b"%d, " % number for number in range(count)]
        end.send(b"".join(end.seal(word) for word in words))
        await protocol.received(b"".join(words))
        notes("us", "calls", protocol.log.count("data_received") < count)


@each_side
@as_on_asyncio
async def test_a_flood_of_records_of_one_byte(notes, tls, side):
    async with SIDES[side](tls, notes.plain("us")) as (protocol, end):
        data = pattern(6000)
        end.send(b"".join(end.seal(data[at : at + 1]) for at in range(len(data))))
        await protocol.received(data)


@each_side
@as_on_asyncio
async def test_a_record_and_a_half_then_the_rest(notes, tls, side):
    async with SIDES[side](tls, notes.plain("us")) as (protocol, end):
        first, second = end.seal(b"first"), end.seal(b"second")
        end.send(first + second[:10])
        await protocol.received(b"first")
        await quiet()
        notes("us", "waits", bytes(protocol.data))
        end.send(second[10:])
        await protocol.received(b"firstsecond")


@each_side
@as_on_asyncio
async def test_the_largest_records_in_one_burst(notes, tls, side):
    async with SIDES[side](tls, notes.plain("us")) as (protocol, end):
        end.send(b"".join(end.seal(pattern(16384)) for _ in range(20)))
        await protocol.received(pattern(16384) * 20)


# ---------------------------------------------------------------- records without data


@versions
@each_side
@as_on_asyncio
async def test_empty_records_are_no_call(notes, tls, side, version):
    async with sealing(notes, tls, side, version) as (protocol, end, sealer):
        end.send(sealer.seal(b""))
        await quiet()
        assert "data_received" not in protocol.log
        end.send(sealer.seal(b"") + sealer.seal(b"data") + sealer.seal(b""))
        await protocol.received(b"data")


@each_side
@as_on_asyncio
async def test_padding_is_not_data(notes, tls, side):
    async with sealing(notes, tls, side) as (protocol, end, sealer):
        end.send(sealer.seal(b"", padding=100) + sealer.seal(b"data", padding=1000))
        await protocol.received(b"data")


@each_side
@as_on_asyncio
async def test_too_many_empty_records_are_treated_as_by_asyncio(notes, tls, side):
    """OpenSSL counts them, and calls 33 in a row an error."""
    async with sealing(notes, tls, side) as (protocol, end, sealer):
        end.send(b"".join(sealer.seal(b"") for _ in range(40)) + sealer.seal(b"after"))
        await quiet()
        notes("us", "state", protocol.transport.is_closing(), bytes(protocol.data))
        if protocol.transport.is_closing():
            await protocol.called("connection_lost")


# ---------------------------------------------------------------- messages behind the handshake


@each_side
@as_on_asyncio
async def test_a_key_update_that_is_not_to_be_answered(notes, tls, side):
    async with sealing(notes, tls, side) as (protocol, end, sealer):
        end.send(sealer.seal(b"before ") + sealer.message(KEY_UPDATE_NOT_REQUESTED))
        sealer.update_keys()
        end.send(sealer.seal(b"after"))
        await protocol.received(b"before after")
        protocol.transport.write(b"answer")
        await end.received(b"answer")


@each_side
@as_on_asyncio
async def test_a_key_update_is_answered_when_something_is_written(notes, tls, side):
    async with sealing(notes, tls, side) as (protocol, end, sealer):
        end.send(sealer.message(KEY_UPDATE_REQUESTED))
        sealer.update_keys()
        end.send(sealer.seal(b"ping"))
        await protocol.received(b"ping")
        protocol.transport.write(b"pong")
        await end.received(b"pong")
        notes("peer", bytes(end.data))


@each_side
@as_on_asyncio
async def test_key_updates_between_all_records(notes, tls, side):
    async with sealing(notes, tls, side) as (protocol, end, sealer):
        sent = b""
        for number in range(20):
            sent += b"%d, " % number
            end.send(sealer.seal(b"%d, " % number) + sealer.key_update())
        await protocol.received(sent)
        protocol.transport.write(b"still here")
        await end.received(b"still here")


@as_on_asyncio
async def test_a_ticket_between_two_records_is_no_data(notes, tls):
    async with sealing(notes, tls, "connected") as (protocol, end, sealer):
        end.send(sealer.seal(b"one ") + sealer.message(TICKET) + sealer.seal(b"two"))
        await protocol.received(b"one two")


# ---------------------------------------------------------------- what is wrong


def changed(sealed):
    """The last byte is another."""
    return sealed[:-1] + bytes([sealed[-1] ^ 1])


WRONG = {
    "a fatal alert": lambda sealer: sealer.fatal_alert(),
    "data, then a fatal alert": lambda sealer: sealer.seal(b"data") + sealer.fatal_alert(),
    "an alert in plain text": lambda sealer: alert(40),
    "data in plain text": lambda sealer: record(DATA, b"plain text, as if sealed"),
    "a handshake message nobody knows": lambda sealer: sealer.message(bytes.fromhex("63000000")),
    "a client hello": lambda sealer: sealer.message(bytes.fromhex("01000000")),
    "a type nobody knows": lambda sealer: record(99, b"what is this"),
    "a record that is too long": lambda sealer: record(DATA, bytes(20_000)),
    "data, then a record that was changed": lambda sealer: sealer.seal(b"data") + changed(sealer.seal(b"other")),
    "an alert of one byte": lambda sealer: sealer.seal(b"\1", ALERT),
    "user cancelled, then goodbye": lambda sealer: sealer.seal(b"\1\x5a", ALERT) + sealer.close_notify(),
    "half a message, then data": lambda sealer: sealer.seal(b"\x18\0\0", HANDSHAKE) + sealer.seal(b"data"),
}


# that end is a truncation to `ssl` since OpenSSL 3.2; ours goes by the goodbye: tests/contract/tls/test_odd_records.py
AS_IN_ASYNCIO = [wrong for wrong in WRONG if "goodbye" not in wrong or ssl.OPENSSL_VERSION_INFO < (3, 2)]


@pytest.mark.parametrize("wrong", AS_IN_ASYNCIO)
@each_side
@as_on_asyncio
async def test_what_is_wrong_ends_a_connection_as_in_asyncio(notes, tls, side, wrong):
    notes.leave_out("data_received")  # what came before it: asyncio drops it
    async with sealing(notes, tls, side) as (protocol, end, sealer):
        end.polite = False
        end.send(WRONG[wrong](sealer))
        await protocol.called("connection_lost")
        await end.is_over()
        await quiet()
    notes("peer", *end.over)


@pytest.mark.parametrize("wrong", ["a fatal alert", "data in plain text", "data, then a record that was changed"])
@as_on_asyncio(debug=True)
async def test_in_debug_mode_what_is_wrong_is_logged_as_by_asyncio(notes, tls, wrong):
    notes.leave_out("data_received")
    async with sealing(notes, tls, "accepted") as (protocol, end, sealer):
        end.polite = False
        end.send(WRONG[wrong](sealer))
        await protocol.called("connection_lost")
        await end.is_over()
        await quiet()


# ---------------------------------------------------------------- what we send


@each_side
@as_on_asyncio
async def test_each_record_is_one_that_the_peer_can_open_alone(notes, tls, side):
    """How writes are cut into records is each loop's own; none is longer than the protocol allows."""
    async with SIDES[side](tls, notes.plain("us")) as (protocol, end):
        before = len(end.came)
        protocol.transport.write(pattern(100_000))
        await end.received(pattern(100_000))
        found = records(bytes(end.came[before:]))
        assert {kind for kind, _ in found} == {DATA}
        assert max(len(content) for _, content in found) <= 16384 + 256
        notes("records", sum(len(content) for _, content in found) > 100_000)


@as_on_asyncio
async def test_a_client_says_the_same_hello(notes, tls):
    """Its extensions, by their numbers, in order."""
    async with tls.connecting_tls(notes.plain("us"), ssl_handshake_timeout=5) as (connecting, end):
        hello = await asyncio.get_running_loop().sock_recv(end.sock, 1 << 16)
        notes("hello", len(hello), extensions(hello))
        end.close()
        await asyncio.wait([connecting])
        notes("us", connecting.exception())


def extensions(hello):
    """The numbers of a client's hello (RFC 8446, section 4.1.2)."""
    at = 5 + 4 + 2 + 32
    at += 1 + hello[at]
    at += 2 + int.from_bytes(hello[at : at + 2], "big")
    at += 1 + hello[at]
    at, found = at + 2, []
    while at < len(hello):
        found.append(int.from_bytes(hello[at : at + 2], "big"))
        at += 4 + int.from_bytes(hello[at + 2 : at + 4], "big")
    return found
