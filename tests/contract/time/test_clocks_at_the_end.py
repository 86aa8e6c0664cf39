"""CONTRACT.md, "Time" and "Reading and closing": which clock runs on a socket that ends, closes, or is broken by then.

A closed socket has none, a closing one has its `linger_timeout` alone, which no verb restarts or stops, and a timeout that
was told ends the connection whatever verb the handler used.
"""

from __future__ import annotations

import errno
import time

import pytest
from support import LATE, accepted, finish_and_wait, linux_only, metronome, reset_and_wait
from support.marks import counts_unsent
from support.slots import settle_until

from pybuntcp.testing import clock as turned

LINGER = 0.3  # seconds
ETERNITY = 1000

# ---------------------------------------------------------------- broken between end() and close()


def reading_shut(loop, socket, peer, recorder):
    socket.shutdown(True)


def at_the_end(loop, socket, peer, recorder):
    finish_and_wait(socket, peer)
    loop.run_until(lambda: recorder.count("end"))


ENDINGS = {
    "end": lambda socket: socket.end(b"y"),
    "end, flush": lambda socket: [socket.end(b"y"), socket.flush()],
    "shutdown": lambda socket: socket.shutdown(),
    "timeout": lambda socket: socket.timeout(ETERNITY),
}


@linux_only
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("before", [reading_shut, at_the_end])
def test_r4_a_close_whose_write_breaks_where_no_more_can_be_read_arms_no_clock(
    loop, transport, before, ending, handlers
):
    recorder = handlers()
    socket, peer = accepted(loop, transport, recorder, allow_half_open=True, linger_timeout=LINGER)
    before(loop, socket, peer, recorder)
    reset_and_wait(socket, peer)
    with socket.cork():
        socket.write(b"x")
        ENDINGS[ending](socket)
        socket.close()
    assert loop.gauges()["armed_timers"] == 0
    loop.run()
    with metronome(loop, transport, LINGER / 3, 5, lambda: None) as over:
        loop.run_until(over)  # a clock of a socket that is gone would have rung
    assert recorder.names(without=("end",)) == ["open", "close"]


@linux_only
def test_r4_the_same_in_a_handler_arms_no_clock(loop, transport, handlers):
    def data(socket, chunk):
        socket.write(b"x")
        socket.end(b"y")
        socket.shutdown(True)
        socket.close()
        told.append(loop.gauges()["armed_timers"])

    told = []
    recorder = handlers(data=data)
    socket, peer = accepted(loop, transport, recorder, linger_timeout=LINGER)
    assert socket.write(b"unread") == 6
    peer.send(b"x").result()
    peer.close().result()
    loop.run_until(lambda: recorder.count("close"))
    assert told == [0]
    with metronome(loop, transport, LINGER / 3, 5, lambda: None) as over:
        loop.run_until(over)
    assert recorder.names() == ["open", "data", "close"]


# ---------------------------------------------------------------- closing

PAYLOAD = bytes(400_000)  # more than the peer's kernel takes, less than both do


def closing(loop, over_tcp, recorder, **options):
    """A socket that closes: everything is with the kernel, and the peer reads nothing."""
    socket, peer = accepted(loop, over_tcp, recorder, rcvbuf=4096, high_water_mark=len(PAYLOAD), **options)
    assert socket.write(PAYLOAD) == len(PAYLOAD)
    socket.flush()
    socket.close()
    return socket, peer


def corked(socket):
    with socket.cork():
        pass


TOUCHES = {
    "flush": lambda socket: socket.flush(),
    "cork": corked,
    "timeout(0)": lambda socket: socket.timeout(0),
    "timeout": lambda socket: socket.timeout(ETERNITY),
    "close": lambda socket: socket.close(),
    "shutdown": lambda socket: socket.shutdown(),
    "resume": lambda socket: socket.resume(),
}


@counts_unsent
@pytest.mark.parametrize("touch", TOUCHES)
def test_w5_no_verb_on_a_closing_socket_puts_off_its_linger_timeout(loop, over_tcp, touch, handlers):
    recorder = handlers()
    called = time.monotonic()
    socket, _peer = closing(loop, over_tcp, recorder, linger_timeout=LINGER)
    with metronome(loop, over_tcp, 0.02, 200, lambda: TOUCHES[touch](socket)) as over:
        loop.run_until(lambda: recorder.count("close") or over())
        assert recorder.count("close") == 1
    assert LINGER <= time.monotonic() - called < LINGER + LATE
    assert recorder.close_error.errno == errno.ETIMEDOUT
    loop.run()


@linux_only
@pytest.mark.parametrize("touch", TOUCHES)
def test_w5_no_verb_on_a_closing_socket_keeps_it_open_once_the_peer_has_everything(loop, over_tcp, touch, handlers):
    """The peer ends nothing itself."""
    recorder = handlers()
    socket, peer = closing(loop, over_tcp, recorder, linger_timeout=ETERNITY)
    TOUCHES[touch](socket)
    received = peer.recv_until_eof()
    loop.run_until(lambda: recorder.count("close"))
    assert len(received.result()) == len(PAYLOAD)
    assert recorder.names() == ["open", "close"]
    assert recorder.close_error is None


@pytest.mark.parametrize("armed", ["before", "after", "idle"])
def test_t1_no_timeout_is_called_after_close(loop, over_tcp, armed, handlers):
    """Nor does it cut short what the linger time guards."""

    def later():
        turned.advance(ETERNITY)
        return recorder.count("close")

    recorder = handlers()
    idle = {"idle_timeout": ETERNITY / 2} if armed == "idle" else {}
    socket, _peer = accepted(loop, over_tcp, recorder, linger_timeout=ETERNITY, **idle)
    while socket.write(PAYLOAD) > 0:
        pass
    if armed == "before":
        socket.timeout(0.02)
    called = turned.time()
    socket.close()
    if armed == "after":
        socket.timeout(0.02)
    turned.advance(ETERNITY / 2 + 1)  # past the others, and not past the linger time
    loop.settle()
    assert recorder.names() == ["open"]
    settle_until(loop, later, "the linger time, which begins anew as long as the peer's kernel takes a byte")
    loop.run()
    assert recorder.names() == ["open", "close"]
    assert turned.time() - called >= ETERNITY


# ---------------------------------------------------------------- a timeout was told


@pytest.mark.parametrize("pending", [False, True])
@pytest.mark.parametrize("clock", ["timeout", "idle_timeout"])
@pytest.mark.parametrize("verbs", ["shutdown", "end", "shutdown end", "flush shutdown"])
def test_t1_a_timeout_handler_that_ends_our_side_does_not_keep_the_socket_open(
    loop, transport, verbs, clock, pending, handlers
):
    """The peer neither reads nor ends."""

    def timeout(socket):
        for verb in verbs.split():
            getattr(socket, verb)()

    recorder = handlers(timeout=timeout)
    idle = {"idle_timeout": 0.02} if clock == "idle_timeout" else {}
    socket, _peer = accepted(loop, transport, recorder, linger_timeout=LINGER, **idle)
    while pending and socket.write(PAYLOAD) > 0:
        pass
    if not idle:
        socket.timeout(0.02)
    loop.run_until(lambda: recorder.count("timeout"))
    turned.advance(LINGER)  # what is left to wait for
    loop.run()
    assert recorder.names() == ["open", "timeout", "close"]
    assert type(recorder.close_error) is TimeoutError
