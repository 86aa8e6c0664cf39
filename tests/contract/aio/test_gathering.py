"""[A3] What is written together leaves together, and before anybody can see that it has not left.

Segments are counted by the kernel of the peer, system calls by the loop's own counters. asyncio sends each write at once, which
is why most of this is ours alone; the same tests in a stock loop, where they state that nothing is held back, are the control.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support.asyncio_loops import hosts, open_host, run_in
from support.coroutines import done, seen, turns
from support.kernel import data_segments_received, pattern, unread_bytes
from support.marks import linux_only
from support.protocols import Recording, connected, either_side, no_tls_yet, on_both, on_ours, slow

import pybuntcp

pytestmark = no_tls_yet

BIG = 1 << 22


def writes():
    """System calls that have sent something, in the loop that runs."""
    return pybuntcp.stats()["writes"]


def write_five(transport):
    for _ in range(5):
        transport.write(b"five ")


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
    protocol = Recording()
    peer = await side(transport, protocol)
    await turns(3)
    before = writes()
    await TOGETHER[together](protocol.transport)
    assert await done(peer.recv_exactly(25)) == 5 * b"five "
    assert writes() - before == 1


@linux_only
@on_ours
@pytest.mark.parametrize("together", TOGETHER)
async def test_five_writes_are_one_segment(tcp, together):
    protocol = Recording()
    peer = await connected(tcp, protocol)
    await TOGETHER[together](protocol.transport)
    assert await done(peer.recv_exactly(25)) == 5 * b"five "
    assert data_segments_received(peer.sock) == 1


@linux_only
@on_both
async def test_writes_of_several_turns_are_several_segments(tcp):
    protocol = Recording()
    peer = await connected(tcp, protocol)
    for _ in range(5):
        protocol.transport.write(b"five ")
        await turns(3)
    assert await done(peer.recv_exactly(25)) == 5 * b"five "
    assert data_segments_received(peer.sock) == 5


CALLS = ["made", "data", "eof"]


@on_ours
@pytest.mark.parametrize("name", CALLS)
async def test_what_the_protocol_writes_in_one_call_leaves_in_one_system_call(transport, name):
    before = []

    def write(protocol):
        before.append(writes())
        write_five(protocol.transport)

    protocol = Recording(**{name: write})
    peer = await connected(transport, protocol)
    peer.send(b"ask")
    peer.shutdown()
    assert await done(peer.recv_exactly(25)) == 5 * b"five "
    assert writes() - before[0] == 1


@on_ours
async def test_an_answer_to_each_of_many_requests_of_one_read_is_one_system_call(transport):
    def answer(protocol):
        for _ in range(100):
            protocol.transport.write(b"answer")

    protocol = Recording(data=answer)
    peer = await connected(transport, protocol)
    await turns(3)
    before = writes()
    peer.send(b"a hundred requests")
    assert await done(peer.recv_exactly(600)) == 100 * b"answer"
    assert writes() - before == 1


@on_ours
async def test_a_large_write_takes_along_what_was_gathered_before_it(transport):
    protocol = Recording()
    peer = await connected(transport, protocol)
    before = writes()
    protocol.transport.write(b"small")
    protocol.transport.write(pattern(100_000))
    assert writes() - before == 1
    assert await done(peer.recv_exactly(100_005)) == b"small" + pattern(100_000)


@on_ours
async def test_large_lines_are_one_system_call(transport):
    protocol = Recording()
    peer = await connected(transport, protocol)
    before = writes()
    protocol.transport.writelines([pattern(10_000)] * 6)
    assert writes() - before == 1
    assert await done(peer.recv_exactly(60_000)) == 6 * pattern(10_000)


# ---------------------------------------------------------------- what is written counts, and does not stay


@on_ours
async def test_the_buffer_size_counts_what_is_gathered(transport):
    protocol = Recording()
    peer = await connected(transport, protocol)
    sizes = []
    for _ in range(3):
        protocol.transport.write(b"seven..")
        sizes.append(protocol.transport.get_write_buffer_size())
    await turns(3)
    assert sizes == [7, 14, 21]
    assert protocol.transport.get_write_buffer_size() == 0
    assert await done(peer.recv_exactly(21)) == 3 * b"seven.."


@on_both
async def test_the_buffer_size_counts_what_the_kernel_has_not_taken(transport):
    protocol = Recording()
    peer = await slow(transport, protocol)
    protocol.transport.write(bytes(BIG))
    waits = protocol.transport.get_write_buffer_size()
    assert 0 < waits < BIG
    protocol.transport.write(b"more")
    assert protocol.transport.get_write_buffer_size() == waits + 4
    await done(peer.recv_exactly(BIG + 4))
    await protocol.until("resume")
    await seen(lambda: protocol.transport.get_write_buffer_size() == 0, "an empty buffer")


@on_both
async def test_after_abort_the_buffer_size_is_zero(transport):
    protocol = Recording()
    await slow(transport, protocol)
    protocol.transport.write(bytes(BIG))
    protocol.transport.abort()
    assert protocol.transport.get_write_buffer_size() == 0
    await protocol.until("lost")
    assert protocol.transport.get_write_buffer_size() == 0


@on_both
async def test_drain_of_a_stream_does_not_wait_for_what_is_only_gathered(tcp):
    server = tcp.raw_server()
    peer = server.accept()
    _reader, writer = await asyncio.open_connection(*server.sock.getsockname())
    for _ in range(100):
        writer.write(b"seven..")
        draining = writer.drain()
        with pytest.raises(StopIteration):
            draining.send(None)
    assert await done(peer.recv_exactly(700)) == 100 * b"seven.."
    writer.close()
    await writer.wait_closed()


# ---------------------------------------------------------------- it leaves before


@on_both
async def test_what_was_written_leaves_before_close(transport):
    protocol = Recording()
    peer = await connected(transport, protocol)
    write_five(protocol.transport)
    protocol.transport.close()
    assert unread_after_a_moment(peer) == 25
    assert await done(peer.recv_until_eof()) == 5 * b"five "


@on_both
async def test_what_was_written_leaves_before_write_eof(transport):
    protocol = Recording()
    peer = await connected(transport, protocol)
    write_five(protocol.transport)
    protocol.transport.write_eof()
    assert await done(peer.recv_until_eof()) == 5 * b"five "


@on_both
async def test_what_was_written_before_abort_has_left_as_far_as_the_kernel_took_it(transport):
    protocol = Recording()
    peer = await connected(transport, protocol)
    write_five(protocol.transport)
    protocol.transport.abort()
    assert await done(peer.recv_until_eof()) == 5 * b"five "


def unread_after_a_moment(peer):
    """Bytes that wait at the peer, though the loop of the test does not turn."""
    return peer.call(lambda: peer.sock.recv(1, socket.MSG_PEEK) and unread_bytes(peer.sock)).result()


@hosts("asyncio", "native")
def test_what_was_written_leaves_before_run_until_complete_returns(host, transport):
    async def write():
        peer = await connected(transport, protocol)
        write_five(protocol.transport)
        return peer

    protocol = Recording()
    with open_host(host) as loop:
        peer = run_in(loop, write)
        assert unread_after_a_moment(peer) == 25

        async def end():
            protocol.transport.abort()
            await protocol.until("lost")

        run_in(loop, end)


@hosts("asyncio", "native")
@pytest.mark.parametrize("order", ["write then stop", "stop then write"])
def test_what_was_written_leaves_before_the_loop_stops(host, transport, order):
    def last_callback(loop):
        if order == "stop then write":
            loop.stop()
        write_five(protocol.transport)
        if order == "write then stop":
            loop.stop()

    protocol = Recording()
    with open_host(host) as loop:
        peer = run_in(loop, lambda: connected(transport, protocol))
        loop.call_soon(last_callback, loop)
        loop.run_forever()
        assert unread_after_a_moment(peer) == 25

        async def end():
            protocol.transport.abort()
            await protocol.until("lost")

        run_in(loop, end)


@hosts("asyncio", "native")
def test_what_is_written_while_the_loop_does_not_run_leaves_at_once(host, transport):
    protocol = Recording()
    with open_host(host) as loop:
        peer = run_in(loop, lambda: connected(transport, protocol))
        protocol.transport.write(b"five ")
        protocol.transport.writelines([b"five ", b"five "])
        assert unread_after_a_moment(peer) == 15
        protocol.transport.write(b"five ")
        protocol.transport.close()

        async def end():
            await protocol.until("lost")
            return await done(peer.recv_until_eof())

        assert run_in(loop, end) == 4 * b"five "


async def own_socket(transport, protocol):
    """A connection of a program's own socket, which it still knows; (the socket, the peer)."""
    server = transport.raw_server()
    peer = server.accept()
    mine = socket.socket(server.sock.family)
    mine.connect(server.sock.getsockname())
    mine.setblocking(False)
    await asyncio.get_running_loop().create_connection(lambda: protocol, sock=mine)
    transport.at_end(protocol.transport.abort)
    await done(peer.connected)
    return mine, peer


