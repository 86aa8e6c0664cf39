"""`SocketReader` against a model: `asyncio.StreamReader`, fed with the same bytes.

A stream is cut into pieces anywhere; a sequence of reads of any kind and size is made while they arrive. What may
depend on the cuts is how much one `read(n)` gives; everything else is the model's, to the byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket as stdlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.asyncio_loops import each_host, run_on
from support.coroutines import nothing_open

import pybuntcp

quick = settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

# Few letters, so that separators are frequent and come in parts; runs, so that lines pass the limit.
STREAM = st.lists(st.sampled_from([b"a", b"b", b"\n", b"\r\n", b"ab", b"ba", b"a" * 20, b"b" * 70]), max_size=60).map(
    b"".join
)
SEPARATORS = st.sampled_from([b"\n", b"\r\n", b"a", b"ab", b"aba", b"bb\n"])
SIZES = st.integers(0, 8) | st.sampled_from([20, 63, 64, 65, 200])
READ = st.one_of(
    st.tuples(st.just("read"), SIZES),
    st.tuples(st.just("readexactly"), SIZES),
    st.tuples(st.just("readuntil"), SEPARATORS),
    st.tuples(st.just("readline")),
    st.tuples(st.just("turns"), st.integers(0, 3)),
    st.tuples(st.just("give up"), SIZES),
)
LIMITS = st.sampled_from([1, 2, 7, 64, 65536])


def unix_pair():
    return stdlib.socketpair()


def tcp_pair():
    with stdlib.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as failing:
        ours = failing.enter_context(stdlib.create_connection(listener.getsockname()))
        theirs = listener.accept()[0]
        failing.pop_all()
    theirs.setsockopt(stdlib.IPPROTO_TCP, stdlib.TCP_NODELAY, True)
    return ours, theirs


class Play:
    """The reader and its model, side by side."""

    def __init__(self, stream, limit, socket):
        self.socket, self.limit, self.stream = socket, limit, stream
        self.reader = socket.reader(limit=limit)
        self.model = asyncio.StreamReader(limit=limit)
        self.model.feed_data(stream)
        self.model.feed_eof()
        self.taken = 0

    async def perform(self, name, *args):
        if name == "turns":
            for _ in range(args[0]):
                await asyncio.sleep(0)
        elif name == "give up":
            await self.give_up(args[0])
        else:
            await getattr(self, name)(*args)
        assert self.socket.bytes_read - self.taken <= self.limit

    async def give_up(self, size):
        """A read that is cancelled: it has either given its bytes, or taken none."""
        task = asyncio.ensure_future(self.reader.read(size))
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.same(await task)

    async def same(self, got):
        """These are the model's next bytes."""
        assert got == await self.model.readexactly(len(got))
        self.taken += len(got)

    async def read(self, size):
        got = await self.reader.read(size)
        assert len(got) <= size
        assert got or size == 0 or self.taken == len(self.stream)
        await self.same(got)

    async def readexactly(self, size):
        await self.both(lambda reader: reader.readexactly(size))

    async def readline(self):
        await self.readuntil(b"\n", line=True)

    async def readuntil(self, separator, line=False):
        at = self.stream.find(separator, self.taken)
        size = at + len(separator) - self.taken if at >= 0 else len(self.stream) - self.taken
        if at < 0 and size == self.limit:
            return  # a full reader has not seen that it was the end
        if size <= self.limit:
            await self.both(lambda reader: reader.readline() if line else reader.readuntil(separator))
        elif line:
            with pytest.raises(ValueError, match="line"):
                await self.reader.readline()
        else:
            with pytest.raises(asyncio.LimitOverrunError):
                await self.reader.readuntil(separator)

    async def both(self, call):
        """The two give the same, or raise the same with the same bytes."""
        ours, its = await outcome(call(self.reader)), await outcome(call(self.model))
        assert ours == its
        self.taken += len(ours[1])


async def outcome(awaitable):
    try:
        return "returned", await awaitable
    except asyncio.IncompleteReadError as error:
        return "incomplete", error.partial, error.expected


async def feed(theirs, pieces, pauses):
    loop = asyncio.get_running_loop()
    for at, piece in enumerate(pieces):
        await loop.sock_sendall(theirs, piece)
        for _ in range(pauses[at % len(pauses)]):
            await asyncio.sleep(0)
    theirs.shutdown(stdlib.SHUT_WR)


def cut(stream, cuts):
    """The stream in pieces, none of them empty."""
    at = sorted({min(each, len(stream)) for each in cuts} | {0, len(stream)})
    return [stream[start:end] for start, end in itertools.pairwise(at)]


async def play(make, stream, cuts, pauses, limit, reads):
    ours, theirs = make()
    with theirs:
        theirs.setblocking(False)
        socket = await pybuntcp.connect(fd=ours.detach())
        feeding = asyncio.ensure_future(feed(theirs, cut(stream, cuts), pauses))
        game = Play(stream, limit, socket)
        for step in reads:
            await game.perform(*step)
        await game.same(await game.reader.read())
        assert game.taken == len(stream)
        assert game.reader.at_eof()
        await feeding
        await nothing_open()


@each_host
@pytest.mark.parametrize("make", [unix_pair, tcp_pair])
@quick
@given(
    stream=STREAM,
    cuts=st.lists(st.integers(0, 400), max_size=12),
    pauses=st.lists(st.integers(0, 4), min_size=1, max_size=4),
    limit=LIMITS,
    reads=st.lists(READ, max_size=25),
)
def test_any_reads_of_any_pieces_give_what_the_model_gives(host, make, stream, cuts, pauses, limit, reads):
    run_on(host, lambda: play(make, stream, cuts, pauses, limit, reads))


@each_host
@quick
@given(stream=STREAM, cuts=st.lists(st.integers(0, 400), max_size=12), limit=LIMITS)
def test_async_for_gives_any_stream_in_chunks_within_the_limit(host, stream, cuts, limit):
    async def chunks():
        ours, theirs = unix_pair()
        with theirs:
            theirs.setblocking(False)
            socket = await pybuntcp.connect(fd=ours.detach())
            socket.reader(limit=limit)
            feeding = asyncio.ensure_future(feed(theirs, cut(stream, cuts), [1]))
            got = [chunk async for chunk in socket]
            await feeding
            await nothing_open()
        assert b"".join(got) == stream
        assert all(1 <= len(chunk) <= limit for chunk in got)

    run_on(host, chunks)
