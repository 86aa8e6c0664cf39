"""Contract, Listening (L2, L4): a listening socket that another owner shut down, or whose descriptor is gone, ends its listener.

It is said once, in the asyncio loop's exception handler or `sys.unraisablehook`, and nothing turns for it any more.
"""

from __future__ import annotations

import errno
import os
import socket as stdlib

import pytest
from support import Recorder, linux_only
from support.asyncio_loops import on_every_loop
from support.coroutines import LOCAL, seen
from support.handlers import ECHO

import pybuntcp

pytestmark = linux_only  # what shutdown does to a socket that listens is each system's own

SHUT = pytest.mark.parametrize("how", [stdlib.SHUT_RD, stdlib.SHUT_RDWR], ids=["SHUT_RD", "SHUT_RDWR"])


def shut_down(fd, how=stdlib.SHUT_RDWR):
    """As another process would that was given a copy."""
    with stdlib.socket(fileno=os.dup(fd)) as copy:
        copy.shutdown(how)


def ended(loop):
    """Turn until nothing is left; what was reported."""
    with loop.reports() as reports:
        loop.run()
    return reports


@SHUT
def test_a_listener_that_was_shut_down_elsewhere_ends_and_says_so_once(loop, transport, how):
    listener = transport.listen(ECHO)
    name = listener.unix or listener.hostname
    shut_down(listener.fd, how)
    (error,) = ended(loop)
    assert isinstance(error, OSError)
    assert (error.errno, error.code, error.syscall) == (errno.EINVAL, "EINVAL", "accept")
    assert (error.address, error.port) == (name, listener.port)
    assert listener.fd == -1
    assert "stopped" in repr(listener)
    assert listener.stats()["accept_errors"] == 1
    listener.stop(True)


def test_one_that_was_shut_down_while_the_loop_waited_ends_too(loop, transport):
    recorder = Recorder()
    listener = transport.listen(recorder)
    peer = transport.peer(listener)
    loop.run_until(lambda: recorder.sockets)
    loop.wait(peer.connected)
    job = peer.call(shut_down, listener.fd)
    with loop.reports() as reports:
        loop.wait(job)
        while listener.fd != -1:
            loop.settle()
    assert [error.errno for error in reports] == [errno.EINVAL]
    assert listener.connections == 1  # open connections live on
    peer.send(b"still here")
    loop.run_until(lambda: recorder.received() == b"still here")
    peer.close()
    loop.run()


def test_what_waited_at_a_unix_listener_is_accepted_before_it_ends(loop, unix):
    """The kernel resets what waits at a TCP one."""
    recorder = Recorder(data=lambda socket, chunk: socket.terminate())
    listener = unix.listen(recorder)
    peers = [unix.peer(listener) for _ in range(3)]
    for peer in peers:
        peer.connected.result()
        peer.send(b"hello").result()
    shut_down(listener.fd)
    reports = ended(loop)
    assert recorder.count("open") == 3
    assert recorder.received() == b"hello" * 3
    assert len(reports) == 1
    assert not os.path.exists(listener.unix)


def test_a_listener_that_rests_at_max_connections_learns_of_it_when_it_accepts_again(loop, transport):
    recorder = Recorder(data=lambda socket, chunk: socket.end(chunk))
    listener = transport.listen(recorder, max_connections=1)
    peer = transport.peer(listener)
    loop.run_until(lambda: recorder.sockets)
    loop.wait(peer.connected)
    shut_down(listener.fd)
    peer.send(b"x")
    peer.recv_exactly(1)
    peer.shutdown()
    assert len(ended(loop)) == 1
    assert listener.fd == -1


def test_a_descriptor_that_is_another_file_by_now_ends_the_listener_and_is_left_alone(loop, tcp):
    listener = tcp.listen(ECHO)
    loop.settle()  # the kernel watches it
    fd, copy = listener.fd, os.dup(listener.fd)  # the copy has the kernel go on telling of the number
    try:
        with open(os.devnull) as file, stdlib.socket() as client:
            os.dup2(file.fileno(), fd)
            client.connect(("127.0.0.1", listener.port))
            (error,) = ended(loop)
        assert error.errno == errno.ENOTSOCK
        assert listener.fd == -1
        assert os.fstat(fd).st_rdev == os.stat(os.devnull).st_rdev
    finally:
        os.close(copy)
        os.close(fd)


@on_every_loop
async def test_who_waits_for_the_listener_to_be_closed_goes_on():
    told = []
    import asyncio

    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    listener = pybuntcp.listen(socket=Recorder().handlers, **LOCAL)
    shut_down(listener.fd)
    await seen(lambda: listener.fd == -1, "the end of the listener")
    assert await listener.wait_closed() == 0
    (context,) = told
    assert context["socket"] is listener
    assert "listener" in context["message"]
