"""[A2] What may be written, and what becomes of it."""

from __future__ import annotations

import array
import asyncio
import ctypes
import itertools
import mmap
import sys

import pytest
from support.coroutines import done, seen, turns
from support.kernel import pattern, was_reset
from support.protocols import Recording, connected, either_side, no_tls_yet, on_both, on_ours, slow

pytestmark = no_tls_yet

BIG = 1 << 22  # more than the kernels of two ends take
HELD = "socket.send() raised exception."


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


@on_both
@either_side
@pytest.mark.parametrize("kind", COMMON)
async def test_what_is_written_arrives(transport, side, kind):
    protocol = Recording()
    peer = await side(transport, protocol)
    protocol.transport.write(COMMON[kind](b"sixteen bytes..."))
    assert await done(peer.recv_exactly(16)) == b"sixteen bytes..."


@on_ours
@pytest.mark.parametrize("size", [16, BIG])
@pytest.mark.parametrize("kind", [*COMMON, *FURTHER])
async def test_every_bytes_like_object_arrives_as_its_bytes(transport, kind, size):
    protocol = Recording()
    peer = await slow(transport, protocol)
    data = pattern(size)
    protocol.transport.write({**COMMON, **FURTHER}[kind](data))
    assert await done(peer.recv_exactly(size)) == data


@on_ours
@pytest.mark.parametrize("kind", [*COMMON, *FURTHER])
async def test_writelines_takes_every_bytes_like_object(transport, kind):
    protocol = Recording()
    peer = await connected(transport, protocol)
    protocol.transport.writelines([b"<", {**COMMON, **FURTHER}[kind](b"sixteen bytes..."), b">"])
    assert await done(peer.recv_exactly(18)) == b"<sixteen bytes...>"


@on_both
@pytest.mark.parametrize("wrong", ["text", None, 7, 1.5, [b"x"], object], ids=str)
async def test_all_else_is_a_type_error_and_harms_nothing(transport, wrong):
    protocol = Recording()
    peer = await connected(transport, protocol)
    with pytest.raises(TypeError) as raised:
        protocol.transport.write(wrong)
    assert str(raised.value) == f"data argument must be a bytes-like object, not {type(wrong).__name__!r}"
    protocol.transport.write(b"after")
    assert await done(peer.recv_exactly(5)) == b"after"


@on_both
@pytest.mark.parametrize("wrong", ["text", None, 7])
async def test_writelines_of_what_has_no_bytes_is_a_type_error_and_sends_nothing(transport, wrong):
    protocol = Recording()
    peer = await connected(transport, protocol)
    with pytest.raises(TypeError):
        protocol.transport.writelines([b"before", wrong, b"behind"])
    protocol.transport.write(b"after")
    assert await done(peer.recv_exactly(5)) == b"after"


@on_ours
async def test_a_view_that_is_not_contiguous_is_a_buffer_error_and_harms_nothing(transport):
    protocol = Recording()
    peer = await connected(transport, protocol)
    with pytest.raises(BufferError):
        protocol.transport.write(memoryview(b"abcdef")[::2])
    with pytest.raises(BufferError):
        protocol.transport.writelines([b"before", memoryview(b"abcdef")[::2]])
    protocol.transport.write(b"after")
    assert await done(peer.recv_exactly(5)) == b"after"


# ---------------------------------------------------------------- snapshots


@on_both
async def test_a_bytearray_that_is_changed_after_a_write_was_sent_as_it_was(transport):
    protocol = Recording()
    peer = await connected(transport, protocol)
    data = bytearray(b"before")
    protocol.transport.write(data)
    data[:] = b"after!"
    protocol.transport.writelines([data, memoryview(data)])
    data[:] = b"later!"
    assert await done(peer.recv_exactly(18)) == b"beforeafter!after!"


@on_ours
@pytest.mark.parametrize("method", ["write", "writelines"])
async def test_bytes_that_must_wait_are_a_copy(transport, method):
    protocol = Recording()
    peer = await slow(transport, protocol)
    data = bytearray(pattern(BIG))
    protocol.transport.write(data) if method == "write" else protocol.transport.writelines([data])
    assert protocol.transport.get_write_buffer_size() > 0
    data[:] = bytes(BIG)
    assert await done(peer.recv_exactly(BIG)) == pattern(BIG)


