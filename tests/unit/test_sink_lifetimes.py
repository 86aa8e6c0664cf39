"""Sinks and those who wait for them, when what they belong to ends or was never there: sockets, corks, threads, loops.

Some scenarios run finalizers inside the core's own allocations, as Python up to 3.11 does when it collects; from 3.12
on they run a little later and the outcome is the same. Those are programs of their own: no other thread collects.
"""

from __future__ import annotations

import socket as stdlib
import textwrap
import threading

import pytest
from support import TIMEOUT, Recorder, accepted, linux_only, run_loop
from support.programs import run_program
from support.sinks import DrainCallback, ended, stuffed

import pybuntcp

# ---------------------------------------------------------------- never made

VERBS = {
    "write": lambda sink: sink.write(b"x"),
    "write of a buffer": lambda sink: sink.write(bytearray(b"x")),
    "flush": lambda sink: sink.flush(),
    "end": lambda sink: sink.end(),
    "end with data": lambda sink: sink.end(b"x"),
    "close": lambda sink: sink.close(),
    "drain": lambda sink: sink.drain().send(None),
    "add_drain_callback": lambda sink: sink.add_drain_callback(print),
    "pending": lambda sink: sink.pending,
    "full": lambda sink: sink.full,
    "repr": repr,
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_sink_that_no_socket_made_refuses_every_verb(verb):
    sink = pybuntcp.SocketSink.__new__(pybuntcp.SocketSink)
    with pytest.raises((TypeError, ValueError, AttributeError)):
        VERBS[verb](sink)


def test_a_cork_that_no_socket_made_corks_nothing(loop, transport):
    socket, peer = accepted(loop, transport, Recorder())
    with type(socket.cork())() as nothing:
        assert nothing is None
        assert socket.write(b"at once") == 7
        assert peer.recv_exactly(7).result() == b"at once"


# ---------------------------------------------------------------- the thread ends


def _with(socket, sink):
    with socket:
        pass


ENDINGS = {
    "socket.end": lambda socket, sink: socket.end(),
    "socket.end with no bytes": lambda socket, sink: socket.end(b""),
    "socket.close": lambda socket, sink: socket.close(),
    "socket.shutdown": lambda socket, sink: socket.shutdown(),
    "with socket": _with,
    "sink.end": lambda socket, sink: sink.end(),
    "sink.close": lambda socket, sink: sink.close(),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_who_ends_a_socket_while_no_loop_runs_has_sent_what_came_together_though_the_thread_ends(ending):
    ours, theirs = stdlib.socketpair()
    pendings = []

    def thread():
        recorder = Recorder(open=lambda socket: socket.unref())
        pybuntcp.connect(fd=ours.detach(), socket=recorder.handlers)
        pybuntcp.run()
        sink = recorder.socket.sink()
        sink.write(b"came together")
        pendings.append(sink.pending)
        ENDINGS[ending](recorder.socket, sink)

    with theirs:
        theirs.settimeout(TIMEOUT)
        worker = threading.Thread(target=thread, name="worker")
        worker.start()
        worker.join(TIMEOUT)
        assert not worker.is_alive()
        assert pendings == [13]
        assert theirs.recv(100) == b"came together"
        assert theirs.recv(100) == b""


# ---------------------------------------------------------------- the loop is gone

FORKED = """
    def opened(sock):
        sock.unref()
        sinks.append(sock.sink(high_water_mark=0))

    sinks, told = [], []
    ours, theirs = socket.socketpair()
    pybuntcp.connect(fd=ours.detach(), socket={"open": opened, "data": lambda *_: None})
    pybuntcp.run()
    (sink,) = sinks
    sink.write(bytes(8 << 20))
    sink.add_drain_callback(told.append)
    drain = sink.drain()
    drain.send(None)
    child = os.fork()
    if child == 0:
        outcome = "goes round"
        for _ in range(1000):
            try:
                drain.send(None)
            except BrokenPipeError as error:
                outcome = type(error).__name__
                break
        say([outcome, told, sink.pending])
        os._exit(0)
    say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    drain.send(None)
    drain.close()
    sink.socket.terminate()
    pybuntcp.run()
    say([type(error).__name__ for error in told])
"""


def test_a_drain_in_a_child_forked_between_runs_raises_and_the_parents_waits_on():
    child, status, told = run_program(FORKED)
    assert child == ["BrokenPipeError", [], 0]
    assert status == 0
    assert told == ["BrokenPipeError"]


# ---------------------------------------------------------------- corks and last turns

SENDING = {
    "a write larger than a cork": lambda socket: socket.write(bytes(20_000)),
    "a sink at its mark": lambda socket: socket.sink(high_water_mark=0).write(b"x"),
    "a sink past its limit": lambda socket: socket.sink(high_water_mark=0, limit=4).write(b"x"),
    "a flush": lambda socket: socket.flush(),
    "a flush of the sink": lambda socket: socket.sink().flush(),
}


@pytest.mark.parametrize("way", SENDING)
def test_a_drain_is_called_while_a_cork_is_held_if_all_was_sent(loop, transport, way):
    socket, _peer = accepted(loop, transport, Recorder())
    told = DrainCallback()
    with socket.cork():
        socket.sink().write(b"held")
        socket.sink().add_drain_callback(told)
        loop.settle()
        assert (told.errors, socket.pending) == ([], 4)
        SENDING[way](socket)
        assert socket.pending == 0
        assert told.errors == []
        loop.settle()
        assert told.errors == [None]
    loop.settle()
    assert told.errors == [None]


def test_what_a_callback_starts_after_the_last_turn_is_served_by_the_same_run(loop, transport):
    """The last referenced socket closes; in its `close` handler an unreferenced one is written to."""
    served, (ours, theirs) = Recorder(label="served", data=lambda socket, chunk: socket.close()), stdlib.socketpair()
    other, _ = accepted(loop, transport, Recorder(label="other"))
    other.unref()

    def start(error):
        pybuntcp.connect(fd=ours.detach(), socket=served.handlers)

    def write_and_wait(socket, error):
        other.sink().write(b"late")
        other.sink().add_drain_callback(start)

    _socket, peer = accepted(loop, transport, Recorder(close=write_and_wait))
    with theirs:
        theirs.send(b"request")
        peer.shutdown().result()
        run_loop()
        assert served.received() == b"request"
        assert served.count("close") == 1


# ---------------------------------------------------------------- finalizers in awkward places

COLLECTING = """
    import gc
    from support import GAUGES

    class Cycle:
        "Garbage from the start; when it is collected it does what it was told."
        def __init__(self, final):
            self.me = self
            self.final = final

        def __del__(self):
            self.final()

    def check_gauges():
        stats = pybuntcp.stats()
        assert {name: stats[name] for name in GAUGES} == dict.fromkeys(GAUGES, 0)

    gc.collect()
    gc.disable()
    gc.set_threshold(1, 1, 1)       # while enabled it collects at nearly every allocation
"""


def collecting(source):
    """What the program, in which little garbage is collected at once, says until it ends in order."""
    return run_program(textwrap.dedent(COLLECTING) + textwrap.dedent(source))


CLOSED_TWICE = """
    import struct

    def stop():
        if not listener.connections:
            Cycle(stop)                     # not yet
        else:
            stopped.append(True)
            listener.stop(True)

    def close(sock, error):
        closed.append(type(error).__name__)
        listener.stop()

    closed, stopped = [], []
    listener = pybuntcp.listen(hostname="127.0.0.1", port=0, socket={"drain": lambda sock: None, "close": close})
    peer = socket.create_connection(("127.0.0.1", listener.port))
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()                            # a reset
    Cycle(stop)
    gc.enable()
    pybuntcp.run()
    gc.disable()
    check_gauges()
    say(closed)
    say(bool(stopped))
"""


@linux_only
def test_a_finalizer_may_close_the_socket_whose_object_is_made_for_close():
    """A connection that no handler has seen: its object is made when `close` is due."""
    closed, _stopped = collecting(CLOSED_TWICE)
    assert closed == ["ConnectionResetError"]


FREED = """
    def opened(sock):
        sock.unref()
        sinks.append(sock.sink())

    def turn():
        gc.disable()
        sinks[0].socket.terminate()
        pybuntcp.run()                      # the socket's memory is gone

    sinks, told, refused = [], [], []
    ours, theirs = socket.socketpair()
    pybuntcp.connect(fd=ours.detach(), socket={"open": opened, "data": lambda *_: None})
    pybuntcp.run()
    wait = sinks[0].add_drain_callback
    Cycle(turn)
    gc.enable()
    try:
        wait(told.append)
    except BrokenPipeError as error:
        refused.append(type(error).__name__)
    gc.collect()
    assert sinks[0].socket.ready_state == 0
    check_gauges()
    say([len(told), len(refused)])
"""


def test_a_finalizer_may_turn_the_loop_while_a_drain_callback_is_added():
    ((told, refused),) = collecting(FREED)
    assert told + refused == 1


# ---------------------------------------------------------------- given up


class Alike(DrainCallback):
    """A callback that says it is every other."""

    __hash__ = None

    def __eq__(self, other):
        return True


def test_a_drain_given_up_takes_no_other_callback_along(loop, transport):
    socket, _peer = stuffed(loop, transport, Recorder())
    sink, alike = socket.sink(), Alike()
    sink.add_drain_callback(alike)
    drain = sink.drain()
    assert not ended(drain)
    drain.close()
    socket.terminate()
    loop.settle()
    assert isinstance(alike.error, BrokenPipeError)
