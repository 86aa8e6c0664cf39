"""[A3] What is written together leaves together.

Segments are counted by the kernel of the peer, system calls by the loop's own counters. asyncio sends each write at once, which
is why most of this is ours alone.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.asyncio_loops import not_in
from support.coroutines import done, seen, turns
from support.kernel import data_segments_received, pattern
from support.marks import linux_only
from support.protocols import Plain, host_is_ours_or_asyncio, on_ours, on_ours_and_asyncio
from support.streams import BIG, connected, either_side, no_tls_yet, slow, write_five

import pybuntcp

pytestmark = [no_tls_yet, pytest.mark.loops_that_stay]


def writes():
    """System calls that have sent something, in the loop that runs."""
    return pybuntcp.stats()["writes"]


async def one_callback(transport):
    asyncio.get_running_loop().call_soon(write_five, transport)


async def one_timer(transport):
    asyncio.get_running_loop().call_later(0.001, write_five, transport)


async def one_step_of_a_task(transport):
    write_five(transport)


async def several_tasks_of_a_turn(transport):
    async def write():
        transport.write(b"five ")

    await asyncio.gather(*(write() for _ in range(5)))


async def several_callbacks_of_a_turn(transport):
    for _ in range(5):
        asyncio.get_running_loop().call_soon(transport.write, b"five ")


async def another_thread(transport):
    await asyncio.get_running_loop().run_in_executor(
        None, asyncio.get_running_loop().call_soon_threadsafe, write_five, transport
    )


async def lines_and_writes(transport):
    transport.write(b"five ")
    transport.writelines([b"five ", b"five "])
    transport.write(b"five ")
    transport.writelines([b"five "])


TOGETHER = {
    each.__name__: each
    for each in (
        one_callback,
        one_timer,
        one_step_of_a_task,
        several_tasks_of_a_turn,
        several_callbacks_of_a_turn,
        another_thread,
        lines_and_writes,
    )
}


@on_ours
@either_side
@pytest.mark.parametrize("together", TOGETHER)
async def test_five_writes_leave_in_one_system_call(transport, side, together):
    protocol, peer = await side(transport)
    await turns(3)
    before = writes()
    await TOGETHER[together](protocol.transport)
    assert await done(peer.recv_exactly(25)) == 5 * b"five "
    assert writes() - before == 1


@linux_only
@on_ours
@pytest.mark.parametrize("together", TOGETHER)
async def test_five_writes_are_one_segment(tcp, together):
    protocol, peer = await connected(tcp)
    await TOGETHER[together](protocol.transport)
    assert await done(peer.recv_exactly(25)) == 5 * b"five "
    assert data_segments_received(peer.sock) == 1


@linux_only
@on_ours_and_asyncio
async def test_writes_of_several_turns_are_several_segments(tcp):
    protocol, peer = await connected(tcp)
    for _ in range(5):
        protocol.transport.write(b"five ")
        await turns(3)
    assert await done(peer.recv_exactly(25)) == 5 * b"five "
    assert data_segments_received(peer.sock) == 5


CALLS = {"made": "connection_made", "data": "data_received", "eof": "eof_received"}


@on_ours
@pytest.mark.parametrize("name", CALLS)
async def test_what_the_protocol_writes_in_one_call_leaves_in_one_system_call(transport, name):
    before = []

    def write(protocol, *_):
        before.append(writes())
        write_five(protocol.transport)

    _, peer = await connected(transport, Plain(**{CALLS[name]: write}))
    peer.send(b"ask")
    peer.shutdown()
    assert await done(peer.recv_exactly(25)) == 5 * b"five "
    assert writes() - before[0] == 1


@on_ours
async def test_an_answer_to_each_of_many_requests_of_one_read_is_one_system_call(transport):
    def answer(protocol, data):
        for _ in range(100):
            protocol.transport.write(b"answer")

    _, peer = await connected(transport, Plain(data_received=answer))
    await turns(3)
    before = writes()
    peer.send(b"a hundred requests")
    assert await done(peer.recv_exactly(600)) == 100 * b"answer"
    assert writes() - before == 1


@on_ours
async def test_a_large_write_takes_along_what_was_gathered_before_it(transport):
    protocol, peer = await connected(transport)
    before = writes()
    protocol.transport.write(b"small")
    protocol.transport.write(pattern(100_000))
    assert writes() - before == 1
    assert await done(peer.recv_exactly(100_005)) == b"small" + pattern(100_000)


@on_ours
async def test_large_lines_are_one_system_call(transport):
    protocol, peer = await connected(transport)
    before = writes()
    protocol.transport.writelines([pattern(10_000)] * 6)
    assert writes() - before == 1
    assert await done(peer.recv_exactly(60_000)) == 6 * pattern(10_000)


COUNTED = """
import asyncio, sys
import pybuntcp

class Five(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        for _ in range(5):
            self.transport.write(b"five ")

async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Five, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    for _ in range(20):
        writer.write(b"ask")
        await reader.readexactly(25)
    writer.close()
    await writer.wait_closed()
    server.close()

run = pybuntcp.run if sys.argv[1] == "native" else asyncio.run
run(main())
"""


@linux_only
@not_in("asyncio-ours", "the program makes its loop")
@not_in("uvloop-ours", "as above")
@host_is_ours_or_asyncio
def test_the_kernel_counts_one_call_for_five_writes(host, tmp_path, strace):
    sent = strace(COUNTED, host).count('"five ')
    assert sent == (20 if host == "native" else 100)


@pytest.fixture
def strace(tmp_path, no_leaks):
    """Run a program under strace(1); what it sent, a line a call."""
    tool = next((Path(folder) / "strace" for folder in os.get_exec_path() if (Path(folder) / "strace").exists()), None)
    if tool is None:
        pytest.skip("strace is not installed")
    return lambda program, *arguments: traced(tool, tmp_path / "log", program, *arguments)


def traced(tool, log, program, *arguments):
    command = [
        tool,
        "-f",
        "-o",
        log,
        "-e",
        "trace=write,sendto,sendmsg,writev",
        sys.executable,
        "-c",
        program,
        *arguments,
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    return log.read_text()


# ---------------------------------------------------------------- what is written counts, and does not stay


@on_ours
async def test_the_buffer_size_counts_what_is_gathered(transport):
    protocol, peer = await connected(transport)
    sizes = []
    for _ in range(3):
        protocol.transport.write(b"seven..")
        sizes.append(protocol.transport.get_write_buffer_size())
    await turns(3)
    assert sizes == [7, 14, 21]
    assert protocol.transport.get_write_buffer_size() == 0
    assert await done(peer.recv_exactly(21)) == 3 * b"seven.."


@on_ours_and_asyncio
async def test_the_buffer_size_counts_what_the_kernel_has_not_taken(transport):
    protocol, peer = await slow(transport)
    protocol.transport.write(bytes(BIG))
    waits = protocol.transport.get_write_buffer_size()
    assert 0 < waits < BIG
    protocol.transport.write(b"more")
    assert protocol.transport.get_write_buffer_size() == waits + 4
    await done(peer.recv_exactly(BIG + 4))
    await protocol.called("resume_writing")
    await seen(lambda: protocol.transport.get_write_buffer_size() == 0, "an empty buffer")


@on_ours_and_asyncio
async def test_after_abort_the_buffer_size_is_zero(transport):
    protocol, _ = await slow(transport)
    protocol.transport.write(bytes(BIG))
    protocol.transport.abort()
    assert protocol.transport.get_write_buffer_size() == 0
    await protocol.called("connection_lost")
    assert protocol.transport.get_write_buffer_size() == 0
