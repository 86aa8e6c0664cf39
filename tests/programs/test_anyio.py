"""AnyIO on our loop, by `backend_options`. Its TCP streams are asyncio's transports, its unix streams are sockets that the loop watches."""

from __future__ import annotations

import asyncio

import pytest
from carried import MIB, carried, is_ours
from support import TIMEOUT, pattern

import pybuntcp
from pybuntcp import aio

anyio = pytest.importorskip("anyio", reason="AnyIO is not installed")

BODY = pattern(4 * MIB)


def run(main, *arguments):
    """`anyio.run` of it, bounded."""

    async def bounded():
        with anyio.fail_after(TIMEOUT):
            return await main(*arguments)

    return anyio.run(bounded, backend_options={"loop_factory": pybuntcp.new_event_loop})


def transport_of(stream):
    return stream._transport


async def echo(stream):
    async with stream:
        async for chunk in stream:
            await stream.send(chunk)


async def send(stream, data):
    await stream.send(data)
    await stream.send_eof()


async def read(stream):
    received = bytearray()
    async for chunk in stream:
        received += chunk
    return bytes(received)


async def there_and_back(listener, connect, data):
    """What comes back from an echo of AnyIO's."""
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, echo)
        async with await connect() as stream:
            tasks.start_soon(send, stream, data)
            received = await read(stream)
        tasks.cancel_scope.cancel()
    return received


def test_the_loop_is_ours():
    async def main():
        return type(asyncio.get_running_loop())

    assert run(main) is aio.EventLoop


def test_4_mib_go_there_and_back_on_tcp_streams_that_are_transports_of_ours():
    async def main():
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        kept = []

        async def connect():
            kept.append(await anyio.connect_tcp("127.0.0.1", port))
            return kept[0]

        received = await there_and_back(listener, connect, BODY)
        return received == BODY, is_ours(transport_of(kept[0])), carried(2 * len(BODY), 2 * len(BODY))

    assert run(main) == (True, True, True)


def test_4_mib_go_there_and_back_on_unix_streams(tmp_path):
    async def main():
        path = tmp_path / "anyio"
        listener = await anyio.create_unix_listener(path)
        return await there_and_back(listener, lambda: anyio.connect_unix(path), BODY) == BODY

    assert run(main)


def test_a_read_that_is_cancelled_leaves_the_stream_as_it_was():
    async def main():
        async with (
            await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(listener.serve, echo)
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                with anyio.move_on_after(0.01) as scope:
                    await stream.receive()
                await stream.send(b"hello")
                received = await stream.receive()
            tasks.cancel_scope.cancel()
        return scope.cancelled_caught, received

    assert run(main) == (True, b"hello")


def test_the_errors_of_streams_are_anyios():
    async def main():
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await stream.aclose()
                with pytest.raises(anyio.ClosedResourceError):
                    await stream.receive()
        with pytest.raises(OSError, match=r"refused|failed"):
            await anyio.connect_tcp("127.0.0.1", port)

    run(main)


def test_names_are_tried_by_happy_eyeballs():
    async def main():
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        return await there_and_back(listener, lambda: anyio.connect_tcp("localhost", port), b"hello")

    assert run(main) == b"hello"
