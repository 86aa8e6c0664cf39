"""Contract, Listening (L5): adopted descriptors, listening and connected, and bad ones."""

from __future__ import annotations

import errno
import os
import socket as stdlib

import pytest
from support import Peer, Recorder, descriptors
from support_more import (
    ECHO,
    QUIET,
    answers,
    connect,
    refusal,
)

import pybuntcp


def listening(transport):
    sock = transport.raw_listener()
    sock.listen(8)
    return sock


def test_l5_a_listening_descriptor_is_adopted_and_served(loop, transport):
    with listening(transport) as sock:
        address = sock.getsockname()
        fd = sock.detach()
    listener = pybuntcp.listen(fd=fd, socket=ECHO, **transport.server_options)
    with listener:
        assert listener.fd == fd
        if transport.name != "unix":
            assert listener.port == address[1]
        with Peer(lambda: transport.wrapped(raw_client(transport, address))) as peer:
            peer.send(b"hello")
            assert loop.wait(peer.recv_exactly(5)) == b"hello"
    loop.run()


def raw_client(transport, address):
    client = stdlib.socket(stdlib.AF_UNIX if transport.name == "unix" else stdlib.AF_INET)
    client.connect(address)
    return client


def test_l5_an_adopted_listening_descriptor_is_closed_at_stop(loop, transport):
    sock = listening(transport)
    fd = sock.detach()
    listener = pybuntcp.listen(fd=fd, socket=QUIET)
    listener.stop()
    loop.run()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_l5_the_file_of_an_adopted_unix_socket_is_not_ours_to_remove(loop, unix):
    sock = listening(unix)
    path = sock.getsockname()
    pybuntcp.listen(fd=sock.detach(), socket=QUIET).stop(True)
    loop.run()
    assert os.path.exists(path)


def a_bound_socket():
    with stdlib.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.detach()


def a_connected_socket():
    one, other = stdlib.socketpair()
    other.close()
    return one.detach()


BAD_DESCRIPTORS = {
    "no socket": lambda: os.open(os.devnull, os.O_RDWR),
    "a directory": lambda: os.open("/", os.O_RDONLY),
    "a datagram socket": lambda: stdlib.socket(stdlib.AF_INET, stdlib.SOCK_DGRAM).detach(),
    "a connected socket": a_connected_socket,
    "a socket that does not listen": a_bound_socket,
}


@pytest.mark.parametrize("make", BAD_DESCRIPTORS.values(), ids=list(BAD_DESCRIPTORS))
def test_l5_a_bad_descriptor_is_an_os_error_and_is_not_closed(make):
    fd = make()
    try:
        before = os.fstat(fd)
        blocking = os.get_blocking(fd)
        error = refusal(fd=fd)
        assert error.errno in (errno.EINVAL, errno.ENOTSOCK, errno.EOPNOTSUPP, errno.EISCONN)
        assert error.syscall == "listen"
        assert os.path.samestat(os.fstat(fd), before)
        assert os.get_blocking(fd) == blocking
    finally:
        os.close(fd)


@pytest.mark.parametrize("past_the_last", [1000, None])
def test_l5_a_number_that_is_no_descriptor_is_ebadf(past_the_last):
    error = refusal(fd=max(descriptors()) + past_the_last if past_the_last else -1)
    assert (error.errno, error.code, error.syscall) == (errno.EBADF, "EBADF", "listen")


def test_l5_a_connected_descriptor_is_adopted_by_connect(loop, transport):
    raw = transport.raw_server()
    target = raw.sock.getsockname()
    mine = raw_client(transport, target)
    peer = raw.accept()
    local = mine.getsockname()
    fd = mine.detach()
    recorder = Recorder()
    pybuntcp.connect(fd=fd, socket=recorder.handlers, **transport.client_options)
    loop.run_until(lambda: recorder.sockets)
    assert recorder.socket.fileno() == fd
    if transport.name != "unix":
        assert (recorder.socket.local_address, recorder.socket.local_port) == local
        assert (recorder.socket.remote_address, recorder.socket.remote_port) == target
    peer.send(b"hello")
    loop.run_until(lambda: recorder.received() == b"hello")
    recorder.socket.close()
    loop.run_until(lambda: recorder.count("close"))
    assert recorder.socket.fileno() == -1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_l5_an_adopted_descriptor_does_not_block(loop, transport):
    """It came from a blocking socket: the loop must serve others while its peer is silent."""
    sock = listening(transport)
    sock.setblocking(True)
    address = sock.getsockname()
    with raw_client(transport, address), pybuntcp.listen(fd=sock.detach(), socket=QUIET):
        assert answers(loop, transport, transport.listen(ECHO))


def test_l5_a_descriptor_that_is_ours_already_is_refused_and_goes_on_working(loop, transport):
    recorder = Recorder()
    listener = transport.listen(ECHO)
    refusal(fd=listener.fd)
    transport.connect(recorder, listener)
    loop.run_until(lambda: recorder.sockets)
    second = Recorder()
    connect(second, fd=recorder.socket.fileno())
    loop.run_until(lambda: second.names())
    assert second.names() == ["connect_error"]
    recorder.socket.write(b"unharmed")
    loop.run_until(lambda: recorder.received() == b"unharmed")