@on_both
async def test_what_was_written_leaves_before_sock_sendall_of_the_same_socket(transport):
    protocol = Recording()
    mine, peer = await own_socket(transport, protocol)
    write_five(protocol.transport)
    await asyncio.get_running_loop().sock_sendall(mine, b"past the transport")
    assert await done(peer.recv_exactly(43)) == 5 * b"five " + b"past the transport"


@on_both
@pytest.mark.parametrize("into", [False, True])
async def test_what_was_written_leaves_before_sock_recv_of_the_same_socket(transport, into):
    loop, protocol = asyncio.get_running_loop(), Recording()
    mine, peer = await own_socket(transport, protocol)
    protocol.transport.pause_reading()
    peer.send(b"there")
    await seen(lambda: unread_bytes(mine) == 5, "bytes to read")
    write_five(protocol.transport)
    memory = bytearray(5)
    if into:
        assert await loop.sock_recv_into(mine, memory) == 5
    else:
        memory = await loop.sock_recv(mine, 5)
    assert memory == b"there"
    assert unread_after_a_moment(peer) == 25


@on_both
async def test_a_sock_call_that_would_have_to_wait_is_refused_for_a_transports_socket(transport):
    protocol = Recording()
    mine, _ = await own_socket(transport, protocol)
    protocol.transport.pause_reading()
    with pytest.raises(RuntimeError, match=rf"^File descriptor {mine.fileno()} is used by transport <"):
        await asyncio.get_running_loop().sock_recv(mine, 5)
    for add in (asyncio.get_running_loop().add_reader, asyncio.get_running_loop().add_writer):
        with pytest.raises(RuntimeError, match=r"is used by transport <"):
            add(mine, print)


