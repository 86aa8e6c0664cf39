"""`loop.sendfile` on our loop, as a program uses it: by the kernel in plain text, read and encrypted over TLS."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib

import pytest
from carried import MIB, plain_and_tls
from support import pattern
from support.asyncio_loops import on_loops
from support.tls_peer import client_context, server_context

CONTENT = pattern(8 * MIB)
HEAD, TAIL = b"what follows is a file\n", b"and that was it\n"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


@contextlib.asynccontextmanager
async def downloading(serve, tls):
    """What a client hears of a server that serves each connection so; the server's failure is the test's."""
    served = asyncio.get_running_loop().create_future()

    async def accepted(reader, writer):
        try:
            await serve(writer)
            served.set_result(None)
        except Exception as failure:
            served.set_exception(failure)
        finally:
            writer.close()

    server = await asyncio.start_server(accepted, "127.0.0.1", 0, ssl=server_context() if tls else None)
    async with server:
        secured = {"ssl": client_context(), "server_hostname": "localhost"} if tls else {}
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), **secured)
        yield reader
        await served
        writer.close()


@plain_and_tls
@on_loops("asyncio", "native")
async def test_a_file_between_two_writes_arrives_in_order(path, sendfile_calls, tls):
    async def serve(writer):
        with path.open("rb") as file:
            writer.write(HEAD)
            assert await asyncio.get_running_loop().sendfile(writer.transport, file) == len(CONTENT)
            assert file.tell() == len(CONTENT)
            writer.write(TAIL)

    async with downloading(serve, tls) as reader:
        assert hashlib.sha256(await reader.read()).digest() == hashlib.sha256(HEAD + CONTENT + TAIL).digest()
    assert bool(sendfile_calls) is not tls


@plain_and_tls
@on_loops("asyncio", "native")
async def test_parts_of_a_file_are_sent_one_after_the_other(path, tls):
    parts = [(0, 10), (MIB, MIB), (len(CONTENT) - 5, None), (3, 0)]

    async def serve(writer):
        with path.open("rb") as file:
            for offset, count in parts:
                await asyncio.get_running_loop().sendfile(writer.transport, file, offset, count or None)

    wanted = b"".join(CONTENT[offset:][: count or None] for offset, count in parts)
    async with downloading(serve, tls) as reader:
        assert await reader.read() == wanted


@on_loops("asyncio", "native")
async def test_over_tls_a_file_that_may_not_be_read_by_the_program_is_refused(path):
    async def serve(writer):
        refused = pytest.raises(RuntimeError, match="fallback is disabled and native sendfile is not supported")
        with path.open("rb") as file, refused:
            await asyncio.get_running_loop().sendfile(writer.transport, file, fallback=False)
        writer.write(TAIL)

    async with downloading(serve, True) as reader:
        assert await reader.read() == TAIL


@on_loops("asyncio", "native")
async def test_a_client_that_leaves_in_the_middle_of_a_file_is_an_error_of_who_sends_it(path):
    """In plain text. Over TLS asyncio goes on writing to a connection that it has lost, until the file ends."""
    failed = asyncio.get_running_loop().create_future()

    async def send_for_ever(transport, file):
        while True:
            await asyncio.get_running_loop().sendfile(transport, file)

    async def serve(writer):
        with path.open("rb") as file, pytest.raises(ConnectionError) as caught:
            await send_for_ever(writer.transport, file)
        failed.set_result(caught.value)

    async with downloading(serve, False) as reader:
        await reader.readexactly(MIB)
        reader._transport.abort()
        assert isinstance(await failed, ConnectionError)
