"""What protocols do in their methods over TLS: exceptions, and the contexts in which they are called."""

from __future__ import annotations

import asyncio
import contextvars
import itertools

import pytest
from support.asyncio_loops import open_host
from support.coroutines import turns
from support.differential import as_on_asyncio, since_3_11
from support.handlers import Boom
from support.marks import mended_in_3_11
from support.protocols import Plain, host_is_ours_or_asyncio
from support.streams import address_of, collected
from support.tls_end import TlsEnd, kept, quiet
from support.tls_peer import client_context, server_context
from support.tls_sides import SIDES, each_side

place = contextvars.ContextVar("place", default="nowhere")


def boom(*args):
    raise Boom("from a protocol")


def oserror(*args):
    raise TimeoutError("of the protocol's own")


# ---------------------------------------------------------------- exceptions

STIMULI = {
    "data_received": lambda end: end.write(b"x"),
    "eof_received": lambda end: (end.say_goodbye(), end.finish()),
}


@pytest.mark.parametrize("error", [boom, oserror])
@pytest.mark.parametrize("method", STIMULI)
@each_side
@as_on_asyncio
async def test_an_exception_in_a_method_is_reported_and_ends_the_connection(notes, tls, side, method, error):
    async with SIDES[side](tls, notes.plain("us", **{method: error})) as (protocol, end):
        STIMULI[method](end)
        await protocol.called("connection_lost")
        await end.is_over()
        await quiet()
    notes("peer", *end.over)


@pytest.mark.parametrize("error", [boom, oserror])
@pytest.mark.parametrize("method", ["get_buffer", "buffer_updated"])
@as_on_asyncio
async def test_an_exception_of_a_buffered_protocol_is_reported_and_ends_the_connection(notes, tls, method, error):
    async with tls.accepted_tls(notes.buffered("us", **{method: error})) as (protocol, end):
        end.write(b"x")
        await protocol.called("connection_lost")
        await end.is_over()
    notes("peer", *end.over)


@pytest.mark.parametrize("method", ["data_received", "buffer_updated"])
@as_on_asyncio
async def test_what_was_written_before_an_exception_arrives(notes, tls, method):
    def write_and_raise(protocol, *args):
        protocol.transport.write(b"last words")
        raise Boom("after writing")

    make = notes.plain if method == "data_received" else notes.buffered
    async with tls.accepted_tls(make("us", **{method: write_and_raise})) as (protocol, end):
        end.write(b"x")
        await protocol.called("connection_lost")
        await end.is_over()
    notes("peer", bytes(end.data), *end.over)


@pytest.mark.parametrize("thing", [None, 5], ids=str)  # an empty buffer is the peer's end to asyncio
@as_on_asyncio
async def test_a_get_buffer_that_gives_nothing_to_fill_is_reported(notes, tls, thing):
    class Giving(asyncio.BufferedProtocol):
        transport = None
        log = ("connection_lost",)

        def connection_made(self, transport):
            self.transport = transport

        def get_buffer(self, sizehint):
            return thing

        def buffer_updated(self, nbytes):
            notes("us", "buffer_updated", nbytes)

        def eof_received(self):
            notes("us", "eof_received")

        def connection_lost(self, error):
            notes("us", "connection_lost", error)
            lost.set_result(None)

    lost, protocol = asyncio.get_running_loop().create_future(), Giving()
    async with tls.served(lambda: protocol, ssl=server_context()) as server:
        end = (await tls.dial_tls(address_of(server))).handshake()
        async with kept(end):
            await end.is_secured()
            end.write(b"x")
            await lost


@each_side
@as_on_asyncio
async def test_an_exception_in_connection_lost_is_reported(notes, tls, side):
    async with SIDES[side](tls, notes.plain("us", connection_lost=boom)) as (protocol, end):
        protocol.transport.close()
        await protocol.called("connection_lost")
        await end.is_over()
        await quiet()
    assert len(notes.reports) == 1


@mended_in_3_11
@as_on_asyncio
async def test_an_exception_in_connection_made_of_a_server(notes, tls):
    protocol = notes.plain("us", connection_made=boom)
    with collected():
        async with tls.served(lambda: protocol, ssl=server_context()) as server:
            end = (await tls.dial_tls(address_of(server))).handshake()
            async with kept(end):
                await protocol.called("connection_made")
                await quiet()
                notes("peer", *end.over)
                protocol.transport.abort()
                await quiet()


