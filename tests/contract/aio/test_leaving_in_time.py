"""[A3] What is written leaves before anybody can see that it has not left.

asyncio sends each write at once: the same tests in a stock loop, where they state that nothing is held back, are the control.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import tempfile

import pytest
from support.asyncio_loops import not_in, open_host, run_in
from support.coroutines import done, seen, turns
from support.kernel import pattern, unread_bytes
from support.protocols import Plain, host_is_ours_or_asyncio, on_ours_and_asyncio
from support.streams import BIG, abort, connected, either_side, goes_on, no_tls_yet, slow, write_five

pytestmark = [no_tls_yet, pytest.mark.loops_that_stay]


async def five_written(transport):
    protocol, peer = await connected(transport)
    write_five(protocol.transport)
    return protocol, peer


# ---------------------------------------------------------------- before the connection ends


@on_ours_and_asyncio
async def test_what_was_written_leaves_before_close(transport):
    protocol, peer = await five_written(transport)
    protocol.transport.close()
    assert unread_after_a_moment(peer) == 25
    assert await done(peer.recv_until_eof()) == 5 * b"five "


@on_ours_and_asyncio
async def test_what_was_written_leaves_before_write_eof(transport):
    protocol, peer = await five_written(transport)
    protocol.transport.write_eof()
    assert await done(peer.recv_until_eof()) == 5 * b"five "


@on_ours_and_asyncio
async def test_what_was_written_before_abort_has_left_as_far_as_the_kernel_took_it(transport):
    protocol, peer = await five_written(transport)
    protocol.transport.abort()
    assert await done(peer.recv_until_eof()) == 5 * b"five "


# ---------------------------------------------------------------- while the loop does not turn


def unread_after_a_moment(peer):
    """Bytes that wait at the peer, though the loop of the test does not turn."""
    return peer.call(lambda: peer.sock.recv(1, socket.MSG_PEEK) and unread_bytes(peer.sock)).result()


@host_is_ours_or_asyncio
def test_what_was_written_leaves_before_run_until_complete_returns(host, transport):
    with open_host(host) as loop:
        protocol, peer = run_in(loop, lambda: five_written(transport))
        assert unread_after_a_moment(peer) == 25
        run_in(loop, lambda: abort(protocol))


@host_is_ours_or_asyncio
@pytest.mark.parametrize("order", ["write then stop", "stop then write"])
@pytest.mark.parametrize("by_timer", [False, True], ids=["callback", "timer"])
def test_what_was_written_leaves_before_the_loop_stops(host, transport, order, by_timer):
    def last_callback(loop):
        if order == "stop then write":
            loop.stop()
        write_five(protocol.transport)
        if order == "write then stop":
            loop.stop()

    with open_host(host) as loop:
        protocol, peer = run_in(loop, lambda: connected(transport))
        if by_timer:
            loop.call_later(0.001, last_callback, loop)  # no turn of ours follows it
        else:
            loop.call_soon(last_callback, loop)
        loop.run_forever()
        assert unread_after_a_moment(peer) == 25
        run_in(loop, lambda: abort(protocol))


@host_is_ours_or_asyncio
def test_what_is_written_while_the_loop_does_not_run_leaves_at_once(host, transport):
    with open_host(host) as loop:
        protocol, peer = run_in(loop, lambda: connected(transport))
        protocol.transport.write(b"five ")
        protocol.transport.writelines([b"five ", b"five "])
        assert unread_after_a_moment(peer) == 15
        protocol.transport.write(b"five ")
        protocol.transport.close()

        async def end():
            await protocol.called("connection_lost")
            return await done(peer.recv_until_eof())

        assert run_in(loop, end) == 4 * b"five "


@on_ours_and_asyncio
async def test_what_was_written_leaves_while_a_thread_is_awaited(transport):
    _, peer = await five_written(transport)
    got = asyncio.get_running_loop().run_in_executor(None, peer.recv_exactly(25).result)
    assert await got == 5 * b"five "


@on_ours_and_asyncio
async def test_what_was_written_leaves_while_a_process_is_awaited(transport):
    _, peer = await five_written(transport)
    script = f"import socket; print(socket.socket(fileno={peer.sock.fileno()}).recv(99))"
    peer.sock.setblocking(True)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=subprocess.PIPE, pass_fds=[peer.sock.fileno()]
    )
    assert (await process.communicate())[0].decode().strip() == repr(5 * b"five ")


# ---------------------------------------------------------------- before the program uses the socket itself


async def own_socket(transport):
    """A connection of a program's own socket, which it still knows; (the protocol, the socket, the peer)."""
    protocol = Plain()
    server = transport.raw_server()
    peer = server.accept()
    mine = socket.socket(server.sock.family)
    mine.connect(server.sock.getsockname())
    mine.setblocking(False)
    await asyncio.get_running_loop().create_connection(lambda: protocol, sock=mine)
    transport.at_end(protocol.transport.abort)
    await done(peer.connected)
    return protocol, mine, peer


@on_ours_and_asyncio
async def test_what_was_written_leaves_before_sock_sendall_of_the_same_socket(transport):
    protocol, mine, peer = await own_socket(transport)
    write_five(protocol.transport)
    await asyncio.get_running_loop().sock_sendall(mine, b"past the transport")
    assert await done(peer.recv_exactly(43)) == 5 * b"five " + b"past the transport"


@on_ours_and_asyncio
@pytest.mark.parametrize("into", [False, True])
async def test_what_was_written_leaves_before_sock_recv_of_the_same_socket(transport, into):
    loop = asyncio.get_running_loop()
    protocol, mine, peer = await own_socket(transport)
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


@not_in("uvloop-ours", "uvloop knows the descriptors of its own transports alone")
@on_ours_and_asyncio
async def test_a_sock_call_that_would_have_to_wait_is_refused_for_a_transports_socket(transport):
    protocol, mine, _ = await own_socket(transport)
    protocol.transport.pause_reading()
    with pytest.raises(RuntimeError, match=rf"^File descriptor {mine.fileno()} is used by transport <"):
        await asyncio.get_running_loop().sock_recv(mine, 5)
    for add in (asyncio.get_running_loop().add_reader, asyncio.get_running_loop().add_writer):
        with pytest.raises(RuntimeError, match=r"is used by transport <"):
            add(mine, print)


# ---------------------------------------------------------------- before a file


@on_ours_and_asyncio
@either_side
async def test_what_was_written_leaves_before_a_file_that_is_sent(transport, side, tmp_path):
    protocol, peer = await side(transport)
    (tmp_path / "file").write_bytes(pattern(100_000))
    with (tmp_path / "file").open("rb") as file:
        write_five(protocol.transport)
        sent = asyncio.ensure_future(asyncio.get_running_loop().sendfile(protocol.transport, file))
        received = await done(peer.recv_exactly(100_025))
        assert await sent == 100_000
    assert received == 5 * b"five " + pattern(100_000)
    await goes_on(protocol, peer)


@on_ours_and_asyncio
async def test_a_file_is_sent_after_all_that_was_pending(transport):
    protocol, peer = await slow(transport)
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
