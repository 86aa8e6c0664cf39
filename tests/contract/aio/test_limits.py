"""[L4] [T1] The limits of our listeners, as options of `create_server`, `create_unix_server`, `start_server`."""

from __future__ import annotations

import asyncio
import contextlib
import socket as stdlib

import pytest
from support import descriptors
from support.addresses import has_ipv6
from support.coroutines import turns
from support.leaks import without_spares
from support.protocols import Made, Plain, on_ours, on_ours_and_asyncio
from support.streams import abort, address_of, ends, send
from support.tls_peer import client_context, server_context

import pybuntcp

LIMITS = {
    "max_connections": 2,
    "idle_timeout": 60,
    "read_timeout": 60.5,
    "linger_timeout": None,
    "no_delay": False,
}

WRONG = [
    ("max_connections", 0, ValueError),
    ("max_connections", "10", TypeError),
    ("max_connections", True, TypeError),
    ("idle_timeout", 0, ValueError),
    ("idle_timeout", float("nan"), ValueError),
    ("read_timeout", -1, ValueError),
    ("read_timeout", "1", TypeError),
    ("linger_timeout", -1, ValueError),
    ("no_delay", 1, TypeError),
]


@on_ours
async def test_every_limit_can_be_given_at_once(streams):
    made = Made()
    async with streams.served(made, **LIMITS) as server:
        with await streams.dial(address_of(server)) as client:
            await made.until(lambda: len(made.open) == 1)
            await send(client, b"x")
            await made.open[0].received(b"x")
            await abort(*made.open)


@on_ours
async def test_over_max_connections_the_next_waits_until_one_has_gone(streams):
    made = Made()
    async with streams.served(made, max_connections=2) as server:
        clients = [await streams.dial(address_of(server)) for _ in range(6)]
        for client in clients:
            await send(client, b"x")
        for _ in range(3):
            await made.until(lambda: len(made.open) == 2)
            await turns()
            assert len(made.open) == 2
            for protocol in made.open:
                await protocol.received(b"x")
                protocol.transport.close()
        for client in clients:
            assert await ends(client) == b""
            client.close()
        await made.until(lambda: len(made.open) == 0)
    assert made.most == 2


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
@on_ours
async def test_max_connections_counts_all_addresses_of_a_server_together():
    loop, made = asyncio.get_running_loop(), Made()
    server = await loop.create_server(made, ["127.0.0.1", "::1"], 0, max_connections=2)
    clients = []
    for _ in range(2):
        for sock in server.sockets:
            client = stdlib.socket(sock.family)
            client.setblocking(False)
            await loop.sock_connect(client, sock.getsockname()[:2])
            clients.append(client)
    for _ in range(2):
        await made.until(lambda: len(made.open) == 2)
        await turns()
        assert len(made.open) == 2
        for protocol in made.open:
            protocol.transport.close()
    for client in clients:
        assert await ends(client) == b""
        client.close()
    await made.until(lambda: len(made.open) == 0)
    server.close()
    assert made.most == 2


@pytest.mark.parametrize("option", ["idle_timeout", "read_timeout"])
@on_ours
async def test_a_connection_that_is_silent_for_too_long_is_lost_with_a_timeout_error(streams, option):
    protocol = Plain()
    async with streams.served(lambda: protocol, **{option: 0.05}) as server:
        with await streams.dial(address_of(server)) as client:
            await protocol.called("connection_lost")
            await ends(client)
    assert isinstance(protocol.error, TimeoutError)


@on_ours
async def test_what_is_written_is_no_sign_of_life_of_the_peer(streams):
    def go_on_writing(protocol, transport):
        transport.write(b"x")
        if not transport.is_closing():
            asyncio.get_running_loop().call_later(0.01, go_on_writing, protocol, transport)

    protocol = Plain(connection_made=go_on_writing)
    async with streams.served(lambda: protocol, read_timeout=0.1) as server:
        with await streams.dial(address_of(server)) as client:
            await protocol.called("connection_lost")
            await ends(client)
    assert isinstance(protocol.error, TimeoutError)