@mended_in_3_11
@as_on_asyncio
async def test_an_exception_in_connection_made_of_a_client(notes, tls):
    protocol = notes.plain("us", connection_made=boom)
    with collected():
        async with tls.listening() as (address, accept):
            connecting = asyncio.ensure_future(
                tls.connect(
                    lambda: protocol,
                    address,
                    ssl=client_context(),
                    server_hostname="localhost",
                    ssl_handshake_timeout=0.5,
                )
            )
            end = TlsEnd(await accept(connecting), server_context(), server=True).listen()
            async with kept(end):
                await protocol.called("connection_made")
                await quiet()
                notes("us", "done", connecting.done(), *end.over)
                protocol.transport.abort()
                await asyncio.wait([connecting])
                notes("us", "outcome", connecting.exception())


@as_on_asyncio
async def test_a_servers_factory_that_raises_closes_that_connection(notes, tls):
    with collected():
        async with tls.served(boom, ssl=server_context()) as server:
            for _ in range(2):
                end = (await tls.dial_tls(address_of(server))).handshake()
                async with kept(end):
                    await end.is_over()
                    await quiet()
                    notes("peer", *end.over)


@as_on_asyncio(debug=True)
async def test_in_debug_mode_a_factory_that_raises_is_reported(notes, tls):
    with collected():
        async with tls.served(boom, ssl=server_context()) as server:
            end = (await tls.dial_tls(address_of(server))).handshake()
            async with kept(end):
                await quiet(30)  # asyncio leaves the socket to the garbage collector then


# ---------------------------------------------------------------- what ends the program


@host_is_ours_or_asyncio
@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("method", ["data_received", pytest.param("eof_received", marks=since_3_11), "connection_lost"])
def test_an_exit_that_a_protocol_raises_comes_out_of_the_loop(host, tls, method, leaving):
    """And the loop can run again, where the connection is ended."""
    first = itertools.count()

    def leave(*args):
        if next(first) == 0:
            raise leaving("of a protocol")

    protocol = Plain(**{method: leave})

    async def scenario():
        async with tls.served(lambda: protocol, ssl=server_context()) as server:
            end = (await tls.dial_tls(address_of(server))).handshake()
            ends.append(end)
            await protocol.called("connection_made")
        await end.is_secured()
        end.write(b"x")
        await protocol.called("data_received")
        end.say_goodbye()
        end.finish()
        await asyncio.sleep(60)

    async def after():
        ends[0].close()
        protocol.transport.abort()
        await turns(20)

    ends = []
    with open_host(host) as loop, collected():
        task = loop.create_task(scenario())
        with pytest.raises(leaving, match="of a protocol"):
            loop.run_until_complete(task)
        loop.run_until_complete(after())
        task.cancel()
        with pytest.raises((asyncio.CancelledError, leaving)):
            loop.run_until_complete(task)


# ---------------------------------------------------------------- contexts

METHODS = ("connection_made", "data_received", "eof_received", "connection_lost")


def placing(notes):
    """Each method notes the place in which it is called, the first time."""
    seen = set()

    def noting(name):
        def note(protocol, *args):
            if name not in seen:
                seen.add(name)
                notes("places", name, place.get())

        return note

    return {name: noting(name) for name in METHODS}


async def lives(protocol, end):
    """A connection that is made is used, and ended by the peer."""
    await end.is_secured()
    end.write(b"x")
    await protocol.received(b"x")
    end.say_goodbye()
    end.finish()
    await protocol.called("connection_lost")


@as_on_asyncio
async def test_a_servers_connections_are_called_in_the_context_in_which_it_began_to_serve(notes, tls):
    protocol = notes.plain("us", **placing(notes))
    place.set("server")
    server = await tls.server(lambda: protocol, ssl=server_context())
    place.set("client")
    end = (await tls.dial_tls(address_of(server))).handshake()
    async with kept(end, protocol):
        await protocol.called("connection_made")
        await lives(protocol, end)
    server.close()
    assert {where for _, where in notes.seen["places"]} == {"server"}


@as_on_asyncio
async def test_a_client_is_called_in_the_context_in_which_it_connected(notes, tls):
    protocol = notes.plain("us", **placing(notes))
    async with tls.listening() as (address, accept):
        place.set("made")
        connecting = asyncio.ensure_future(
            tls.connect(lambda: protocol, address, ssl=client_context(), server_hostname="localhost")
        )
        place.set("later")
        end = TlsEnd(await accept(connecting), server_context(), server=True).listen()
        async with kept(end, protocol):
            await connecting
            await lives(protocol, end)
    assert {where for _, where in notes.seen["places"]} == {"made"}
