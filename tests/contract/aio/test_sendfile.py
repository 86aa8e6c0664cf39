"""[A3] `sendfile`: after what was written before it, before what is written after it, by os.sendfile or without."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os

import pytest
from support.asyncio_loops import not_in
from support.coroutines import read_exactly
from support.kernel import pattern
from support.protocols import Plain, on_ours, on_ours_and_asyncio
from support.streams import LARGE, ends, small_buffer

pytestmark = pytest.mark.loops_that_stay


def running():
    return asyncio.get_running_loop()


@on_ours_and_asyncio
async def test_a_file_arrives_whole_and_its_position_is_its_end(streams, file):
    async with streams.accepted(Plain()) as (accepted, peer):
        received = asyncio.ensure_future(read_exactly(peer, LARGE))
        assert await running().sendfile(accepted.transport, file) == LARGE
        assert await received == pattern(LARGE)
        assert file.tell() == LARGE


@on_ours_and_asyncio
async def test_debug_mode_sends_files_too(streams, file):
    running().set_debug(True)  # which refuses sockets that might block
    running().slow_callback_duration = 60
    async with streams.accepted(Plain()) as (accepted, peer):
        received = asyncio.ensure_future(read_exactly(peer, LARGE))
        assert await running().sendfile(accepted.transport, file, fallback=False) == LARGE
        assert await received == pattern(LARGE)


@pytest.mark.parametrize(
    ("offset", "count"), [(0, 10), (1000, None), (1000, 10), (LARGE, None), (10, LARGE * 2), (LARGE - 1, 5)]
)
@on_ours_and_asyncio
async def test_offset_and_count_choose_a_part(streams, file, offset, count):
    wanted = pattern(LARGE)[offset:][:count]
    async with streams.accepted(Plain()) as (accepted, peer):
        received = asyncio.ensure_future(ends(peer))
        assert await running().sendfile(accepted.transport, file, offset, count) == len(wanted)
        accepted.transport.close()
        assert await received == wanted


@pytest.mark.parametrize("size", [10, 1_000_000])
@on_ours_and_asyncio
async def test_what_is_written_before_and_after_keeps_its_place(streams, file, size):
    async with streams.accepted(Plain()) as (accepted, peer):
        small_buffer(accepted.transport)
        received = asyncio.ensure_future(ends(peer))
        accepted.transport.write(b"<" * size)
        await running().sendfile(accepted.transport, file)
        accepted.transport.write(b">" * size)
        accepted.transport.close()
        assert await received == b"<" * size + pattern(LARGE) + b">" * size


@on_ours_and_asyncio
async def test_nothing_can_be_written_meanwhile(streams, file):
    async with streams.accepted(Plain()) as (accepted, peer):
        small_buffer(accepted.transport)
        sending = asyncio.ensure_future(running().sendfile(accepted.transport, file))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="sendfile is in progress"):
            accepted.transport.write(b"x")
        with pytest.raises(RuntimeError, match="sendfile is in progress"):
            accepted.transport.writelines([b"x"])
        received = await read_exactly(peer, LARGE)
        assert await sending == LARGE
        assert received == pattern(LARGE)
        accepted.transport.write(b"x")
        assert await read_exactly(peer, 1) == b"x"


@on_ours
async def test_a_second_one_meanwhile_is_refused_and_the_first_goes_on(streams, file):
    async with streams.accepted(Plain()) as (accepted, peer):
        small_buffer(accepted.transport)
        sending = asyncio.ensure_future(running().sendfile(accepted.transport, file))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="already"):
            await running().sendfile(accepted.transport, file)
        assert await read_exactly(peer, LARGE) == pattern(LARGE)
        assert await sending == LARGE


@pytest.mark.parametrize("paused", [False, True])
@on_ours_and_asyncio
async def test_reading_goes_on_afterwards_as_it_was_before(streams, file, paused):
    async with streams.accepted(Plain()) as (accepted, peer):
        if paused:
            accepted.transport.pause_reading()
        received = asyncio.ensure_future(read_exactly(peer, LARGE))
        sending = asyncio.ensure_future(running().sendfile(accepted.transport, file))
        await asyncio.sleep(0)
        assert not accepted.transport.is_reading()
        await sending
        await received
        assert accepted.transport.is_reading() is not paused


@on_ours_and_asyncio
async def test_what_has_no_descriptor_is_read_and_written(streams):
    async with streams.accepted(Plain()) as (accepted, peer):
        received = asyncio.ensure_future(read_exactly(peer, 1_000_000))
        assert await running().sendfile(accepted.transport, io.BytesIO(pattern(1_000_000))) == 1_000_000
        assert await received == pattern(1_000_000)


@on_ours_and_asyncio
async def test_without_fallback_what_has_no_descriptor_is_refused(streams):
    async with streams.accepted(Plain()) as (accepted, peer):
        with pytest.raises(asyncio.SendfileNotAvailableError):
            await running().sendfile(accepted.transport, io.BytesIO(b"x"), fallback=False)
        accepted.transport.write(b"still open")
        assert await read_exactly(peer, 10) == b"still open"


@on_ours_and_asyncio
async def test_an_empty_file_sends_nothing(streams, tmp_path):
    (tmp_path / "empty").touch()
    async with streams.accepted(Plain()) as (accepted, peer):
        with (tmp_path / "empty").open("rb") as empty:
            assert await running().sendfile(accepted.transport, empty) == 0
        accepted.transport.write(b"x")
        assert await read_exactly(peer, 1) == b"x"


@on_ours_and_asyncio
async def test_a_closing_transport_is_refused(streams, file):
    async with streams.accepted(Plain()) as (accepted, peer):
        accepted.transport.close()
        with pytest.raises(RuntimeError, match="closing"):
            await running().sendfile(accepted.transport, file)
        await accepted.called("connection_lost")
        await ends(peer)


@contextlib.asynccontextmanager
async def in_the_middle(streams, file):
    """A connection over which the file is being sent: its protocol, the peer, and the task that sends."""
    async with streams.accepted(Plain()) as (accepted, peer):
        small_buffer(accepted.transport)
        sending = asyncio.ensure_future(running().sendfile(accepted.transport, file))
        await read_exactly(peer, 100_000)
        yield accepted, peer, sending


@on_ours_and_asyncio
async def test_a_peer_that_goes_in_the_middle_is_a_connection_error(streams, file):
    async with in_the_middle(streams, file) as (accepted, peer, sending):
        peer.close()
        with pytest.raises(ConnectionError):
            await sending
        await accepted.called("connection_lost")


@pytest.mark.parametrize("verb", ["close", "abort"])
@on_ours
async def test_a_transport_that_is_ended_in_the_middle_is_a_connection_error(streams, file, verb):
    """asyncio's own loop waits for ever then."""
    async with in_the_middle(streams, file) as (accepted, peer, sending):
        fd = accepted.transport.get_extra_info("socket").fileno()
        getattr(accepted.transport, verb)()
        with pytest.raises(ConnectionError):
            await sending
        await accepted.called("connection_lost")
        assert not running().remove_writer(fd)
        await ends(peer)


