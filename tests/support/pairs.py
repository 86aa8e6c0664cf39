"""A connection ready for use, seen from either side, and a stream to write on it.

`accepted` and `connected` have one signature, so that a test takes the side as a parameter
(`@sides`). `send_and_wait`, `finish_and_wait` and `reset_and_wait` return when our kernel knows, and
our loop has not turned: what the loop then does with it is the test's own order of events.
"""

from __future__ import annotations

from typing import Any

import pytest

from .kernel import hung_up, pattern, raw, unread_bytes, wait_for, was_reset
from .loops import Loop
from .peers import Peer
from .recorder import Recorder
from .tls_socket import wire_size
from .transports import Transport


def accepted(
    loop: Loop, transport: Transport, recorder: Recorder, *, rcvbuf: int | None = None, **options: Any
) -> tuple[Any, Peer]:
    """An accepted socket after its `open`, and the peer; the listener has stopped, so that
    `loop.run()` lasts as long as the socket."""
    listener = transport.listen(recorder, **options)
    peer = transport.peer(listener, rcvbuf=rcvbuf)
    loop.run_until(lambda: recorder.sockets)
    loop.wait(peer.connected)  # or a reset made here might meet its connect()
    listener.stop()
    return recorder.socket, peer


def connected(
    loop: Loop, transport: Transport, recorder: Recorder, *, rcvbuf: int | None = None, **options: Any
) -> tuple[Any, Peer]:
    """A connecting socket after its `open`, and the peer."""
    server = transport.raw_server(rcvbuf=rcvbuf)
    peer = server.accept()
    transport.connect(recorder, server, **options)
    loop.run_until(lambda: recorder.sockets)
    loop.wait(peer.connected)
    return recorder.socket, peer


sides = pytest.mark.parametrize("side", [accepted, connected])


def send_and_wait(socket, peer, data: bytes) -> None:
    """The peer's bytes are in our kernel's buffer."""
    with raw(socket) as duplicate:
        there = unread_bytes(duplicate) + wire_size(peer.sock, len(data))
        peer.send(data).result()
        wait_for(lambda: unread_bytes(duplicate) == there, "the bytes in our kernel")


def finish_and_wait(socket, peer) -> None:
    """The peer's FIN is in our kernel."""
    peer.shutdown().result()
    wait_for(lambda: hung_up(socket), "the FIN in our kernel")


def reset_and_wait(socket, peer) -> None:
    """The peer goes with bytes unread: RST on TCP, ECONNRESET on unix."""
    assert socket.write(b"unread") == 6
    wait_for(lambda: unread_bytes(peer.sock) == wire_size(peer.sock, 6), "the bytes that will not be read")
    peer.close().result()
    wait_for(lambda: was_reset(socket), "the reset in our kernel")


def bring_about(event: str, socket: Any, peer: Any) -> None:
    """Have `event` come to the socket; "open", "data" and "error" come by themselves, or by what the peer sends."""
    if event == "drain":
        Feed(8 << 20).fill(socket)
        peer.recv_until_eof().ignore()
    elif event == "timeout":
        socket.timeout(0.001)
    elif event == "end":
        peer.shutdown().ignore()
    elif event == "close":
        peer.close().ignore()


def first_of_twenty_closes_the_others(loop: Any, transport: Any, make: Any, verb: str) -> Any:
    """Twenty connections are readable in one poll; the first whose `data` is called calls `verb` of the others. Gives the recorder."""

    def data(socket, chunk):
        for sibling in recorder.sockets:
            if sibling is not socket:
                getattr(sibling, verb)()

    recorder = make(data=data)
    listener = transport.listen(recorder)
    peers = [transport.peer(listener) for _ in range(20)]
    loop.run_until(lambda: len(recorder.sockets) == 20)
    listener.stop()
    for peer in peers:
        peer.send(b"all at once").result()  # every one is readable in the next poll
    loop.run_until(lambda: recorder.count("close") == 19)
    return recorder


class Feed:
    """A recognisable stream written piece by piece: what was accepted is `data[:at]`."""

    def __init__(self, size: int) -> None:
        self.data = pattern(size)
        self.at = 0

    def write(self, sock: Any, size: int) -> int:
        """The next `size` bytes (or the rest); what `write` returned."""
        count = sock.write(self.data, self.at, min(size, len(self.data) - self.at))
        self.at += max(count, 0)
        return count

    def fill(self, sock: Any, size: int = 65536) -> int:
        """Write until a write comes up short; its return value."""
        while self.at < len(self.data):
            asked = min(size, len(self.data) - self.at)
            count = self.write(sock, size)
            if count < asked:
                return count
        raise AssertionError("the whole feed was accepted: no short write")

    @property
    def accepted(self) -> bytes:
        return self.data[: self.at]
