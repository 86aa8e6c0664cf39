"""What is written over TLS: types, order, sizes; water marks and the calls of a protocol that they make.

asyncio counts what the TLS layer has not encrypted yet and the transport below it counts the rest, so how much is buffered
when is its own business: one large write does not pause there, the next one does. What must agree is that pauses and resumptions alternate, begin with a pause, end as they should,
and that every byte arrives.
"""

from __future__ import annotations

import array
import asyncio
import socket
import ssl

import pytest
from support.differential import as_on_asyncio
from support.kernel import pattern
from support.protocols import Plain, on_ours
from support.streams import address_of, small_buffer
from support.tls_end import quiet
from support.tls_peer import client_context, server_context
from support.tls_sides import SIDES, each_side

BIG = 1 << 20  # more than the kernels of both ends take, whose buffers are small
TWICE = 2 * pattern(BIG)


def write_twice(transport):
    """Enough that the protocol is paused by it."""
    transport.write(pattern(BIG))
    transport.write(pattern(BIG))


# ---------------------------------------------------------------- data

DATA = {
    "bytes": b"data",
    "bytearray": bytearray(b"data"),
    "memoryview": memoryview(b"data"),
    "a part of a view": memoryview(b"<data>")[1:5],
    "an array": array.array("B", b"data"),
    "a string": "data",
    "none": None,
    "a number": 5,
    "a list": [b"data"],
    "nothing": b"",
    "an empty view": memoryview(b""),
    "an empty string": "",
    "a view of shorts": memoryview(array.array("H", [1, 2, 3])),
    "a view of two dimensions": memoryview(b"datadata").cast("B", (2, 4)),
}


@pytest.mark.parametrize("kind", DATA)
@as_on_asyncio
async def test_each_type_of_data_is_taken_or_refused_as_by_asyncio(notes, tls, kind):
    """What is refused late, as a fatal error, is so here: the connection is lost with it."""
    async with tls.accepted_tls(notes.plain("us")) as (protocol, end):
        notes.raised("write", protocol.transport.write, DATA[kind])
        notes.raised("write", protocol.transport.write, b" and after")
        await quiet()
        notes("peer", bytes(end.data))
        notes("us", "state", protocol.transport.is_closing())


@as_on_asyncio
async def test_what_a_program_writes_by_the_ssl_object_leaves_with_the_next_write(notes, tls):
    async with tls.accepted_tls(notes.plain("us")) as (protocol, end):
        notes("us", "wrote", protocol.transport.get_extra_info("ssl_object").write(b"by itself, "))
        protocol.transport.write(b"and after")
        await quiet()
        notes("peer", bytes(end.data))


LINES = {
    "several": [b"one ", bytearray(b"two "), memoryview(b"three")],
    "none": [],
    "empty ones": [b"", b"x", b""],
    "only empty ones": [b"", b""],
    "a tuple": (b"one", b"two"),
    "a generator": "generator",
    "a number": 5,
    "nothing": None,
}


@pytest.mark.parametrize("kind", LINES)
@as_on_asyncio
async def test_each_list_of_lines_is_taken_or_refused_as_by_asyncio(notes, tls, kind):
    lines = (each for each in (b"one ", b"two")) if kind == "a generator" else LINES[kind]
    async with tls.accepted_tls(notes.plain("us")) as (protocol, end):
        notes.raised("writelines", protocol.transport.writelines, lines)
        notes.raised("write", protocol.transport.write, b" and after")
        await quiet()
        notes("peer", bytes(end.data))
        notes("us", "state", protocol.transport.is_closing())


WRONG = {
    "bytes": (b"ab", TypeError),
    "a string": ("ab", TypeError),
    "strings": (["one", "two"], TypeError),
    "one that is wrong": ([b"right", "wrong"], TypeError),
    "a view with a stride": ([memoryview(b"d-a-t-a-")[::2]], BufferError),
}


