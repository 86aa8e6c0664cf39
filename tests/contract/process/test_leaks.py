"""Contract, Process (P2): no descriptor, object or byte leaks."""

from __future__ import annotations

import gc
import weakref

import pytest
from support import GAUGES, TIMEOUT, Feed, Recorder, accepted, connected, descriptors
from support.handlers import QUIET, ignore
from support.programs import Program

import pybuntcp


def test_p2_the_gauges_follow_what_is_open(loop, transport):
    server, client = Recorder(), Recorder()
    before = loop.gauges()
    assert set(before.values()) == {0}
    listener = transport.listen(server)
    assert loop.gauges() == {**before, "open_listeners": 1}
    transport.connect(client, listener)
    assert loop.gauges() == {**before, "open_listeners": 1, "connecting": 1}
    loop.run_until(lambda: server.sockets and client.sockets)
    assert loop.gauges() == {**before, "open_listeners": 1, "open_sockets": 2}
    client.socket.timeout(60)
    assert loop.gauges()["armed_timers"] == 1
    client.socket.timeout(0)
    assert loop.gauges()["armed_timers"] == 0
    listener.stop(True)
    loop.run_until(lambda: server.count("close") and client.count("close"))
    assert loop.gauges() == before


def test_p2_pending_bytes_are_counted_until_the_kernel_has_them(loop, transport):
    recorder = Recorder()
    socket, peer = accepted(loop, transport, recorder)
    feed = Feed(1 << 24)
    feed.fill(socket)
    assert loop.gauges()["pending_bytes"] == socket.pending > 0
    peer.recv_exactly(feed.at)
    loop.run_until(lambda: recorder.count("drain"))
    assert loop.gauges()["pending_bytes"] == socket.pending == 0


def test_p2_pending_bytes_that_are_dropped_are_not_counted_for_ever(loop, transport):
    recorder = Recorder()
    socket, peer = accepted(loop, transport, recorder)
    peer.connected.result()
    Feed(1 << 24).fill(socket)
    assert socket.pending > 0
    socket.terminate()
    loop.run_until(lambda: recorder.count("close"))
    assert loop.gauges()["pending_bytes"] == 0


