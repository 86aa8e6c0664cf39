"""Contract, Connecting (C5): cancelling a connect, at every moment."""

from __future__ import annotations

import asyncio
import gc
import os
import socket as stdlib

import pytest
from support import Recorder, linux_only
from support.addresses import black_hole, bound_not_listening, needs_ipv6, one_port_of_both_families, port_of
from support.endpoints import connect

STAGGER = 0.25  # seconds between two attempts, RFC 8305


@pytest.fixture(params=["tcp", "unix", "name", "fd", "refused", "black hole"])
def attempt(request, tcp, unix):
    """A connect that has just started, of each kind: its Recorder and its awaitable."""
    recorder = Recorder()
    if request.param in ("tcp", "name", "unix"):
        transport = unix if request.param == "unix" else tcp
        options = transport.connect_options(transport.raw_server())
        if request.param == "name":
            options["hostname"] = "localhost"
        yield recorder, connect(recorder, **options)
    elif request.param == "fd":
        ours, theirs = stdlib.socketpair()
        with theirs:
            yield recorder, connect(recorder, fd=ours.detach())
    elif request.param == "refused":
        with bound_not_listening() as port:
            yield recorder, connect(recorder, hostname="127.0.0.1", port=port)
    else:
        with black_hole() as silent:
            yield recorder, connect(recorder, hostname="127.0.0.1", port=port_of(silent))


def test_c5_cancelling_at_once_runs_no_handler(loop, attempt):
    recorder, connecting = attempt
    assert connecting.cancel() is True
    loop.run()
    assert recorder.names() == []
    assert connecting.cancelled()
    assert connecting.done()


def test_c5_cancelling_leaves_nothing(loop, attempt):
    _, connecting = attempt
    connecting.cancel()
    loop.run()
    assert set(loop.gauges().values()) == {0}


def test_c5_the_awaitable_of_a_cancelled_connect_raises_cancelled_error(loop, attempt):
    _, connecting = attempt
    connecting.cancel()
    loop.run()
    with pytest.raises(asyncio.CancelledError):
        connecting.result()


def test_c5_cancelling_twice_is_cancelling_once(loop, attempt):
    _, connecting = attempt
    assert connecting.cancel() is True
    assert connecting.cancel() is False
    loop.run()
    assert connecting.cancel() is False


def test_c5_cancelling_touches_no_descriptor_that_is_no_longer_ours(loop, attempt):
    _, connecting = attempt
    connecting.cancel()
    pipes = [os.pipe() for _ in range(8)]  # they take the numbers that the attempt gives back
    try:
        loop.run()
        pipes += [os.pipe() for _ in range(8)]
        loop.run()
        gc.collect()
        for reader, writer in pipes:
            os.write(writer, b"x")
            assert os.read(reader, 1) == b"x"
    finally:
        for fd in [fd for pipe in pipes for fd in pipe]:
            os.close(fd)


def test_c5_cancelling_after_it_is_done_changes_nothing(loop, transport):
    server, client = Recorder(), Recorder()
    connecting = transport.connect(client, transport.listen(server))
    loop.run_until(lambda: server.sockets and client.sockets)
    assert connecting.done()
    assert connecting.cancel() is False
    assert not connecting.cancelled()
    client.socket.write(b"x")
    loop.run_until(server.received)
    assert connecting.result() is client.socket


def test_c5_cancelling_inside_open_is_too_late(loop, transport):
    verdicts = []
    server = Recorder()
    client = Recorder(open=lambda socket: verdicts.append(connecting.cancel()))
    connecting = transport.connect(client, transport.listen(server))
    loop.run_until(lambda: client.sockets and server.sockets)
    assert (verdicts, connecting.cancelled()) == ([False], False)
    assert connecting.result() is client.socket


def test_c5_cancelling_inside_connect_error_is_harmless(loop, unix, handlers):
    recorder = handlers(connect_error=lambda socket, error: connecting.cancel())
    connecting = connect(recorder, unix=unix.listen_options()["unix"])
    loop.run()
    assert connecting.done()
    assert recorder.names() == ["connect_error"]


def test_c5_cancelling_a_sibling_from_a_handler(loop, transport):
    def opened(socket):
        for connecting in attempts:
            connecting.cancel()

    server, client = Recorder(), Recorder(open=opened)
    listener = transport.listen(server)
    attempts = [transport.connect(client, listener) for _ in range(8)]
    loop.run_until(lambda: all(connecting.done() for connecting in attempts))
    won = [connecting for connecting in attempts if not connecting.cancelled()]
    assert len(won) == len(client.sockets) == 1
    assert won[0].result() is client.socket


@needs_ipv6
@linux_only
def test_c5_cancelling_between_two_addresses_closes_both_attempts(loop, unix, handlers):
    """A socket timeout cancels when the first address has been silent for longer than the stagger."""
    with one_port_of_both_families(black_hole, black_hole) as port:
        recorder = handlers()
        connecting = connect(recorder, hostname="localhost", port=port)
        clock = handlers(open=lambda socket: socket.timeout(1.5 * STAGGER), timeout=lambda socket: connecting.cancel())
        unix.peer(unix.listen(clock))
        loop.run_until(lambda: clock.count("close"))
        assert connecting.cancelled()
        assert loop.gauges()["connecting"] == 0
        assert recorder.names() == []
