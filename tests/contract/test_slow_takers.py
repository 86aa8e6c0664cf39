"""Contract, Writing (W5): a peer that takes bytes, however slowly, is never cut, whatever led to the ending.

Everything is with the kernel, or a tail waits, and the peer needs many times the `linger_timeout` for it. A peer that
stops taking is reset when that is over. What a peer has taken, a kernel tells by what is acknowledged.
"""

from __future__ import annotations

import threading
import time

import pytest
from support import Recorder, accepted, linux_only, pattern, shrink_send_buffer

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
        if not transport.can_reset:
            shrink_send_buffer(socket)  # a unix socket's peer takes whole pieces, of half of this
        ENDINGS[verb](socket, pattern(size))

    return Recorder(open=opened, data=lambda socket, chunk: None)


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
