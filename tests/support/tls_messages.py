"""Peers whose records the test makes by hand, and what they are for: messages of TLS that come in pieces.

Owns: `Crafted`, a connection whose peer seals with keys that the test has (`tls_peer.Sealer`); `Halved`, one whose
peer has sent half a key update, or half a ticket, which we have looked at; `halved`, what that needs in a coroutine.
Does not know what is then done with the socket.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

from .coroutines import done, turns
from .kernel import unread_bytes
from .loops import Loop
from .pairs import send_and_wait
from .recorder import Recorder
from .tls import SERVER_TLS
from .tls_peer import ALERT, HANDSHAKE, Sealer, TlsPeer, client_context, context_of, dialling, keylog, tls_accepted
from .transports import Transport

CLOSE_NOTIFY, FATAL = b"\1\0", b"\2\x50"
KEY_UPDATE_NOT_REQUESTED = bytes.fromhex("1800000100")  # update_not_requested
_TICKET = b"\0\0\x1c\x20" + b"abcd" + b"\x08" + b"nonce  1" + b"\0\x20" + bytes(range(32)) + b"\0\0"
TICKET = b"\4" + len(_TICKET).to_bytes(3, "big") + _TICKET


class Crafted:
    """A socket of ours and a peer whose records the test makes by hand.

    `functions` are handlers of the `recorder`; `error` is expected. A block makes the connection, and is in its middle.
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
        self.recorder = Recorder(**{"error": lambda socket, error: None, **(functions or {})})
        self._parts = loop, transport, side, options

    def __enter__(self) -> Crafted:
        loop, transport, side, options = self._parts
        self._keys = keylog(self.context)
        path = self._keys.__enter__()
        self.socket, self.peer = side(loop, transport, self.recorder, self.context, **options)
        self.sealer = Sealer(self.peer, path)
        self.seal = self.sealer.seal
        return self

    def __exit__(self, *exception: object) -> None:
        self._keys.__exit__(None, None, None)


class Halved(Crafted):
    """A socket of ours whose peer has sent half a message, and we have looked at it."""

    cut = 4

    def __enter__(self) -> Halved:
        super().__enter__()
        loop, _, side, _ = self._parts
        self.loop, self.updating = loop, side is tls_accepted
        self.message = KEY_UPDATE_NOT_REQUESTED if self.updating else TICKET
        loop.settle()
        send_and_wait(self.socket, self.peer, self.begun())
        loop.settle()
        self.before = self.unread()
        return self

    def begun(self) -> bytes:
        return self.seal(self.message[: self.cut], HANDSHAKE)

    def rest(self) -> bytes:
        """The record that makes it whole."""
        made = self.seal(self.message[self.cut :], HANDSHAKE)
        if self.updating:
            self.sealer.update_keys()
        return made

    def unread(self) -> int:
        """Bytes that the peer's kernel has."""
        return unread_bytes(self.peer.sock)

    def silent(self) -> bool:
        """Nothing has been sent since the half message came."""
        self.loop.settle()
        return self.unread() == self.before

    def farewell(self) -> bytes:
        return self.seal(CLOSE_NOTIFY, ALERT)

    def finish(self) -> None:
        self.peer.send(self.farewell())
        self.loop.run()


async def halved(tcp: Transport, recorder: Recorder, **options: Any) -> tuple[Any, TlsPeer, Sealer]:
    """An accepted socket, its peer, and what seals for that: it sends half of KEY_UPDATE_NOT_REQUESTED itself."""
    listener = tcp.listen(recorder, tls=SERVER_TLS, **options)
    context = client_context()
    with keylog(context) as keys:
        peer = dialling(tcp, listener, context)
        await done(peer.handshake())
        while not recorder.sockets:
            await turns()
        sealer = Sealer(peer, keys)
    listener.stop()
    return recorder.socket, peer, sealer


def end_of_message(sealer: Sealer) -> bytes:
    made = sealer.seal(KEY_UPDATE_NOT_REQUESTED[4:], HANDSHAKE)
    sealer.update_keys()
    return made
