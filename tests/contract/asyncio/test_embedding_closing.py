"""Contract, Process (P2): an asyncio loop that is closed or dropped under open sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref

import pytest
from support import GAUGES, TIMEOUT, Recorder, descriptors
from support.addresses import black_hole, port_of
from support.asyncio_loops import close_host, each_host, hosts, new_host, open_host, run_in, run_on
from support.coroutines import connection, dialled_by, unclosed, until
from support.handlers import QUIET
from support.threads import in_a_thread_of_its_own, in_thread

import pybuntcp

DROPPED = hosts("asyncio", "native")  # an unclosed uvloop is never given back

# ---------------------------------------------------------------- closed under open sockets


class Left:
    """What a host was closed under: a listener, both ends of a connection, an attempt; and what is known of them."""

    KINDS = ("Connecting", "Listener", "Socket", "Socket")

    def __init__(self, hole):
        self.server, self.client = Recorder(), Recorder()
        self.recorders = [self.server, self.client]
        self._hole = hole

    async def open(self):
        self.listener, self.accepted, self.connected = await connection(self.server, self.client)
        self.accepted.timeout(30)
        self.connecting = pybuntcp.connect(socket=QUIET, hostname="127.0.0.1", port=port_of(self._hole))
        return self

    def names(self):
        return [recorder.names() for recorder in self.recorders]


@each_host
@in_a_thread_of_its_own
def test_p2_a_loop_closed_under_open_sockets_warns_of_each_once(host):
    with black_hole() as hole:
        loop = new_host(host)
        left = run_in(loop, Left(hole).open)
        with unclosed() as told:
            loop.close()
            assert left.listener is not None
            del left
            gc.collect()
    assert sorted(told) == sorted(Left.KINDS)


@each_host
@in_a_thread_of_its_own
def test_p2_a_loop_closed_under_open_sockets_runs_no_handler(host):
    with black_hole() as hole:
        loop = new_host(host)
        left = run_in(loop, Left(hole).open)
        before = left.names()
        with unclosed():
            loop.close()
            gc.collect()
        assert left.names() == before == [["open"], ["open"]]


@each_host
@in_a_thread_of_its_own
def test_p2_a_loop_closed_under_open_sockets_closes_their_descriptors(host):
    with black_hole() as hole:
        before = len(descriptors())
        loop = new_host(host)
        left = run_in(loop, Left(hole).open)
        with unclosed():
            loop.close()
        assert (left.accepted.fileno(), left.connected.fileno(), left.listener.fd) == (-1, -1, -1)
        del loop
        gc.collect()
        assert len(descriptors()) == before


@each_host
@in_a_thread_of_its_own
def test_p2_the_peer_of_a_socket_whose_loop_was_closed_sees_the_end(host):
    async def start():
        listener = pybuntcp.listen(socket=recorder.handlers, hostname="127.0.0.1", port=0)
        return listener, (await dialled_by(listener, recorder))[1]

    recorder = Recorder()
    loop = new_host(host)
    _listener, client = run_in(loop, start)
    with client:
        client.settimeout(TIMEOUT)
        with unclosed():
            loop.close()
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""


@each_host
@in_a_thread_of_its_own
def test_r7_verbs_after_the_loop_was_closed_do_nothing_and_never_raise(host):
    with black_hole() as hole:
        loop = new_host(host)
        left = run_in(loop, Left(hole).open)
        with unclosed():
            loop.close()
        for socket in (left.accepted, left.connected):
            assert (socket.write(b"x"), socket.end(b"x"), int(socket.ready_state), socket.pending) == (-1, -1, 0, 0)
            socket.pause()
            socket.resume()
            socket.timeout(1)
            socket.close()
            socket.terminate()
        left.listener.stop(True)
        assert left.connecting.cancel() is False or left.connecting.cancelled()
        assert left.accepted.remote_address == "127.0.0.1"


@each_host
@in_a_thread_of_its_own
def test_p2_the_gauges_are_zero_after_the_loop_was_closed(host):
    with black_hole() as hole:
        loop = new_host(host)
        left = run_in(loop, Left(hole).open)
        with unclosed():
            loop.close()
        stats = pybuntcp.stats()
        assert {name: stats[name] for name in GAUGES} == dict.fromkeys(GAUGES, 0)
        assert left.listener.connections == 0


@each_host
@in_a_thread_of_its_own
def test_p2_an_attempt_whose_loop_was_closed_is_no_longer_in_progress(host):
    with black_hole() as hole:
        loop = new_host(host)
        left = run_in(loop, Left(hole).open)
        with unclosed():
            loop.close()
        assert left.connecting.done()


@each_host
@in_a_thread_of_its_own
@pytest.mark.parametrize("what", ["drain", "connecting"])
def test_awaiting_something_of_a_closed_loop_is_an_error_and_no_hang(host, what):
    """The attempt was cancelled with the loop."""

    async def ask():
        await (sink.drain() if what == "drain" else left.connecting)

    with black_hole() as hole:
        loop = new_host(host)
        left = run_in(loop, Left(hole).open)
        sink = left.accepted.sink()
        with unclosed():
            loop.close()
        expected = (RuntimeError, OSError) if what == "drain" else (RuntimeError, asyncio.CancelledError)
        with open_host("asyncio") as later, pytest.raises(expected):
            run_in(later, ask, timeout=2)


@each_host
@in_a_thread_of_its_own
def test_p2_pending_bytes_of_a_socket_whose_loop_was_closed_are_given_back(host):
    async def start():
        _, accepted, client = await connection(Recorder(), Recorder())
        client.pause()
        accepted.sink().write(bytes(8 << 20))
        assert accepted.pending > 0
        return accepted

    loop = new_host(host)
    accepted = run_in(loop, start)
    with unclosed():
        loop.close()
    assert accepted.pending == 0


@each_host
@in_a_thread_of_its_own
def test_a_loop_closed_after_everything_was_closed_warns_of_nothing(host):
    async def main():
        client = Recorder()
        listener, accepted, _ = await connection(Recorder(), client)
        listener.stop(True)
        await until(lambda: client.count("close"))
        return listener, accepted

    with unclosed() as told:
        kept = run_on(host, main)
        gc.collect()
    assert told == []
    assert kept[1].write(b"x") == -1


def leaves_no_descriptor(host, end=None):
    """A loop under open sockets of which `end(loop)` is the end, or that nobody holds any more."""
    with black_hole() as hole:
        before = len(descriptors())
        loop = new_host(host)
        left = run_in(loop, Left(hole).open)
        with unclosed() as told:
            if end is not None:
                end(loop)
            del loop
            gc.collect()
        assert left.names() == [["open"], ["open"]]
        assert sorted(told) == sorted(Left.KINDS)
        del left
        gc.collect()
        assert len(descriptors()) == before


@each_host
@in_a_thread_of_its_own
def test_p2_a_loop_closed_by_another_thread_than_ran_it_leaves_no_descriptor(host):
    def in_another(loop):
        assert in_thread(loop.close) is None

    leaves_no_descriptor(host, in_another)


@DROPPED
@in_a_thread_of_its_own
def test_p2_a_loop_that_is_dropped_without_close_leaves_no_descriptor(host):
    leaves_no_descriptor(host)


@each_host
@in_a_thread_of_its_own
def test_p2_a_loop_closed_while_a_handlers_exit_is_handled_closes_its_sockets(host):
    """The exception knows the frames it came through, and they what the loop called."""

    def leave(socket, chunk):
        raise SystemExit

    async def main():
        left.extend(await connection(Recorder(data=leave), Recorder()))
        left[2].write(b"x")
        await asyncio.sleep(TIMEOUT)

    left = []
    before = len(descriptors())
    loop = new_host(host)
    with unclosed() as told:
        try:
            run_in(loop, main)
        except SystemExit:
            close_host(loop)
            listener, accepted, connected = left
            assert (accepted.fileno(), connected.fileno(), listener.fd) == (-1, -1, -1)
            assert connected.write(b"x") == -1
    assert sorted(told) == ["Listener", "Socket", "Socket"]
    del loop
    gc.collect()
    assert len(descriptors()) == before


class Kept:
    """Something whose end can be seen."""


@each_host
@in_a_thread_of_its_own
def test_p2_a_loop_closed_under_sockets_whose_handlers_know_it_is_given_back(host):
    """The usual program is a circle: the loop, what it calls, the handlers, the loop."""

    def scenario(kept):
        async def start():
            listener = pybuntcp.listen(
                socket={"data": lambda socket, chunk: (loop.stop(), kept)}, hostname="127.0.0.1", port=0
            )
            listener.data = (listener, loop)

        loop = new_host(host)
        run_in(loop, start)
        loop.close()

    kept = Kept()
    gone = weakref.ref(kept)
    with unclosed() as told:
        scenario(kept)
        del kept
        gc.collect()
    assert told == ["Listener"]
    assert gone() is None