@pytest.mark.parametrize("kind", WRONG)
@on_ours
async def test_what_asyncio_refuses_late_and_fatally_is_refused_at_once(tls, kind):
    protocol = Plain()
    lines, error = WRONG[kind]
    async with tls.accepted_tls(protocol) as (_, end):
        with pytest.raises(error):
            protocol.transport.writelines(lines)
        protocol.transport.write(b"after it")
        await end.received(b"after it")


@each_side
@as_on_asyncio
async def test_a_buffer_that_changes_after_write_has_been_sent_as_it_was(notes, tls, side):
    async with SIDES[side](tls, notes.plain("us")) as (protocol, end):
        buffer = bytearray(b"as it was")
        protocol.transport.write(buffer)
        buffer[:] = b"otherwise"
        await end.received(b"as it was")


@pytest.mark.parametrize("size", [1, 16383, 16384, 16385, 65536, 100_000, 1_000_000])
@each_side
@as_on_asyncio
async def test_each_size_arrives_whole(notes, tls, side, size):
    async with SIDES[side](tls, notes.plain("us")) as (protocol, end):
        protocol.transport.write(pattern(size))
        await end.received(pattern(size))
        await quiet()
        assert protocol.transport.get_write_buffer_size() == 0


@each_side
@as_on_asyncio
async def test_a_thousand_small_writes_arrive_in_their_order(notes, tls, side):
    words = [b"%d, " % number for number in range(1000)]
    async with SIDES[side](tls, notes.plain("us")) as (protocol, end):
        for number, word in enumerate(words):
            protocol.transport.write(word)
            if number % 100 == 0:
                await asyncio.sleep(0)
        await end.received(b"".join(words))


@each_side
@as_on_asyncio
async def test_write_eof_is_refused(notes, tls, side):
    async with SIDES[side](tls, notes.plain("us")) as (protocol, end):
        notes("can", protocol.transport.can_write_eof())
        notes.raised("write_eof", protocol.transport.write_eof)
        protocol.transport.write(b"goes on")
        await end.received(b"goes on")
    assert notes.seen["can"] == [[False]]


# ---------------------------------------------------------------- water marks


def alternate(calls):
    """Whether pauses and resumptions of these come one after the other, a pause first."""
    marks = [name for name in calls if name.endswith("_writing")]
    return all(name == ("pause_writing", "resume_writing")[at % 2] for at, name in enumerate(marks))


@each_side
@as_on_asyncio
async def test_what_a_slow_peer_leaves_pauses_and_what_it_takes_resumes(notes, tls, side):
    async with SIDES[side](tls, notes.plain("us")) as (protocol, end):
        end.deaf()
        small_buffer(protocol.transport)
        write_twice(protocol.transport)
        notes("us", "paused", protocol.log[-1], protocol.transport.get_write_buffer_size() > 0)
        await quiet()
        end.listen()
        await end.received(TWICE)
        await protocol.until(lambda: protocol.log[-1] == "resume_writing")
        await quiet()
        notes("us", "buffered", protocol.transport.get_write_buffer_size())
        assert alternate(protocol.log)
    assert notes.names("us").count("pause_writing") >= 1
    notes.seen["us"] = [entry for entry in notes.seen["us"] if not entry[0].endswith("_writing")]


@each_side
@as_on_asyncio
async def test_a_protocol_that_heeds_its_pauses_never_buffers_more_than_a_piece_beyond_the_mark(notes, tls, side):
    notes.leave_out_flow_control()
    async with SIDES[side](tls, notes.plain("us")) as (protocol, end):
        small_buffer(protocol.transport)
        protocol.transport.set_write_buffer_limits(high=100_000)
        sent, piece, most = 0, 10_000, 0
        while sent < BIG:
            if protocol.log[-1] == "pause_writing":
                await protocol.until(lambda: protocol.log[-1] == "resume_writing")
            protocol.transport.write(pattern(BIG)[sent : sent + piece])
            sent += piece
            most = max(most, protocol.transport.get_write_buffer_size())
        await end.received(pattern(BIG))
        assert alternate(protocol.log)
        notes("most", most <= 100_000 + 2 * piece)