@on_ours
async def test_a_bytearray_can_be_resized_right_after_a_write(transport):
    protocol = Recording()
    peer = await slow(transport, protocol)
    data = bytearray(pattern(BIG))
    protocol.transport.write(data)
    data.clear()
    assert await done(peer.recv_exactly(BIG)) == pattern(BIG)


# ---------------------------------------------------------------- writelines

LINES = {
    "list": [b"one ", b"two ", b"three"],
    "tuple": (b"one ", b"two ", b"three"),
    "views": [memoryview(b"one "), memoryview(b"two "), memoryview(b"three")],
    "mixed": [b"one ", bytearray(b"two "), memoryview(b"three")],
    "with empty ones": [b"", b"one ", b"", b"two three", b""],
}


@on_both
@either_side
@pytest.mark.parametrize("lines", LINES)
async def test_writelines_sends_its_parts_in_order(transport, side, lines):
    protocol = Recording()
    peer = await side(transport, protocol)
    protocol.transport.writelines(LINES[lines])
    protocol.transport.write(b"!")
    assert await done(peer.recv_exactly(14)) == b"one two three!"


@on_both
async def test_writelines_takes_a_generator(transport):
    protocol = Recording()
    peer = await connected(transport, protocol)
    protocol.transport.writelines(b"%d " % number for number in range(5))
    assert await done(peer.recv_exactly(10)) == b"0 1 2 3 4 "


@on_both
async def test_writelines_of_nothing_sends_nothing(transport):
    protocol = Recording()
    peer = await connected(transport, protocol)
    protocol.transport.writelines([])
    protocol.transport.writelines(())
    assert protocol.transport.get_write_buffer_size() == 0
    protocol.transport.write(b"after")
    assert await done(peer.recv_exactly(5)) == b"after"


@on_both
@pytest.mark.parametrize("size", [1, 100, 2000])
async def test_writelines_takes_more_parts_than_a_system_call_does(transport, size):
    protocol = Recording()
    peer = await slow(transport, protocol)
    data = pattern(3000 * size)
    protocol.transport.writelines([data[at * size : (at + 1) * size] for at in range(3000)])
    assert await done(peer.recv_exactly(len(data))) == data


@on_both
async def test_an_iterable_that_raises_in_writelines_sends_nothing(transport):
    def broken():
        yield b"never"
        raise ZeroDivisionError

    protocol = Recording()
    peer = await connected(transport, protocol)
    with pytest.raises(ZeroDivisionError):
        protocol.transport.writelines(broken())
    protocol.transport.write(b"after")
    assert await done(peer.recv_exactly(5)) == b"after"


@on_both
async def test_order_is_kept_whatever_is_written_how(transport):
    protocol = Recording()
    peer = await slow(transport, protocol)
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


# ---------------------------------------------------------------- after the end


@on_both
async def test_after_write_eof_a_write_is_a_runtime_error(transport):
    protocol = Recording()
    await connected(transport, protocol)
    protocol.transport.write_eof()
    for data in (b"late", b""):
        with pytest.raises(RuntimeError, match=r"^Cannot call write\(\) after write_eof\(\)$"):
            protocol.transport.write(data)
    with pytest.raises(RuntimeError, match=r"^Cannot call write(lines)?\(\) after write_eof\(\)$"):
        protocol.transport.writelines([b"late"])
    with pytest.raises(TypeError):
        protocol.transport.write("late")


async def close(protocol, peer):
    protocol.transport.close()


async def abort(protocol, peer):
    protocol.transport.abort()


async def lose(protocol, peer):
    peer.close()
    await protocol.until("lost")


ENDED = {each.__name__: each for each in (close, abort, lose)}


