"""What sinks hold: bytes for each socket of a broadcast, views that are kept, peers that take nothing.

Each scenario is a program of its own, which measures the memory that it has mapped to write to: in a process that has
run other tests, what those gave back would hide the growth. The margins are wide; the defects they are for are wider.
"""

from __future__ import annotations

import gc
import os
import textwrap

import pytest
from support import Recorder, linux_only
from support.kernel import descriptor_limit
from support.programs import run_program
from support.sinks import DrainCallback, ended, stuffed

MEGABYTE = 1 << 20

pytestmark = linux_only
measured = pytest.mark.skipif("san.so" in os.environ.get("LD_PRELOAD", ""), reason="a sanitizer keeps what was freed")

MEASURING = """
    from support import GAUGES

    def memory():
        "Bytes that this process has mapped to write to."
        with open("/proc/self/status") as status:
            (line,) = [line for line in status if line.startswith("VmData")]
        return int(line.split()[1]) * 1024

    sockets, peers = [], []

    def opened(data=lambda *_: None):
        "A socket that does not keep `run` going, and the raw other end, which does not block."
        def is_open(sock):
            sock.unref()
            sockets.append(sock)
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        peers.append(theirs)
        pybuntcp.connect(fd=ours.detach(), socket={"open": is_open, "data": data})
        pybuntcp.run()
        return sockets[-1], theirs

    def in_handler(function):
        "Call it in a handler, again and again until it gives a result; nothing else is left then."
        calls.append(function)
        poke.send(b"now")
        control.ref()
        pybuntcp.run()
        stats = pybuntcp.stats()
        assert {name: stats[name] for name in GAUGES} == dict.fromkeys(GAUGES, 0)
        return results[-1]

    def call(sock, chunk):
        results.append(calls[-1]())
        if results[-1] is None:
            poke.send(b"again")
        else:
            for each in sockets:
                each.terminate()

    calls, results = [], []
    control, poke = opened(call)            # first: a socket that has bytes pending keeps `run` going
"""


def measure(source, *args):
    """What the program, which begins with `MEASURING`, says last."""
    return run_program(textwrap.dedent(MEASURING) + textwrap.dedent(source), *args, timeout=30.0)[-1]


# ---------------------------------------------------------------- many sockets

BROADCAST = """
    count, writer, state = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    subscribers = [opened()[0] for _ in range(count)]
    if state == "stalled":
        for sock in subscribers:
            while not sock.pending:
                assert sock.write(bytes(20_000)) == 20_000
    writers = [sock.sink() if writer == "sink" else sock for sock in subscribers]

    def broadcast():
        before = memory()
        for each in writers:
            assert each.write(b"x" * 100) == 100
        return memory() - before

    say(in_handler(broadcast))
"""


@measured
@pytest.mark.parametrize(("writer", "state"), [("sink", "idle"), ("sink", "stalled"), ("socket", "stalled")])
def test_a_small_write_to_each_of_many_sockets_takes_little_memory_each(writer, state):
    """A whole cork's room for each would be 16 KiB."""
    with descriptor_limit(1200):
        assert measure(BROADCAST, 500, writer, state) < 500 * 6000


# ---------------------------------------------------------------- views that are kept

VIEWS = """
    count, size = int(sys.argv[1]), int(sys.argv[2])
    sink = pybuntcp.ArrayBufferSink()
    sink.start(stream=True, as_memoryview=True, high_water_mark=1 << 20)
    piece, views, before = bytes(size), [], memory()
    for _ in range(count):
        sink.write(piece)
        views.append(sink.flush())
    assert all(bytes(view) == piece for view in views)
    say(memory() - before)
"""


@measured
@pytest.mark.parametrize("size", [8192, 100_000])
def test_views_that_are_kept_hold_at_most_twice_their_bytes(size):
    """Each of the chunks they come from, of the mark's size, would be 1 MiB."""
    assert measure(VIEWS, 50, size) < 50 * 2 * size + 4 * MEGABYTE


# ---------------------------------------------------------------- peers that take nothing

STALLED = """
    limit = int(sys.argv[1])
    sock, peer = opened()
    sink = sock.sink(high_water_mark=limit, limit=limit)
    nearly, rest, little = bytes(limit - limit // 16), bytes(limit // 16), bytes(30_000)
    before = memory()
    assert sink.write(nearly) == len(nearly)
    assert sink.write(rest) == len(rest)       # is at the mark, goes out and stalls
    assert sink.pending > limit // 2
    found, taken = [memory() - before], 0

    def take_and_fill():
        "The peer takes nearly all that libuv was given; then the sink is full once more."
        global taken
        try:
            taken += len(peer.recv(65536))
        except BlockingIOError:
            pass
        if taken < limit - limit // 8:
            return None
        try:
            while True:
                sink.write(little)
        except BufferError:
            return [*found, memory() - before]

    say(in_handler(take_and_fill))
"""


@measured
def test_a_stalled_sink_holds_about_its_limit():
    limit = 8 * MEGABYTE
    stalled, filled_again = measure(STALLED, limit)
    assert stalled < limit + 2 * MEGABYTE
    assert filled_again < 2 * limit + 4 * MEGABYTE  # the chunk under way is given back when its last byte is out


# ---------------------------------------------------------------- those who wait


def test_drains_that_were_given_up_leave_nothing_behind(loop, transport):
    socket, _peer = stuffed(loop, transport, Recorder())
    sink = socket.sink()
    kept, told = sink.drain(), DrainCallback()
    assert not ended(kept)
    sink.add_drain_callback(told)
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(1000):
        drain = sink.drain()
        assert not ended(drain)
        drain.close()
    del drain
    gc.collect()
    assert len(gc.get_objects()) - before < 200
    socket.terminate()
    loop.settle()
    assert isinstance(told.error, BrokenPipeError)
    with pytest.raises(BrokenPipeError):
        ended(kept)
