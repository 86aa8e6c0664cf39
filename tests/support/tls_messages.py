"""Peers that send a message of TLS in pieces, between records of data: sockets of ours beside them.

Owns: `Crafted`, a connection whose peer's records the test makes (`tls_records.Sealer`); `HalfMessage`, one whose peer has
sent half a key update, or half a ticket, which we have read; `HalfMessageHere`, the same for a coroutine. Does not know
what is then done with the socket.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

from .coroutines import done, until
from .handlers import ignore
from .kernel import unread_bytes
from .loops import Loop
from .pairs import send_and_wait
from .recorder import Recorder
from .tls import SERVER_TLS
from .tls_peer import client_context, context_of, dialling, tls_accepted
from .tls_records import KEY_UPDATE_NOT_REQUESTED, TICKET, Sealer, keylog
from .transports import Transport

CUT = 4  # bytes of a message in its first piece


class Crafted:
    """A socket of ours and a peer whose records the test makes by hand.

    `functions` are handlers of the `recorder`; `error` is expected. A block makes the connection, and is in its middle.
    What it does not define is the `sealer`'s: `seal`, `message`, `close_notify`, `fatal_alert`.
    """

    def __init__(
        self,
        loop: Loop,
        transport: Transport,
        side: Any,
        version: ssl.TLSVersion | None = None,
        functions: dict[str, Callable[..., Any]] | None = None,
        **options: Any,
    ) -> None:
        self.context = context_of(side, version)
        self.recorder = Recorder(**{"error": ignore, **(functions or {})})
        self._parts = loop, transport, side, options

    def __enter__(self) -> Crafted:
        loop, transport, side, options = self._parts
        self._keys = keylog(self.context)
        path = self._keys.__enter__()
        self.socket, self.peer = side(loop, transport, self.recorder, self.context, **options)
        self.sealer = Sealer(self.peer, path)
        return self

    def __exit__(self, *exception: object) -> None:
        self._keys.__exit__(None, None, None)

    def __getattr__(self, name: str) -> Any:
        if name == "sealer":
            raise AttributeError(name)
        return getattr(self.sealer, name)


class HalfMessage(Crafted):
    """A socket of ours whose peer has sent half a message, which we have read.

    `begin` and `rest` make the two records of a message; a block begins when we have read the first.
    """

    def __enter__(self) -> HalfMessage:
        super().__enter__()
        self.loop, _, side, _ = self._parts
        self.updating = side is tls_accepted
        self._message = KEY_UPDATE_NOT_REQUESTED if self.updating else TICKET
        self.loop.settle()
        send_and_wait(self.socket, self.peer, self.begin())
        self.loop.settle()
        self.before = self.unread()
        return self

    def begin(self) -> bytes:
        return self.message(self._message[:CUT])

    def rest(self) -> bytes:
        """The record that makes it whole."""
        made = self.message(self._message[CUT:])
        if self.updating:
            self.sealer.update_keys()
        return made

    def unread(self) -> int:
        """Bytes that the peer's kernel has."""
        return unread_bytes(self.peer.sock)

    def silent(self) -> bool:
        """Whether nothing has been sent since the half message came."""
        self.loop.settle()
        return self.unread() == self.before

    def finish(self) -> None:
        self.peer.send(self.close_notify())
        self.loop.run()


class HalfMessageHere:
    """An accepted socket, and a peer that sends key updates in pieces, in a coroutine: `await HalfMessageHere.of(...)`."""

    def __init__(self, socket: Any, peer: Any, sealer: Sealer) -> None:
        self.socket, self.peer, self.sealer = socket, peer, sealer

    @classmethod
    async def of(cls, tcp: Transport, recorder: Recorder) -> HalfMessageHere:
        listener = tcp.listen(recorder, tls=SERVER_TLS)
        context = client_context()
        with keylog(context) as keys:
            peer = dialling(tcp, listener, context)
            await done(peer.handshake())
            await until(lambda: recorder.sockets)
            sealer = Sealer(peer, keys)
        listener.stop()
        return cls(recorder.socket, peer, sealer)

    def data_and_half(self, data: bytes) -> bytes:
        """A record of data, and behind it the first half of a message."""
        return self.sealer.seal(data) + self.sealer.message(KEY_UPDATE_NOT_REQUESTED[:CUT])

    def rest(self) -> bytes:
        """The record that makes the message whole."""
        made = self.sealer.message(KEY_UPDATE_NOT_REQUESTED[CUT:])
        self.sealer.update_keys()
        return made