@on_both
@pytest.mark.parametrize("end", ENDED)
async def test_after_the_end_writes_are_dropped_and_warned_of_from_the_fifth_on(transport, end, caplog):
    protocol = Recording()
    peer = await connected(transport, protocol)
    await ENDED[end](protocol, peer)
    warned = []
    for _ in range(7):
        protocol.transport.write(b"nobody gets it")
        protocol.transport.write(b"")
        warned.append(sum(record.message == HELD for record in caplog.records))
    assert warned == [0, 0, 0, 0, 1, 2, 3]
    await protocol.until("lost")
    protocol.transport.write(b"nobody gets it")
    assert sum(record.message == HELD for record in caplog.records) == 4
    if end != "lose":
        assert await done(peer.recv_until_eof()) == b""


@on_ours
@pytest.mark.parametrize("end", ENDED)
async def test_after_the_end_writelines_are_dropped_and_warned_of_as_writes(transport, end, caplog):
    protocol = Recording()
    peer = await connected(transport, protocol)
    await ENDED[end](protocol, peer)
    for _ in range(6):
        protocol.transport.writelines([b"nobody ", b"gets it"])
        protocol.transport.writelines([])
    assert sum(record.message == HELD for record in caplog.records) == 2
    await protocol.until("lost")


@on_both
async def test_what_is_written_after_close_is_sent_while_earlier_bytes_are_pending(transport):
    protocol = Recording()
    peer = await slow(transport, protocol)
    protocol.transport.write(pattern(BIG))
    protocol.transport.close()
    for _ in range(8):
        protocol.transport.write(b"late")
    assert await done(peer.recv_until_eof()) == pattern(BIG) + 8 * b"late"
    await protocol.until("lost")
    assert protocol.error is None


@on_both
async def test_a_write_in_connection_lost_is_dropped(transport):
    protocol = Recording(lost=lambda protocol: protocol.transport.write(b"too late"))
    peer = await connected(transport, protocol)
    protocol.transport.close()
    assert await done(peer.recv_until_eof()) == b""
    assert protocol.calls == ["made", "lost"]


@on_both
@pytest.mark.parametrize("size", [1, 100_000])
async def test_writes_to_a_peer_that_has_reset_never_raise(tcp, size, caplog):
    protocol = Recording()
    peer = await connected(tcp, protocol)
    found = protocol.transport.get_extra_info("socket")
    protocol.transport.pause_reading()
    peer.reset()
    await seen(lambda: was_reset(found), "the reset")
    for _ in itertools.repeat(None, 100):
        protocol.transport.write(bytes(size))
    await protocol.until("lost")
    assert isinstance(protocol.error, (ConnectionResetError, BrokenPipeError))
    assert protocol.calls[-1] == "lost"


@on_both
async def test_a_writer_that_never_yields_learns_of_the_reset_in_write(tcp):
    protocol = Recording()
    peer = await connected(tcp, protocol)
    found = protocol.transport.get_extra_info("socket")
    protocol.transport.pause_reading()
    peer.reset()
    await seen(lambda: was_reset(found), "the reset")
    for _ in range(1000):
        protocol.transport.write(bytes(1000))
        if protocol.transport.is_closing():
            break
    assert protocol.transport.is_closing()
    assert "lost" not in protocol.calls
    await protocol.until("lost")
    await turns()
    assert protocol.calls.count("lost") == 1


@on_both
async def test_a_stream_whose_peer_has_reset_raises_in_drain_though_it_never_yields(tcp):
    server = tcp.raw_server()
    peer = server.accept()
    _reader, writer = await asyncio.open_connection(*server.sock.getsockname())
    await done(peer.connected)
    found = writer.get_extra_info("socket")
    writer.transport.pause_reading()
    peer.reset()
    await seen(lambda: was_reset(found), "the reset")

    async def write_on():
        for _ in range(1000):
            writer.write(bytes(1000))
            await writer.drain()

    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        await write_on()
    writer.close()


@pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="asyncio keeps views of what it could not send since Python 3.12"
)
@on_both
async def test_asyncio_copied_what_must_wait(transport):
    protocol = Recording()
    peer = await slow(transport, protocol)
    data = bytearray(pattern(BIG))
    protocol.transport.write(data)
    data[:] = bytes(BIG)
    assert await done(peer.recv_exactly(BIG)) == pattern(BIG)
