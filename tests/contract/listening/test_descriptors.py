"""Contract, Listening (L5) and Process (P3): adopted descriptors, listening and connected, and bad ones; and none is inherited."""

from __future__ import annotations

import errno
import os
import socket as stdlib
import subprocess
import sys

import pytest
from support import Peer, Recorder, descriptors, linux_only
from support.addresses import own_host
from support.endpoints import answers, connect, refusal
from support.handlers import ECHO, QUIET
from support.programs import run_program

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


# ---------------------------------------------------------------- P3: whoever this process starts is given none


def inheritable(fd):
    os.set_inheritable(fd, True)
    return fd


def test_p3_an_adopted_listening_descriptor_is_not_inherited(loop, transport):
    listener = pybuntcp.listen(fd=inheritable(listening(transport).detach()), socket=QUIET, **transport.server_options)
    assert not os.get_inheritable(listener.fd)
    listener.stop()
    loop.run()


def test_p3_an_adopted_connected_descriptor_is_not_inherited(loop):
    ours, theirs = stdlib.socketpair()
    with theirs:
        recorder = Recorder()
        pybuntcp.connect(fd=inheritable(ours.detach()), socket=recorder.handlers)
        loop.run_until(lambda: recorder.sockets)
        assert not os.get_inheritable(recorder.socket.fileno())
        recorder.socket.terminate()
        loop.run()


@pytest.mark.parametrize("call", [pybuntcp.listen, pybuntcp.connect])
def test_p3_a_descriptor_that_is_refused_stays_as_it_was(loop, call):
    fd = inheritable(a_bound_socket())
    try:
        if call is pybuntcp.listen:
            refusal(fd=fd)
        else:
            recorder = Recorder()
            connect(recorder, fd=fd)
            loop.run_until(lambda: recorder.count("connect_error"))
        assert os.get_inheritable(fd)
    finally:
        os.close(fd)


@linux_only
def test_p3_nothing_that_the_loop_and_its_connections_open_is_inherited(transport):
    """In a process of its own: the loop's own descriptors, and those of both ends of a connection."""
    source = """
        def opened(sock):
            ends.append(sock)
            if len(ends) == 2:
                for fd in set(map(int, os.listdir("/dev/fd"))) - before:
                    try:
                        inherited.append((fd, os.readlink(f"/proc/self/fd/{fd}")) if os.get_inheritable(fd) else None)
                    except OSError:
                        pass  # the one that the list was read from
                listener.stop(True)
                for end in ends:
                    end.terminate()

        ends, inherited = [], []
        before = set(map(int, os.listdir("/dev/fd")))
        handlers = {"open": opened, "data": print}
        where = {"unix": sys.argv[1]} if len(sys.argv) > 1 else {"hostname": "127.0.0.1", "port": 0}
        listener = pybuntcp.listen(socket=handlers, **where)
        if len(sys.argv) == 1:
            where["port"] = listener.port
        pybuntcp.connect(socket=handlers, **where)
        pybuntcp.run()
        say(len(inherited) > 4)
        say([each for each in inherited if each])
    """
    where = [transport.listen_options()["unix"]] if transport.name == "unix" else []
    assert run_program(source, *where) == [True, []]


def test_p3_a_program_that_was_started_does_not_hold_the_port(loop, tcp):
    tcp.host = own_host()
    listener = pybuntcp.listen(fd=inheritable(listening(tcp).detach()), socket=QUIET)
    port = listener.port
    command = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False) as child:
        child.stdout.readline()  # it runs: the kernel lets us go on a moment before it closes what an exec closes
        listener.stop()
        loop.run()
        pybuntcp.listen(hostname=tcp.host, port=port, socket=QUIET).stop()
        child.communicate(b"\n")
    loop.run()
