"""Connections of `outside.writer`: a C user whose writes are never refused and whose memory is read into.

Owns how a test gets one, and how it is taken down. Does not know what the tests are about.
"""

from __future__ import annotations

from typing import Any

from .peers import Peer
from .recorder import Recorder


def made(outside: Any, **options: Any) -> Any:
    """A Writer, whose events the loop's `run_until` hears of."""
    writer = outside.writer.Writer(**options)
    writer.after = _after
    return writer


def _after() -> None:
    if Recorder.after_event is not None:
        Recorder.after_event()


def opened(loop: Any, transport: Any, writer: Any, *, rcvbuf: int | None = None, **options: Any) -> Peer:
    """Have the Writer accept a connection; its peer. The listener has stopped."""
    listener = transport.listen(writer.handlers(), **options)
    peer = transport.peer(listener, rcvbuf=rcvbuf)
    loop.run_until(lambda: "open" in writer.names())
    loop.wait(peer.connected)
    listener.stop()
    return peer


def finished(loop: Any, writer: Any, peer: Peer) -> None:
    """Close both sides, and run until `close` was told."""
    peer.close()
    if not writer.gone:
        writer.do("close_now")
    loop.run()
    assert writer.gone
