"""[A2] What may be written, and how it arrives."""

from __future__ import annotations

import array
import asyncio
import ctypes
import mmap
import sys

import pytest
from support.coroutines import done
from support.kernel import pattern
from support.protocols import on_ours, on_ours_and_asyncio
from support.streams import BIG, connected, either_side, goes_on, no_tls_yet, slow

from pybuntcp._aio import SocketTransport

pytestmark = no_tls_yet
# from 3.14 on `writelines` of asyncio's own takes some of it, or keeps what came before
on_ours_and_older_asyncio = on_ours_and_asyncio if sys.version_info < (3, 14) else on_ours


def mapped(data):
    """The bytes in anonymous memory."""
    memory = mmap.mmap(-1, len(data))
    memory.write(data)
    return memory


COMMON = {
    "bytes": lambda data: data,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "view of a bytearray": lambda data: memoryview(bytearray(data)),
    "readonly view": lambda data: memoryview(bytearray(data)).toreadonly(),
    "part of a view": lambda data: memoryview(b"before" + data + b"behind")[6:-6],
}


FURTHER = {
    "array": lambda data: array.array("B", data),
    "array of ints": lambda data: array.array("I", data),
    "mmap": mapped,
    "view of ints": lambda data: memoryview(data).cast("I"),
    "view of two dimensions": lambda data: memoryview(data).cast("B", [len(data) // 4, 4]),
    "ctypes": lambda data: (ctypes.c_char * len(data)).from_buffer_copy(data),
}


@on_ours_and_asyncio
@either_side
@pytest.mark.parametrize("kind", COMMON)
async def test_what_is_written_arrives(transport, side, kind):
    protocol, peer = await side(transport)
    protocol.transport.write(COMMON[kind](b"sixteen bytes..."))
    assert await done(peer.recv_exactly(16)) == b"sixteen bytes..."


@on_ours
@pytest.mark.parametrize("size", [16, BIG])
@pytest.mark.parametrize("kind", [*COMMON, *FURTHER])
async def test_every_bytes_like_object_arrives_as_its_bytes(transport, kind, size):
    protocol, peer = await slow(transport)
    data = pattern(size)
    protocol.transport.write({**COMMON, **FURTHER}[kind](data))
    assert await done(peer.recv_exactly(size)) == data


@on_ours
@pytest.mark.parametrize("kind", [*COMMON, *FURTHER])
async def test_writelines_takes_every_bytes_like_object(transport, kind):
    protocol, peer = await connected(transport)
    protocol.transport.writelines([b"<", {**COMMON, **FURTHER}[kind](b"sixteen bytes..."), b">"])
    assert await done(peer.recv_exactly(18)) == b"<sixteen bytes...>"


@on_ours_and_asyncio
@pytest.mark.parametrize("wrong", ["text", None, 7, 1.5, [b"x"], object], ids=str)
async def test_all_else_is_a_type_error_and_harms_nothing(transport, wrong):
    protocol, peer = await connected(transport)
    with pytest.raises(TypeError) as raised:
        protocol.transport.write(wrong)
    named = "bytes-like"
    if sys.version_info >= (3, 14) and not isinstance(protocol.transport, SocketTransport):
        named = "bytes, bytearray, or memoryview"
    assert str(raised.value) == f"data argument must be a {named} object, not {type(wrong).__name__!r}"
    await goes_on(protocol, peer)


@on_ours_and_older_asyncio
@pytest.mark.parametrize("wrong", ["text", None, 7])
async def test_writelines_of_what_has_no_bytes_is_a_type_error_and_sends_nothing(transport, wrong):
    protocol, peer = await connected(transport)
    with pytest.raises(TypeError):
        protocol.transport.writelines([b"before", wrong, b"behind"])
    await goes_on(protocol, peer)


@on_ours
async def test_a_view_that_is_not_contiguous_is_a_buffer_error_and_harms_nothing(transport):
    protocol, peer = await connected(transport)
    with pytest.raises(BufferError):
        protocol.transport.write(memoryview(b"abcdef")[::2])
    with pytest.raises(BufferError):
        protocol.transport.writelines([b"before", memoryview(b"abcdef")[::2]])
    await goes_on(protocol, peer)


# ---------------------------------------------------------------- snapshots


@on_ours_and_asyncio
async def test_a_bytearray_that_is_changed_after_a_write_was_sent_as_it_was(transport):
    protocol, peer = await connected(transport)
    data = bytearray(b"before")
    protocol.transport.write(data)
    data[:] = b"after!"
    protocol.transport.writelines([data, memoryview(data)])
    data[:] = b"later!"
    assert await done(peer.recv_exactly(18)) == b"beforeafter!after!"


@on_ours
@pytest.mark.parametrize("method", ["write", "writelines"])
async def test_bytes_that_must_wait_are_a_copy(transport, method):
    protocol, peer = await slow(transport)
    data = bytearray(pattern(BIG))
    protocol.transport.write(data) if method == "write" else protocol.transport.writelines([data])
    assert protocol.transport.get_write_buffer_size() > 0
    data[:] = bytes(BIG)
    assert await done(peer.recv_exactly(BIG)) == pattern(BIG)


@on_ours
async def test_a_bytearray_can_be_resized_right_after_a_write(transport):
    protocol, peer = await slow(transport)
    data = bytearray(pattern(BIG))
    protocol.transport.write(data)
    data.clear()
    assert await done(peer.recv_exactly(BIG)) == pattern(BIG)


@pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="asyncio keeps views of what it could not send since Python 3.12"
)
@on_ours_and_asyncio
async def test_asyncio_copied_what_must_wait(transport):
    protocol, peer = await slow(transport)
    data = bytearray(pattern(BIG))
    protocol.transport.write(data)
    data[:] = bytes(BIG)
    assert await done(peer.recv_exactly(BIG)) == pattern(BIG)


# ---------------------------------------------------------------- writelines

LINES = {
    "list": [b"one ", b"two ", b"three"],
    "tuple": (b"one ", b"two ", b"three"),
    "views": [memoryview(b"one "), memoryview(b"two "), memoryview(b"three")],
    "mixed": [b"one ", bytearray(b"two "), memoryview(b"three")],
    "with empty ones": [b"", b"one ", b"", b"two three", b""],
}


@on_ours_and_asyncio
@either_side
@pytest.mark.parametrize("lines", LINES)
async def test_writelines_sends_its_parts_in_order(transport, side, lines):
    protocol, peer = await side(transport)
    protocol.transport.writelines(LINES[lines])
    protocol.transport.write(b"!")
    assert await done(peer.recv_exactly(14)) == b"one two three!"


@on_ours_and_asyncio
async def test_writelines_takes_a_generator(transport):
    protocol, peer = await connected(transport)
    protocol.transport.writelines(b"%d " % number for number in range(5))
    assert await done(peer.recv_exactly(10)) == b"0 1 2 3 4 "


@on_ours_and_asyncio
async def test_writelines_of_nothing_sends_nothing(transport):
    protocol, peer = await connected(transport)
    protocol.transport.writelines([])
    protocol.transport.writelines(())
    assert protocol.transport.get_write_buffer_size() == 0
    await goes_on(protocol, peer)


@on_ours_and_asyncio
@pytest.mark.parametrize("size", [1, 100, 2000])
async def test_writelines_takes_more_parts_than_a_system_call_does(transport, size):
    protocol, peer = await slow(transport)
    data = pattern(3000 * size)
    protocol.transport.writelines([data[at * size : (at + 1) * size] for at in range(3000)])
    assert await done(peer.recv_exactly(len(data))) == data


@on_ours_and_older_asyncio
async def test_an_iterable_that_raises_in_writelines_sends_nothing(transport):
    def broken():
        yield b"never"
        raise ZeroDivisionError

    protocol, peer = await connected(transport)
    with pytest.raises(ZeroDivisionError):
        protocol.transport.writelines(broken())
    await goes_on(protocol, peer)


@on_ours_and_asyncio
async def test_order_is_kept_whatever_is_written_how(transport):
    protocol, peer = await slow(transport)
    expected = bytearray()
    for number in range(60):
        piece = pattern(1 << number % 17)
        if number % 3 == 0:
            protocol.transport.writelines([piece, b"|", memoryview(piece)])
            expected += piece + b"|" + piece
        else:
            protocol.transport.write(piece)
            expected += piece
        if number % 7 == 0:
            await asyncio.sleep(0)
    assert await done(peer.recv_exactly(len(expected))) == expected
