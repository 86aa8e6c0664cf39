"""[A7] The context variables that a protocol's methods see: those of where its connection, or its server, was made."""

from __future__ import annotations

import asyncio
import contextvars

from support.coroutines import read_exactly
from support.protocols import Buffered, Plain, on_ours, on_ours_and_asyncio
from support.streams import address_of, arrives, ends, send

place = contextvars.ContextVar("place", default="nowhere")

PLAIN = ("connection_made", "data_received", "pause_writing", "resume_writing", "eof_received", "connection_lost")


class Places:
    """What each method saw, by its name."""

    def __init__(self, names):
        self.seen = {}
        self.answers = {name: self._noting(name) for name in names}

    def _noting(self, name):
        def note(protocol, *args):
            self.seen.setdefault(name, place.get())
            return protocol.memory if name == "get_buffer" else None

        return note


async def whole_life(protocol, peer):
    """Every method that a protocol has is called."""
    await send(peer, b"x")
    await protocol.until(lambda: protocol.data)
    protocol.transport.write(bytes(8_000_000))
    await read_exactly(peer, 8_000_000)
    await protocol.called("resume_writing")
    peer.shutdown(1)
    await protocol.called("connection_lost")
    await ends(peer)


@on_ours_and_asyncio
async def test_a_servers_connections_are_called_in_the_context_in_which_it_began_to_serve(streams):
    places = Places(PLAIN)
    protocol = Plain(**places.answers)
    place.set("server")
    server = await streams.server(lambda: protocol)
    place.set("client")
    with await streams.dial(address_of(server)) as peer:
        await protocol.called("connection_made")
        await whole_life(protocol, peer)
    server.close()
    for name in ("connection_made", "data_received", "eof_received"):
        assert places.seen[name] == "server"


@on_ours_and_asyncio
async def test_a_connection_is_called_in_the_context_in_which_it_was_made(streams):
    places = Places(PLAIN)
    with streams.bound() as listening:
        listening.listen()
        listening.setblocking(False)
        place.set("made")
        _, protocol = await streams.connect(lambda: Plain(**places.answers), listening.getsockname())
        place.set("later")
        peer = listening.accept()[0]
    peer.setblocking(False)
    with peer:
        await whole_life(protocol, peer)
    for name in ("connection_made", "data_received", "eof_received"):
        assert places.seen[name] == "made"


@on_ours
async def test_every_method_of_a_connection_is_called_in_the_context_in_which_it_was_made(streams):
    """Here asyncio's own loop calls `resume_writing` and `connection_lost` in that of who wrote or closed."""
    places = Places(PLAIN)
    one, peer = streams.sockets()
    place.set("made")
    _, protocol = await asyncio.get_running_loop().connect_accepted_socket(lambda: Plain(**places.answers), one)
    place.set("later")
    with peer:
        await whole_life(protocol, peer)
    assert places.seen == dict.fromkeys(PLAIN, "made")


@on_ours_and_asyncio
async def test_a_buffered_protocol_is_called_in_the_context_in_which_its_connection_was_made(streams):
    places = Places(["get_buffer", "buffer_updated"])
    one, peer = streams.sockets()
    place.set("made")
    _, protocol = await asyncio.get_running_loop().connect_accepted_socket(lambda: Buffered(**places.answers), one)
    place.set("later")
    with peer:
        await arrives(peer, protocol)
        protocol.transport.close()
        await protocol.called("connection_lost")
    assert places.seen == {"get_buffer": "made", "buffer_updated": "made"}


@on_ours_and_asyncio
async def test_what_a_protocol_sets_in_its_context_is_seen_by_no_other_connection(streams):
    seen = []

    def noted(protocol, *args):
        seen.append(place.get())
        place.set("changed")

    def protocol():
        return Plain(connection_made=noted)

    async with streams.served(protocol) as server:
        for _ in range(3):
            transport, connected = await streams.connect(Plain, address_of(server))
            transport.write(b"x")
            transport.close()
            await connected.called("connection_lost")
    assert seen == ["nowhere"] * 3
    assert place.get() == "nowhere"


@on_ours_and_asyncio
async def test_what_data_received_sets_is_seen_by_the_next_one(streams):
    seen = []

    def noted(protocol, data):
        seen.append(place.get())
        place.set(data)

    async with streams.accepted(Plain(data_received=noted)) as (accepted, peer):
        for data in (b"1", b"2", b"3"):
            await send(peer, data)
            await accepted.until(lambda wanted=data: accepted.data.endswith(wanted))
    assert seen == ["nowhere", b"1", b"2"]


@on_ours_and_asyncio
async def test_a_factory_is_called_in_the_context_in_which_its_server_began_to_serve(streams):
    seen = []

    def factory():
        seen.append(place.get())
        return Plain()

    place.set("server")
    async with streams.served(factory) as server:
        place.set("client")
        transport, connected = await streams.connect(Plain, address_of(server))
        transport.close()
        await connected.called("connection_lost")
    assert seen == ["server"]
