"""Contract, Writing (W5): a peer that takes bytes, however slowly, is never cut, whatever led to the ending.

Everything is with the kernel, or a tail waits, and the peer needs many times the `linger_timeout` for it. A peer that
stops taking is reset when that is over. What a peer has taken, a kernel tells by what is acknowledged.
"""

from __future__ import annotations

import errno
import threading
import time

import pytest
from support import LATE, Recorder, TlsTransport, accepted, linux_only, pattern, shrink_send_buffer
from support.marks import counts_unsent

LINGER = 0.3  # seconds
PAUSE = 0.02  # between two sips; far less than an eighth of LINGER
IN_KERNEL = 400_000  # more than the peer's kernel takes, less than both do
WITH_TAIL = 6_000_000
ROOM = 8 << 20


def sipping(peer, size, seconds=4 * LINGER):
    """A job: all bytes before the end of file, taken steadily over so long."""

    def sip():
        data = bytearray()
        sips = round(seconds / PAUSE)
        due = time.monotonic()
        while len(data) < size:
            due += PAUSE
            threading.Event().wait(due - time.monotonic())
            for _ in range(1 + size // sips // 65536):
                chunk = peer.sock.recv(min(65536, size // sips + 1))
                if not chunk:
                    return bytes(data)
                data += chunk
        return bytes(data + peer.sock.recv(1))

    return peer.call(sip)


def answering(transport, size, verb):
    """Its `open` gives the whole answer and ends it by `verb`."""

    def opened(socket):
        soften(transport, socket)
        ENDINGS[verb](socket, pattern(size))

    return Recorder(open=opened, data=lambda socket, chunk: None)


def soften(transport, socket):
    """A unix socket's peer takes whole pieces: half of the send buffer."""
    if not transport.can_reset:
        shrink_send_buffer(socket)


def written(socket, data):
    assert socket.write(data) == len(data)
    socket.flush()


def by_end(socket, data):
    assert socket.end(data) == len(data)


def by_sink(socket, data):
    socket.sink(limit=None).end(data)


def by_close(socket, data):
    written(socket, data)
    socket.close()


def by_stop(socket, data):
    written(socket, data)
    socket.listener.stop(True)


def by_with(socket, data):
    with socket:
        written(socket, data)


def by_shutdown_true(socket, data):
    socket.shutdown(True)
    by_end(socket, data)


ENDINGS = {
    "end": by_end,
    "sink.end": by_sink,
    "close": by_close,
    "stop(True)": by_stop,
    "with": by_with,
    "shutdown(True), end": by_shutdown_true,
}
endings = pytest.mark.parametrize("verb", ENDINGS)


def check_given_every_byte(loop, transport, verb, size, rcvbuf):
    recorder = answering(transport, size, verb)
    _socket, peer = accepted(loop, transport, recorder, rcvbuf=rcvbuf, high_water_mark=ROOM, linger_timeout=LINGER)
    assert loop.wait(sipping(peer, size)) == pattern(size)
    peer.shutdown().ignore()
    loop.run()
    assert recorder.close_error is None


@endings
@linux_only
def test_w5_a_peer_that_takes_slowly_what_is_with_the_kernel_is_given_every_byte(loop, transport, verb):
    check_given_every_byte(loop, transport, verb, IN_KERNEL, rcvbuf=4096)


@pytest.mark.parametrize("verb", ["end", "close"])
@linux_only
def test_w5_a_peer_that_takes_a_tail_slowly_is_given_every_byte(loop, transport, verb):
    check_given_every_byte(loop, transport, verb, WITH_TAIL, rcvbuf=65536)


@linux_only
def test_w5_a_peer_that_half_closes_and_takes_slowly_is_given_every_byte(loop, transport, handlers):
    """Its own end closes our side, with everything still to come."""
    recorder = handlers(
        open=lambda socket: soften(transport, socket), end=lambda socket: written(socket, pattern(IN_KERNEL))
    )
    _socket, peer = accepted(loop, transport, recorder, rcvbuf=4096, high_water_mark=ROOM, linger_timeout=LINGER)
    peer.shutdown().result()
    assert loop.wait(sipping(peer, IN_KERNEL)) == pattern(IN_KERNEL)
    loop.run()
    assert recorder.close_error is None


@pytest.mark.parametrize("verb", ["end", "shutdown"])
@linux_only
def test_t1_what_a_slow_peer_takes_after_our_end_restarts_idle_timeout(loop, over_tcp, verb, handlers):
    def opened(socket):
        written(socket, pattern(IN_KERNEL))
        getattr(socket, verb)()

    recorder = handlers(open=opened, data=lambda socket, chunk: None)
    _socket, peer = accepted(loop, over_tcp, recorder, rcvbuf=4096, high_water_mark=ROOM, idle_timeout=LINGER)
    assert loop.wait(sipping(peer, IN_KERNEL)) == pattern(IN_KERNEL)
    assert recorder.count("timeout") == 0
    peer.shutdown().ignore()
    loop.run()
    assert recorder.close_error is None


def check_reset_on_time(loop, recorder, peer, clock):
    """It took some, steadily, and stops: `clock` more, and an eighth, from its last byte."""
    taken = loop.wait(sipping(peer, IN_KERNEL // 4, seconds=2 * clock))
    stopped = time.monotonic()
    assert recorder.count("close") == 0
    loop.run_until(lambda: recorder.count("close"))
    assert time.monotonic() - stopped < clock * 1.125 + LATE
    assert recorder.close_error.errno == errno.ETIMEDOUT
    return taken


@endings
@counts_unsent
def test_w5_a_peer_that_stops_taking_is_reset_on_time(loop, over_tcp, verb):
    recorder = answering(over_tcp, IN_KERNEL, verb)
    _socket, peer = accepted(loop, over_tcp, recorder, rcvbuf=4096, high_water_mark=ROOM, linger_timeout=LINGER)
    check_reset_on_time(loop, recorder, peer, LINGER)
    loop.run()


@linux_only
def test_t1_a_peer_that_stops_taking_after_our_end_is_reported_by_idle_timeout_on_time(loop, over_tcp):
    recorder = answering(over_tcp, IN_KERNEL, "end")
    _socket, peer = accepted(loop, over_tcp, recorder, rcvbuf=4096, high_water_mark=ROOM, idle_timeout=LINGER)
    check_reset_on_time(loop, recorder, peer, LINGER)
    loop.run()


@linux_only
def test_w5_a_stalled_peer_is_never_reset_early(loop, over_tcp, handlers):
    recorder = handlers(data=lambda socket, chunk: None)
    socket, _peer = accepted(loop, over_tcp, recorder, rcvbuf=4096, high_water_mark=ROOM, linger_timeout=LINGER)
    called = time.monotonic()
    socket.end(pattern(WITH_TAIL))
    loop.run()
    assert LINGER <= time.monotonic() - called < LINGER * 1.125 + LATE
    assert recorder.close_error.errno == errno.ETIMEDOUT


@counts_unsent
def test_w5_a_close_under_an_upload_gives_a_slow_peer_every_byte(loop, over_tcp, handlers):
    """What the peer sends is thrown away meanwhile: a reset would take ours with it."""

    def data(socket, chunk):
        if socket.ready_state == 1:
            written(socket, pattern(IN_KERNEL))
            socket.close()

    recorder = handlers(data=data)
    _socket, peer = accepted(loop, over_tcp, recorder, rcvbuf=4096, high_water_mark=ROOM, linger_timeout=LINGER)
    peer.send(b"a request, and an upload").result()
    loop.run_until(lambda: recorder.count("data"))
    for _ in range(4):
        peer.send(b"more").ignore()
    assert loop.wait(sipping(peer, IN_KERNEL)) == pattern(IN_KERNEL)
    loop.run()
    assert recorder.close_error is None


@linux_only
def test_w5_what_was_written_before_an_upgrade_that_is_closed_reaches_a_slow_peer(loop, tcp):
    def opened(socket):
        shrink_send_buffer(socket)
        written(socket, pattern(IN_KERNEL))
        assert socket.pending > 0
        secured = {"tls": TlsTransport().server_options["tls"], "socket": recorder.handlers}
        socket.upgrade_tls(**secured, server=True).close()

    recorder = Recorder(open=opened)
    _socket, peer = accepted(loop, tcp, recorder, rcvbuf=4096, high_water_mark=ROOM, linger_timeout=LINGER)
    assert loop.wait(sipping(peer, IN_KERNEL)) == pattern(IN_KERNEL)
    loop.run()
