"""Listeners and connects of ours, without a raw peer: quiet ones, refused ones, and a pair of which both ends are ours.

What they open is taken down by the transport, or by the test.
"""

from __future__ import annotations

from typing import Any

import pytest

import pybuntcp

from .handlers import QUIET
from .kernel import descriptors


def quiet_listener(**options: Any) -> Any:
    """A listener whose handlers do nothing, unless `socket=` says otherwise."""
    return pybuntcp.listen(**{"socket": QUIET, **options})


def refusal(**options: Any) -> Any:
    """The OSError of a listen that must fail, after a look that it left nothing open."""
    before = descriptors()
    with pytest.raises(OSError) as caught:  # noqa: PT011 - who asks says which one
        quiet_listener(**options)
    assert descriptors() == before
    return caught.value


def answers(loop: Any, transport: Any, listener: Any) -> bool:
    """Whether this echo listener serves a new connection."""
    peer = transport.peer(listener)
    peer.send(b"alive?")
    return loop.wait(peer.recv_exactly(6)) == b"alive?"


def connect(recorder: Any, **options: Any) -> Any:
    """`pybuntcp.connect` with a Recorder's handlers."""
    return pybuntcp.connect(socket=recorder.handlers, **options)


def finished(loop: Any, connecting: Any) -> tuple[Any, Any]:
    """The awaitable's outcome as (socket, None) or (None, error), once the loop has nothing left to do."""
    loop.run()
    assert connecting.done()
    error = connecting.exception()
    return (None, error) if error is not None else (connecting.result(), None)


def local_pair(loop: Any, transport: Any, server: Any, client: Any, **options: Any) -> tuple[Any, Any, Any]:
    """A listener and its first connection, both ends ours: (listener, accepted socket, client socket).

    `server` and `client` are Recorders; `options` go to `listen`.
    """
    listener = transport.listen(server, **options)
    transport.connect(client, listener)
    loop.run_until(lambda: server.sockets and client.sockets)
    return listener, server.sockets[-1], client.sockets[-1]