@pytest.mark.parametrize(("options", "wanted"), [({}, 1), ({"no_delay": False}, 0), ({"no_delay": True}, 1)])
@on_ours
async def test_no_delay_is_on_unless_it_is_turned_off(options, wanted):
    protocol = Plain()
    server = await asyncio.get_running_loop().create_server(lambda: protocol, "127.0.0.1", 0, **options)
    with stdlib.socket() as client:
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, address_of(server))
        await protocol.called("connection_made")
        sock = protocol.transport.get_extra_info("socket")
        assert bool(sock.getsockopt(stdlib.IPPROTO_TCP, stdlib.TCP_NODELAY)) == wanted
        server.close()
        await abort(protocol)


@on_ours
async def test_start_server_and_start_unix_server_take_them(streams, tmp_path):
    served = []

    async def serve(reader, writer):
        served.append(await reader.readexactly(1))
        writer.write(served[-1])
        writer.close()

    if streams.name == "unix":
        server = await asyncio.start_unix_server(serve, tmp_path / "socket", max_connections=1)
    else:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, max_connections=1)
    clients = [await streams.dial(address_of(server)) for _ in range(3)]
    for client in clients:
        await send(client, b"x")
    for client in clients:
        assert await ends(client) == b"x"
        client.close()
    server.close()
    assert served == [b"x"] * 3


@on_ours
async def test_a_server_that_is_started_later_has_its_limits(streams):
    made = Made()
    server = await streams.server(made, max_connections=1, start_serving=False)
    await server.start_serving()
    with await streams.dial(address_of(server)) as first, await streams.dial(address_of(server)) as second:
        await made.until(lambda: len(made.open) == 1)
        await turns()
        await abort(*made.open)
        await ends(first)
        await made.until(lambda: len(made.open) == 1)
        await abort(*made.open)
        await ends(second)
    server.close()
    assert made.most == 1


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(("option", "value", "error"), WRONG)
@on_ours
async def test_a_wrong_value_is_an_error_that_names_the_option_before_anything_is_bound(streams, option, value, error):
    before = without_spares(descriptors())
    with nothing_is_bound(), pytest.raises(error, match=option):
        await streams.server(Plain, **{option: value})
    assert without_spares(descriptors()) == before


@on_ours_and_asyncio
async def test_an_unknown_option_is_named(streams):
    with nothing_is_bound(), pytest.raises(TypeError, match="max_connectoins"):
        await streams.server(Plain, max_connectoins=2)


@on_ours
async def test_an_option_of_listen_that_servers_do_not_have_is_named(streams):
    with nothing_is_bound(), pytest.raises(TypeError, match="high_water_mark"):
        await streams.server(Plain, high_water_mark=2)


@on_ours
async def test_with_ssl_every_limit_can_be_given_too(streams):
    made = Made()
    async with streams.served(made, ssl=server_context(), **LIMITS) as server:
        transport, client = await streams.connect(
            Plain, address_of(server), ssl=client_context(), server_hostname="localhost"
        )
        await made.until(lambda: len(made.open) == 1)
        transport.write(b"x")
        await made.open[0].received(b"x")
        await abort(client, *made.open)


@on_ours
async def test_with_ssl_a_client_that_says_nothing_counts_and_is_closed_in_time(streams):
    made = Made()
    async with streams.served(made, ssl=server_context(), max_connections=1, ssl_handshake_timeout=0.5) as server:
        with await streams.dial(address_of(server)):
            _, client = await streams.connect(
                Plain, address_of(server), ssl=client_context(), server_hostname="localhost"
            )
            await made.until(lambda: len(made.open) == 1)  # the one that says something
            await abort(client, *made.open)


@contextlib.contextmanager
def nothing_is_bound():
    def bind(self, address):
        raise AssertionError(f"{address} was bound")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stdlib.socket, "bind", bind, raising=False)
        yield


def test_no_other_loop_knows_them():
    async def main():
        with pytest.raises(TypeError, match="max_connections"):
            await asyncio.get_running_loop().create_server(Plain, "127.0.0.1", 0, max_connections=2)

    loop = asyncio.SelectorEventLoop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


def test_the_class_says_what_the_options_are():
    from pybuntcp.aio import EventLoop, limits

    assert all(f"`{name}`" in EventLoop.__doc__ for name in limits.LIMITS)
    assert set(limits.LIMITS) <= set(pybuntcp.listen.__kwdefaults__)
    assert set(limits.LIMITS) == set(LIMITS)
