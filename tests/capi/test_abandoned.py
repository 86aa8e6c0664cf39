"""`abandoned`: what C code is told when the loop ends under its connections."""

from __future__ import annotations

import asyncio
import os
import socket
import warnings

import pytest
from support.asyncio_loops import close_host, each_host, new_host, run_in
from support.threads import in_thread


def adopted(writer):
    """The writer's end of a connection, and the peer."""
    ours, theirs = socket.socketpair()
    writer.adopt(ours.detach())
    theirs.settimeout(5)
    return theirs


def closed_under(host, writer, *, before=None):
    """The peer of a writer whose asyncio loop was closed, and the ResourceWarnings."""
    loop = new_host(host)

    async def open_one():
        return adopted(writer)

    peer = run_in(loop, open_one)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        loop.close()
    return peer, [str(each.message) for each in caught]


@each_host
def test_it_is_called_in_place_of_close_when_the_asyncio_loop_is_closed(host, make):
    writer = make(abandoned=True)
    peer, _ = closed_under(host, writer)
    with peer:
        assert writer.names() == ["abandoned"]
        assert writer.gone
        assert peer.recv(1) == b""


@each_host
def test_its_user_is_the_one_who_warns(host, make):
    for abandoned, count in ((True, 0), (False, 1)):
        peer, texts = closed_under(host, make(abandoned=abandoned))
        peer.close()
        assert len([text for text in texts if text.startswith("unclosed <pybuntcp.Socket")]) == count


@each_host
def test_verbs_still_work_in_it(host, make):
    """What is gathered can be sent."""
    writer = make(abandoned=True)
    writer.calls["abandoned"] = lambda self: (self.write_all(b"last words"), self.do("flush"))
    peer, _ = closed_under(host, writer)
    with peer:
        assert peer.recv(100) == b"last words"
        assert peer.recv(100) == b""


@pytest.mark.parametrize("verb", ["close", "close_now", "terminate"])
def test_the_socket_may_be_closed_in_it(make, verb):
    writer = make(abandoned=True)
    writer.calls["abandoned"] = lambda self: self.do(verb)
    peer, _ = closed_under("asyncio", writer)
    peer.close()
    assert writer.names() == ["abandoned"]


def test_it_is_called_when_the_thread_ends(make):
    writer = make(abandoned=True)
    peers = []
    in_thread(lambda: peers.append(adopted(writer)))
    with peers[0] as peer:
        assert peer.recv(1) == b""
    assert writer.names() == ["abandoned"]


def test_it_is_not_called_for_what_was_closed_before(make):
    writer = make(abandoned=True)
    loop = new_host("asyncio")

    async def open_and_close():
        peer = adopted(writer)
        writer.do("close_now")
        while not writer.gone:
            await asyncio.sleep(0)
        return peer

    run_in(loop, open_and_close).close()
    close_host(loop)
    assert writer.names() == ["close"]


def test_it_is_not_called_in_a_forked_child(make):
    writer = make(abandoned=True)
    loop = new_host("asyncio")

    async def open_and_fork():
        peer = adopted(writer)
        child = os.fork()
        if child == 0:
            os._exit(len(writer.names()))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        return peer

    with run_in(loop, open_and_fork) as peer:
        loop.close()
        assert writer.names() == ["abandoned"]
        assert peer.recv(1) == b""
