"""typed: what type checkers and editors know of handlers.

Owns `SocketHandler`, the base that gives a class of handlers their checked signatures, and `HandlersLike`, the forms that
`socket=` takes. Promises to add no handler: the base's methods exist for type checkers alone, so that a class has the
handlers that it defines, and no others. Does not know how handlers are read or called: that is objects/handlers.pyx.
"""

from __future__ import annotations

from types import GenericAlias
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from ._core import Socket, _HandlersLike

    Data = TypeVar("Data", default=Any)
    Chunk = TypeVar("Chunk", bound=bytes | bytearray | memoryview, default=bytes)
    HandlersLike: TypeAlias = _HandlersLike
    """What `socket=` takes: `Handlers`, a mapping, an object with `data`, `drain` or an async `open`."""
else:
    from typing import TypeVar

    Data, Chunk = TypeVar("Data"), TypeVar("Chunk")
    HandlersLike = Any


class SocketHandler(Generic[Data, Chunk]):
    """A base for typed handlers: `class Echo(SocketHandler[State])`, given as `socket=Echo()`.

    Type checkers know the signatures of its handlers: `open(socket)`, `data(socket, chunk)`, `drain(socket)`,
    `end(socket)`, `close(socket, error)`, `error(socket, error)`, `timeout(socket)`,
    `handshake(socket, success, authorization_error)`, `connect_error(socket, error)`. Each may be `async def`, and its
    parameters may have other names. At run time this base defines none of them: a class has only the handlers that it
    defines itself, and `super()` has none to call.

    State: the type of `socket.data`; if it is left out, Any. `SocketHandler[State, memoryview]` goes with
    `binary_type = "memoryview"`, and says that `chunk` is a memoryview; if it is left out, `chunk` is bytes.

    Source: this project's own; `asyncio.Protocol` is a base in the same sense. Bun: `socket: {...}` of TypeScript type
    `SocketHandler<Data>`.
    """

    binary_type: Literal["bytes", "bytearray", "memoryview"]
    """The type of `chunk`. A class that does not set it gets bytes."""

    if TYPE_CHECKING:

        def open(self, socket: Socket[Data]) -> object:
            """The connection is established. Called once, before all other handlers."""

        def data(self, socket: Socket[Data], chunk: Chunk) -> object:
            """Bytes have arrived, at least one. The boundaries of chunks have no meaning."""

        def drain(self, socket: Socket[Data]) -> object:
            """After a short `write`, all that it accepted is passed to the kernel: write the rest now."""

        def end(self, socket: Socket[Data]) -> object:
            """The peer has ended its side. Without `allow_half_open` the socket closes after this."""

        def close(self, socket: Socket[Data], error: OSError | None) -> object:
            """The connection is gone. Called once, after all other handlers. `error`: None, or the reason."""

        def error(self, socket: Socket[Data], error: Exception) -> object:
            """Another handler raised `error`, and the connection stays open; or TLS is broken, and `close` follows."""

        def timeout(self, socket: Socket[Data]) -> object:
            """The time of `socket.timeout`, `idle_timeout` or `read_timeout` is over. The socket closes unless one is set anew."""

        def handshake(self, socket: Socket[Data], success: bool, authorization_error: OSError | None) -> object:
            """The TLS handshake is done, or has failed. With this handler `open` comes before it, not after."""

        def connect_error(self, socket: Socket[Data], error: OSError) -> object:
            """A connection attempt has failed. Called once, in place of all other handlers."""

    else:
        __class_getitem__ = classmethod(GenericAlias)