MARKS = [
    {},
    {"high": 1000},
    {"low": 1000},
    {"high": 1000, "low": 10},
    {"high": 0},
    {"high": 0, "low": 0},
    {"high": 10, "low": 10},
    {"high": 10, "low": 20},
    {"high": -1},
    {"high": 10, "low": -1},
    {"high": 1 << 40},
    {"high": "x"},
    {"high": 1.5},
]


@pytest.mark.parametrize("marks", MARKS, ids=str)
@as_on_asyncio
async def test_marks_are_taken_or_refused_as_by_asyncio(notes, tls, marks):
    notes.leave_out_flow_control()  # with 0, asyncio pauses where nothing is pending
    async with tls.accepted_tls(notes.plain("us")) as (protocol, _):
        transport = protocol.transport
        before = transport.get_write_buffer_limits()
        notes.raised("set", transport.set_write_buffer_limits, **marks)
        after = transport.get_write_buffer_limits()
        if marks and isinstance(marks.get("high", 0), int):
            notes("limits", after if after != before else "as before")


@each_side
@as_on_asyncio
async def test_new_marks_pause_and_resume_at_once(notes, tls, side):
    async with SIDES[side](tls, notes.plain("us")) as (protocol, end):
        end.deaf()
        small_buffer(protocol.transport)
        while protocol.log[-1] != "pause_writing":
            protocol.transport.write(pattern(10_000))
        size = protocol.transport.get_write_buffer_size()
        for marks in ((size + 2048, size + 1), (size - 2048, 0), (size + 2048, size + 1)):
            protocol.transport.set_write_buffer_limits(*marks)
            notes("last", protocol.log[-1])
        assert protocol.log[-3:] == ["resume_writing", "pause_writing", "resume_writing"]
        protocol.transport.abort()
        await protocol.called("connection_lost")


@as_on_asyncio
async def test_the_marks_are_half_a_megabyte_and_a_quarter_of_that(notes, tls):
    async with tls.accepted_tls(notes.plain("us")) as (protocol, _):
        notes("limits", protocol.transport.get_write_buffer_limits())
        assert protocol.transport.get_write_buffer_limits() == (128 * 1024, 512 * 1024)


READ_MARKS = [{}, {"high": 1000}, {"low": 1000}, {"high": 10, "low": 20}, {"high": -1}, {"high": 0}]


@pytest.mark.parametrize("marks", READ_MARKS, ids=str)
@as_on_asyncio
async def test_marks_for_reading_are_taken_or_refused_as_by_asyncio(notes, tls, marks):
    async with tls.accepted_tls(notes.plain("us")) as (protocol, end):
        transport = protocol.transport
        notes("limits", transport.get_read_buffer_limits())
        notes.raised("set", transport.set_read_buffer_limits, **marks)
        notes("limits", transport.get_read_buffer_limits())
        notes("size", transport.get_read_buffer_size())
        if marks != {"high": 0}:  # for a mark of zero asyncio pauses for ever
            end.write(b"still read")
            await protocol.received(b"still read")


@pytest.mark.parametrize("verb", ["close", "abort"])
@as_on_asyncio
async def test_a_pause_writing_that_ends_the_connection(notes, tls, verb):
    def leave(protocol):
        getattr(protocol.transport, verb)()

    async with tls.accepted_tls(notes.plain("us", pause_writing=leave)) as (protocol, end):
        small_buffer(protocol.transport)
        notes.raised("write", write_twice, protocol.transport)
        await protocol.called("connection_lost")
        await end.is_over()
    assert notes.names("us").count("connection_lost") == 1
    notes.seen["us"] = [entry for entry in notes.seen["us"] if entry[0] != "resume_writing"]


