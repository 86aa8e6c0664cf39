"""Slots that take the GIL: Python's verbs inside them, exceptions, the garbage collector, connections made inside."""

from __future__ import annotations

import gc

import pytest
from support import Peer, Recorder, accepted, sides, unraisable
from support.addresses import dialled
from support.slots import Slots
from support.threads import in_thread

import pybuntcp

EVENTS = ["open", "data", "end", "close", "timeout"]


class Refused(Exception):
    """What a slot of these tests raises."""


def provoke(loop, transport, slots, event):
    """A connection that is told this event; the listener has stopped."""
    handle, peer = accepted(loop, transport, slots)
    if event == "timeout":
        handle.timeout(0.001)
        loop.run_until(lambda: slots.count("timeout"))
    peer.send(b"x").ignore()
    peer.close().ignore()
    return handle, peer


# ---------------------------------------------------------------- Python's verbs


def test_the_python_object_writes_from_a_slot_corked_as_in_a_handler(loop, transport):
    def data(handle, chunk):
        sock = handle.object()
        before = pybuntcp.stats()["writes"]
        assert [sock.write("py"), handle.write(b"cy"), sock.write(b"py")] == [2, 2, 2]
        assert pybuntcp.stats()["writes"] == before

    handle, peer = accepted(loop, transport, Slots(data=data))
    peer.send(b"go")
    assert loop.wait(peer.recv_exactly(6)) == b"pycypy"
    handle.close()
    loop.run()


@pytest.mark.parametrize("verb", ["close", "terminate", "end", "shutdown", "pause"])
@sides
def test_the_python_object_may_be_ended_from_a_slot(loop, transport, side, verb):
    slots = Slots(data=lambda handle, chunk: getattr(handle.object(), verb)())
    handle, peer = side(loop, transport, slots)
    peer.send(b"x")
    loop.run_until(slots.received)
    if verb == "pause":
        assert handle.resume() == 0
    peer.close()
    loop.run()
    assert slots.names()[-1] == "close"
    assert slots.count("close") == 1


def test_a_socket_terminated_by_python_in_data_gets_close_and_nothing_more(loop, tcp):
    slots = Slots(data=lambda handle, chunk: handle.object().terminate())
    _, peer = accepted(loop, tcp, slots)
    peer.send(b"x")
    assert loop.wait(peer.recv_until_reset()) == b""
    loop.run()
    assert slots.names() == ["open", "data", "close"]


@pytest.mark.parametrize("everything", [False, True])
def test_a_slot_may_stop_its_listener(loop, transport, everything):
    slots = Slots(data=lambda handle, chunk: handle.object().listener.stop(everything))
    listener = transport.listen(slots)
    peers = [transport.peer(listener) for _ in range(3)]
    loop.run_until(lambda: len(slots.sockets) == 3)
    peers[0].send(b"x")
    loop.run_until(slots.received)
    assert listener.fd == -1
    if not everything:
        assert listener.connections == 3
        for peer in peers:
            peer.close()
    loop.run()
    assert slots.count("close") == 3


def test_a_slot_may_listen_and_connect(loop, transport):
    """And the connection inside is one of slots, too."""
    inner, outer = Slots(label="inner", data=lambda handle, chunk: handle.write(chunk)), Slots(label="client")

    def data(handle, chunk):
        outer._functions["open"] = lambda client: client.write(chunk)
        transport.connect(outer, transport.listen(inner))

    _, peer = accepted(loop, transport, Slots(data=data))
    peer.send(b"there and back")
    loop.run_until(lambda: outer.received() == b"there and back")


def test_a_proxy_of_slots_carries_bytes_both_ways(loop, transport):
    """Two sockets that know each other, each paused while the other one has enough."""
    server = Slots(label="server", data=lambda handle, chunk: handle.write(chunk), end=lambda handle: handle.end())
    target = transport.listen(server)
    pairs = {}

    def opened(handle):
        def connected(upstream):
            pairs[handle], pairs[upstream] = upstream, handle
            handle.resume()

        handle.pause()
        transport.connect(Slots(label="up", open=connected, **carry), target)

    carry = {
        "data": lambda handle, chunk: pairs[handle].write(chunk),
        "end": lambda handle: pairs[handle].gone or pairs[handle].end(),
    }
    listener = transport.listen(Slots(label="down", open=opened, **carry), allow_half_open=True)
    peer = transport.peer(listener)
    peer.send(b"through two")
    assert loop.wait(peer.recv_exactly(11)) == b"through two"
    peer.shutdown()
    assert loop.wait(peer.recv_until_eof()) == b""


@pytest.mark.parametrize("event", EVENTS)
def test_running_the_loop_inside_a_slot_is_a_runtime_error(loop, transport, event):
    def run(handle, *_):
        with pytest.raises(RuntimeError):
            pybuntcp.run()
        told.append(event)

    told = []
    provoke(loop, transport, Slots(**{event: run}), event)
    loop.run()
    assert told == [event]


# ---------------------------------------------------------------- exceptions