@pytest.mark.parametrize("ending", ["close", "end", "terminate"])
def test_p2_a_crowd_of_connections_leaves_no_descriptor_and_no_socket(loop, transport, ending):
    def opened(socket):
        getattr(socket, ending)()

    server, client = Recorder(open=opened), Recorder()
    listener = transport.listen(server)
    loop.call(ignore, None)  # opens the harness's own descriptors
    before = len(descriptors())
    for round in range(1, 11):
        for _ in range(transport.crowd // 10):
            transport.connect(client, listener)
        expected = round * transport.crowd // 10
        loop.run_until(lambda expected=expected: server.count("close") == over(client) == expected, timeout=40)
    assert len(descriptors()) == before
    assert loop.gauges() == {**dict.fromkeys(GAUGES, 0), "open_listeners": 1}


def over(client):
    """Connections of this Recorder that are over; a reset may be told before the connect is."""
    return client.count("close") + client.count("connect_error")


class Kept:
    """Something whose end can be seen."""


def test_p2_a_closed_connection_gives_its_data_back(loop, transport):
    kept = Kept()
    gone = weakref.ref(kept)
    server, client = {"data": ignore}, Recorder()
    listener = transport.listen(server)
    transport.connect(client, listener, data=kept)
    loop.run_until(lambda: client.sockets)
    del kept
    gc.collect()
    assert gone() is not None
    client.socket.terminate()
    loop.run_until(lambda: client.count("close"))
    client.events.clear()
    transport._made.clear()  # the harness's own hold of the awaitable
    listener.stop(True)
    loop.settle()
    gc.collect()
    assert gone() is None


def test_p2_a_stopped_listener_gives_its_handlers_and_data_back(loop, transport):
    kept, handler = Kept(), Kept()
    handler.data = ignore
    gone = [weakref.ref(kept), weakref.ref(handler)]
    listener = pybuntcp.listen(
        **transport.listen_options(),
        data=kept,
        socket={"data": lambda socket, chunk, handler=handler: handler.data(socket)},
    )
    del kept, handler
    listener.stop()
    loop.run()
    del listener
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


def gone_after(scenario):
    """Whether the Kept that this scenario was given is gone; what the scenario's closures held in a circle counts."""
    kept = Kept()
    gone = weakref.ref(kept)
    scenario(kept)
    del kept
    gc.collect()
    return gone() is None


def test_p2_a_stopped_listener_that_its_own_handlers_know_is_given_back(loop, transport):
    """The usual program: `lambda socket, error: listener.stop()` among the handlers."""

    def scenario(kept):
        listener = pybuntcp.listen(
            **transport.listen_options(), socket={"data": lambda socket, chunk: (listener, kept)}
        )
        listener.stop()
        loop.run()

    assert gone_after(scenario)


def test_p2_a_stopped_listener_that_its_own_data_knows_is_given_back(loop, transport):
    def scenario(kept):
        listener = pybuntcp.listen(**transport.listen_options(), socket=QUIET)
        listener.data = (listener, kept)
        listener.stop()
        loop.run()

    assert gone_after(scenario)


def test_p2_a_listener_that_its_own_handlers_know_is_given_back_after_its_last_connection(loop, transport):
    def scenario(kept):
        def closed(socket, error):
            listener.stop()
            kept.seen = (socket, error)

        listener = pybuntcp.listen(**transport.listen_options(), socket={**QUIET, "close": closed})
        pybuntcp.connect(
            **transport.connect_options(listener), socket={**QUIET, "open": lambda socket: (kept, socket.close())}
        )
        loop.run()

    assert gone_after(scenario)


def test_p2_a_closed_socket_that_its_own_data_knows_is_given_back(loop, transport):
    def scenario(kept):
        def opened(socket):
            socket.data = (socket, kept)
            socket.close()

        listener = transport.listen({**QUIET, "open": lambda socket: listener.stop()})
        pybuntcp.connect(**transport.connect_options(listener), socket={**QUIET, "open": opened})
        loop.run()

    assert gone_after(scenario)


def test_p2_handlers_that_know_themselves_are_given_back():
    def scenario(kept):
        handlers = pybuntcp.Handlers(data=lambda socket, chunk: (handlers, kept))

    assert gone_after(scenario)


def test_p2_reload_gives_the_old_handlers_back(loop, transport):
    handler = Kept()
    gone = weakref.ref(handler)
    listener = transport.listen({"data": lambda socket, chunk, handler=handler: None})
    del handler
    listener.reload(QUIET)
    gc.collect()
    assert gone() is None


def test_p2_a_failed_connect_gives_its_data_back(loop, unix):
    kept = Kept()
    gone = weakref.ref(kept)
    pybuntcp.connect(unix=unix.listen_options()["unix"], data=kept, socket={"data": ignore, "connect_error": ignore})
    del kept
    loop.run()
    gc.collect()
    assert gone() is None


def test_p2_a_cancelled_connect_gives_its_data_back(loop, transport):
    kept = Kept()
    gone = weakref.ref(kept)
    raw = transport.raw_server()
    connecting = pybuntcp.connect(**transport.connect_options(raw), data=kept, socket=QUIET)
    connecting.cancel()
    del kept, connecting
    loop.run()
    gc.collect()
    assert gone() is None


def test_p2_a_socket_object_outlives_its_connection_safely(loop, transport):
    socket, peer = connected(loop, transport, Recorder())
    peer.close()
    loop.run_until(lambda: loop.gauges()["open_sockets"] == 0)
    gc.collect()
    assert socket.write(b"x") == -1
    assert int(socket.ready_state) == 0


def test_p2_an_interpreter_that_exits_with_everything_open_says_nothing():
    with Program("""
        def opened(socket):
            socket.timeout(60)
            socket.write(b"x" * 10_000_000)
            say("open")
            raise SystemExit(0)

        listener = pybuntcp.listen(hostname="127.0.0.1", port=0, socket={"open": opened, "drain": print, "data": print})
        say(listener.port)
        pybuntcp.connect(hostname="127.0.0.1", port=listener.port, socket={"data": print})
        pybuntcp.run()
    """) as program:
        program.hear()
        assert program.hear() == "open"
        _, err = program.process.communicate(timeout=TIMEOUT)
        assert program.process.returncode == 0
        assert err == b""