@pytest.mark.parametrize("method", ["pause_writing", "resume_writing"])
@as_on_asyncio
async def test_an_exception_in_a_mark_is_reported_and_the_connection_goes_on(notes, tls, method):
    """asyncio's `protocol` in that report is its own SSLProtocol."""
    notes.leave_out_flow_control()
    called = []

    def fail(protocol):
        if not called:
            called.append(method)
            raise ZeroDivisionError(method)

    async with tls.accepted_tls(notes.plain("us", **{method: fail})) as (protocol, end):
        small_buffer(protocol.transport)
        write_twice(protocol.transport)
        await end.received(TWICE)
        await protocol.called("resume_writing")
        protocol.transport.write(b"more")
        await end.received(TWICE + b"more")
    assert len(notes.reports) == 1


@each_side
@as_on_asyncio
async def test_the_drain_of_a_stream_waits_for_a_slow_peer(notes, tls, side):
    reader = asyncio.StreamReader()
    protocol = notes.plain("us")
    async with SIDES[side](tls, protocol) as (protocol, end):
        streamed = asyncio.StreamReaderProtocol(reader)
        protocol.transport.set_protocol(streamed)
        streamed.connection_made(protocol.transport)
        writer = asyncio.StreamWriter(protocol.transport, streamed, reader, asyncio.get_running_loop())
        end.deaf()
        small_buffer(protocol.transport)
        writer.write(pattern(BIG))
        writer.write(pattern(BIG))
        draining = asyncio.ensure_future(writer.drain())
        await quiet()
        notes("drained", draining.done())
        end.listen()
        await draining
        await end.received(TWICE)
        protocol.transport.set_protocol(protocol)
    assert notes.seen["drained"] == [[False]]


@as_on_asyncio
async def test_both_ends_write_much_at_once(notes, tls):
    """Neither waits for the other: what is read is read while what is written waits."""
    server, client = notes.plain("server"), notes.plain("client")
    async with tls.served(lambda: server, ssl=server_context()) as listening:
        transport, _ = await tls.connect_tls(client, address_of(listening))
        await server.called("connection_made")
        for protocol in (server, client):
            small_buffer(protocol.transport)
            protocol.transport.write(pattern(BIG))
        await asyncio.gather(server.received(pattern(BIG)), client.received(pattern(BIG)))
        transport.close()
        await client.called("connection_lost")
        await server.called("connection_lost")
    for who in ("server", "client"):  # where the pauses lie is the kernel's business
        assert alternate(notes.names(who))
        notes.seen[who] = [name for name in notes.names(who) if name in ("connection_made", "connection_lost")]


# ---------------------------------------------------------------- a peer that has gone


@on_ours
@pytest.mark.parametrize("size", [100, 70_000, 300_000])
@pytest.mark.parametrize("method", ["write", "writelines"])
async def test_a_write_to_a_peer_that_has_gone_raises_nothing(size, method):
    """Of a large one, the kernel takes the first records, and refuses the next when the peer has answered with a reset."""
    loop, made = asyncio.get_running_loop(), asyncio.Queue()

    class Told(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport, self.lost = transport, loop.create_future()
            made.put_nowait(self)

        def connection_lost(self, error):
            self.lost.set_result(error)

    def dialled(address):
        sock = socket.create_connection(address)
        return client_context(ssl.TLSVersion.TLSv1_2).wrap_socket(sock, server_hostname="localhost")

    server = await loop.create_server(Told, "127.0.0.1", 0, ssl=server_context())
    peer = await loop.run_in_executor(None, dialled, address_of(server))
    protocol = await made.get()
    peer.close()  # and the loop has not turned since
    if method == "write":
        protocol.transport.write(pattern(size))
    else:
        protocol.transport.writelines([pattern(size // 2), pattern(size // 2)])
    await protocol.lost
    server.close()