@pytest.mark.parametrize("event", EVENTS)
def test_what_a_slot_raises_is_reported_and_the_connection_lives_on(loop, transport, event):
    def refuse(handle, *_):
        if event == "timeout":
            handle.timeout(0)
        raise Refused(event)

    slots = Slots(**{event: refuse})
    with unraisable() as told:
        provoke(loop, transport, slots, event)
        loop.run()
    assert [str(error) for error in told] == [event]
    assert isinstance(told[0], Refused)
    assert slots.order() == ["open", *(["timeout"] if event == "timeout" else []), "data", "end", "close"]


def test_what_the_drain_slot_raises_is_reported(loop, transport):
    def refuse(handle):
        raise Refused("drain")

    slots = Slots(drain=refuse)
    handle, peer = accepted(loop, transport, slots)
    taken = handle.write(bytes(8 << 20))
    with unraisable() as told:
        loop.wait(peer.recv_exactly(taken))
        loop.run_until(lambda: told)
    peer.close()
    loop.run()
    assert slots.names() == ["open", "drain", "end", "close"]


def test_what_connect_error_raises_is_reported_and_the_awaitable_has_the_real_error(loop, unix):
    def refuse(handle, error):
        raise Refused(error)

    connecting = pybuntcp.connect(unix=unix.listen_options()["unix"], socket=Slots(connect_error=refuse).handlers)
    with unraisable() as told:
        loop.run()
    assert [type(error) for error in told] == [Refused]
    assert isinstance(connecting.exception(), FileNotFoundError)


def test_what_was_written_before_the_exception_leaves(loop, transport):
    def data(handle, chunk):
        handle.write(b"sent")
        raise Refused

    handle, peer = accepted(loop, transport, Slots(data=data))
    peer.send(b"x")
    with unraisable() as told:
        assert loop.wait(peer.recv_exactly(4)) == b"sent"
    assert len(told) == 1
    handle.close()
    loop.run()


def test_a_listener_whose_slots_always_raise_goes_on_accepting(loop, transport):
    def refuse(handle, *_):
        raise Refused

    slots = Slots(open=refuse, data=refuse, end=refuse, close=refuse)
    listener = transport.listen(slots)
    with unraisable() as told:
        for _ in range(3):
            peer = transport.peer(listener)
            peer.send(b"x")
            peer.shutdown()
            assert loop.wait(peer.recv_until_eof()) == b""
        loop.run_until(lambda: slots.count("close") == 3)
        listener.stop()
        loop.run()
    assert len(told) == 12


# ---------------------------------------------------------------- garbage, threads


@pytest.mark.parametrize("event", EVENTS)
def test_the_garbage_collector_may_run_in_every_slot(loop, transport, event):
    """What it finds here are cycles through sockets and handlers."""

    def collect(handle, *_):
        sock = handle.object()
        sock.data = [sock]
        cycle = Slots(label="cycle")
        cycle.itself = cycle.handlers
        del cycle
        gc.collect()

    slots = Slots(**{event: collect})
    provoke(loop, transport, slots, event)
    loop.run()
    assert slots.names()[-1] == "close"
    gc.collect()


def test_python_s_switching_of_threads_inside_a_slot_is_harmless(loop, transport):
    def data(handle, chunk):
        told.append(in_thread(lambda: sum(range(10000))))
        handle.write(chunk)

    told = []
    handle, peer = accepted(loop, transport, Slots(data=data))
    for _ in range(20):
        peer.send(b"ping")
        assert loop.wait(peer.recv_exactly(4)) == b"ping"
    assert told == [sum(range(10000))] * 20
    handle.close()
    loop.run()


def test_slots_that_take_the_gil_are_served_in_a_thread_of_its_own():
    slots = Slots(data=lambda handle, chunk: [handle.write(chunk), handle.end()])

    def serve():
        listener = pybuntcp.listen(hostname="127.0.0.1", port=0, socket=slots.handlers)
        slots._functions["close"] = lambda handle, error: listener.stop()
        with Peer(lambda: dialled(listener.port)) as peer:
            peer.send(b"hello")
            answer = peer.recv_until_eof()
            peer.close()
            pybuntcp.run()
            return answer.result()

    assert in_thread(serve) == b"hello"
    assert slots.names() == ["open", "data", "end", "close"]


def test_the_gil_may_be_taken_or_there_already(loop, transport):
    """A Python handler and a slot that takes the GIL, in one turn, in either order."""
    seen = []
    slots = Slots(data=lambda handle, chunk: [seen.append("slot"), handle.write(chunk)])
    python = Recorder(data=lambda socket, chunk: [seen.append("python"), socket.write(chunk)])
    listeners = [transport.listen(table) for table in (slots, python)]
    peers = [transport.peer(listener) for listener in listeners * 5]
    loop.run_until(lambda: len(slots.sockets) == len(python.sockets) == 5)
    for peer in peers:
        peer.send(b"all at once").result()
    for peer in peers:
        assert loop.wait(peer.recv_exactly(11)) == b"all at once"
    assert sorted(seen) == ["python"] * 5 + ["slot"] * 5
    for listener in listeners:
        listener.stop(True)
    loop.run()
