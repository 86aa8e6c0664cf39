"""`socket_from_fd`: a connected descriptor becomes a socket of this loop at once, or stays its owner's."""

from __future__ import annotations

import errno
import os
import socket

import pytest
from support import pattern
from support.endpoints import finished

import pybuntcp


def test_an_adopted_socket_is_read_when_it_is_resumed_and_not_before(loop, pair, make):
    ours, theirs = pair
    writer = make()
    fd = ours.detach()
    writer.adopt(fd)
    assert (writer.fd, writer.state) == (fd, 1)
    theirs.sendall(b"early")
    loop.settle()
    assert writer.names() == []
    writer.do("resume")
    loop.run_until(lambda: writer.received == b"early")
    writer.write_all(b"answer")
    writer.do("flush")
    assert theirs.recv(10) == b"answer"
    theirs.close()
    loop.run()
    assert writer.names() == ["data", "end", "close"]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_it_counts_among_the_open_sockets_and_is_not_inherited(loop, pair, make):
    ours, _ = pair
    ours.set_inheritable(True)
    writer = make()
    before = pybuntcp.stats()["open_sockets"]
    writer.adopt(ours.detach())
    assert pybuntcp.stats()["open_sockets"] == before + 1
    assert not os.get_inheritable(writer.fd)
    writer.do("close")
    loop.run()
    assert writer.names() == ["close"]


def test_it_has_a_socket_object(loop, pair, make):
    ours, theirs = pair
    writer = make()
    writer.adopt(ours.detach())
    assert isinstance(writer.object(), pybuntcp.Socket)
    assert writer.object().listener is None
    assert writer.object().data is None
    writer.object().end(pattern(1000))
    assert theirs.recv(2000, socket.MSG_WAITALL) == pattern(1000)
    theirs.close()
    writer.do("resume")
    loop.run()


@pytest.mark.parametrize(
    ("kind", "code"),
    [("none", errno.EBADF), ("file", errno.ENOTSOCK), ("datagram", errno.EINVAL), ("unconnected", errno.ENOTCONN)],
)
def test_a_wrong_descriptor_is_an_os_error_and_stays_open(loop, make, tmp_path, kind, code):
    writer = make()
    if kind == "none":
        with pytest.raises(OSError, match=os.strerror(code)) as caught:
            writer.adopt(-1)
    else:
        opened = {
            "file": lambda: (tmp_path / "file").open("wb"),
            "datagram": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
            "unconnected": lambda: socket.socket(),
        }[kind]()
        with opened:
            with pytest.raises(OSError, match=os.strerror(code)) as caught:
                writer.adopt(opened.fileno())
            os.fstat(opened.fileno())
    assert caught.value.errno == code
    assert writer.gone


def test_a_descriptor_that_a_socket_has_already_is_refused_also_if_that_is_paused(loop, pair, make):
    ours, theirs = pair
    first = make()
    first.adopt(ours.detach())
    with pytest.raises(FileExistsError):
        make().adopt(first.fd)
    connecting = pybuntcp.connect(fd=first.fd, socket={"data": lambda s, data: None})
    first.write_all(b"still the first one's")
    first.do("flush")
    assert theirs.recv(30) == b"still the first one's"
    first.do("close")
    _, error = finished(loop, connecting)
    assert isinstance(error, FileExistsError)


@pytest.mark.parametrize("handlers", [{"data": len}, object(), 3])
def test_what_is_no_handlers_object_is_a_type_error_and_the_descriptor_stays_open(loop, pair, make, handlers):
    ours, theirs = pair
    with pytest.raises(TypeError):
        make().adopt(ours.fileno(), handlers)
    theirs.sendall(b"still there")
    assert ours.recv(20) == b"still there"