@on_ours_and_asyncio
async def test_one_that_is_cancelled_leaves_the_connection_open(streams, file):
    async with in_the_middle(streams, file) as (accepted, peer, sending):
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        accepted.transport.write(b"last")
        accepted.transport.close()
        assert (await ends(peer)).endswith(b"last")


@on_ours_and_asyncio
async def test_a_file_that_fails_in_the_middle_of_the_fallback_is_that_error(streams):
    class Failing(io.RawIOBase):
        def readinto(self, buffer):
            raise OSError("a bad disk")

        def seek(self, offset, whence=0):
            return offset

    async with streams.accepted(Plain()) as (accepted, peer):
        with pytest.raises(OSError, match="a bad disk"):
            await running().sendfile(accepted.transport, Failing())
        accepted.transport.write(b"x")
        assert await read_exactly(peer, 1) == b"x"


@on_ours_and_asyncio
async def test_sock_sendfile_to_a_raw_socket_works_beside_transports(streams, file):
    one, other = streams.sockets()
    with one, other:
        received = asyncio.ensure_future(read_exactly(other, LARGE))
        assert await running().sock_sendfile(one, file) == LARGE
        assert await received == pattern(LARGE)


@not_in("uvloop-ours", "uvloop knows the descriptors of its own transports alone")
@on_ours_and_asyncio
async def test_the_descriptor_belongs_to_the_transport_again_afterwards(streams, file):
    async with streams.accepted(Plain()) as (accepted, peer):
        received = asyncio.ensure_future(read_exactly(peer, LARGE))
        fd = accepted.transport.get_extra_info("socket").fileno()
        await running().sendfile(accepted.transport, file)
        await received
        with pytest.raises(RuntimeError, match="is used by transport"):
            running().add_writer(fd, os.getpid)
        with contextlib.suppress(RuntimeError):
            running().remove_writer(fd)