@on_both
@either_side
async def test_what_was_written_leaves_before_a_file_that_is_sent(transport, side, tmp_path):
    protocol = Recording()
    peer = await side(transport, protocol)
    (tmp_path / "file").write_bytes(pattern(100_000))
    with (tmp_path / "file").open("rb") as file:
        write_five(protocol.transport)
        sent = asyncio.ensure_future(asyncio.get_running_loop().sendfile(protocol.transport, file))
        received = await done(peer.recv_exactly(100_025))
        assert await sent == 100_000
    assert received == 5 * b"five " + pattern(100_000)
    protocol.transport.write(b"after")
    assert await done(peer.recv_exactly(5)) == b"after"


@on_both
async def test_a_file_is_sent_after_all_that_was_pending(transport):
    protocol = Recording()
    peer = await slow(transport, protocol)
    with tempfile.TemporaryFile() as file:
        file.write(pattern(1 << 20))
        file.seek(0)
        protocol.transport.write(pattern(BIG))
        sent = asyncio.ensure_future(asyncio.get_running_loop().sendfile(protocol.transport, file))
        await turns(3)
        with pytest.raises(RuntimeError, match=r"^unable to write; sendfile is in progress$"):
            protocol.transport.write(b"between")
        assert await done(peer.recv_exactly(BIG + (1 << 20))) == pattern(BIG) + pattern(1 << 20)
        assert await sent == 1 << 20


@on_both
async def test_what_was_written_leaves_while_a_thread_is_awaited(transport):
    protocol = Recording()
    peer = await connected(transport, protocol)
    write_five(protocol.transport)
    got = asyncio.get_running_loop().run_in_executor(None, peer.recv_exactly(25).result)
    assert await got == 5 * b"five "


@on_both
async def test_what_was_written_leaves_while_a_process_is_awaited(transport):
    protocol = Recording()
    peer = await connected(transport, protocol)
    write_five(protocol.transport)
    script = f"import socket; print(socket.socket(fileno={peer.sock.fileno()}).recv(99))"
    peer.sock.setblocking(True)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=subprocess.PIPE, pass_fds=[peer.sock.fileno()]
    )
    assert (await process.communicate())[0].decode().strip() == repr(5 * b"five ")


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
@hosts("asyncio", "native")
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
