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
    parameters may have other names. At run time it defines none of them: a class has those that it writes, and there
    is nothing to call by `super()`.

    State: what `socket.data` is; left out, Any. `SocketHandler[State, memoryview]` goes with
    `binary_type = "memoryview"`, and says that `chunk` is one; left out, bytes.

    Source: this project's own; `asyncio.Protocol` is a base in the same sense. Bun: `socket: {...}` of TypeScript type
    `SocketHandler<Data>`.
    """

    binary_type: Literal["bytes", "bytearray", "memoryview"]
    """The type of `chunk`. A class that does not set it gets bytes."""

    if TYPE_CHECKING:

        def open(self, socket: Socket[Data]) -> object:
            """The connection is established: first of all, once."""

        def data(self, socket: Socket[Data], chunk: Chunk) -> object:
            """Bytes have arrived, at least one; where they are divided means nothing."""

        def drain(self, socket: Socket[Data]) -> object:
            """After a `write` that was short: all that was accepted is with the kernel. Write on."""

        def end(self, socket: Socket[Data]) -> object:
            """The peer has ended its side. Without `allow_half_open` the socket closes after this."""

        def close(self, socket: Socket[Data], error: OSError | None) -> object:
            """The connection is gone: last of all, once. `error`: None, or why."""

        def error(self, socket: Socket[Data], error: Exception) -> object:
            """Another handler raised `error`, or TLS is broken and `close` follows. The connection lives on."""

        def timeout(self, socket: Socket[Data]) -> object:
            """The time of `socket.timeout` or `idle_timeout` is over. It closes unless `socket.timeout` is called again."""

        def handshake(self, socket: Socket[Data], success: bool, authorization_error: OSError | None) -> object:
            """The TLS handshake is done, or has failed. With this handler `open` comes before it, not after."""

        def connect_error(self, socket: Socket[Data], error: OSError) -> object:
            """A connection attempt has failed: once, in place of all other handlers."""

    else:
        __class_getitem__ = classmethod(GenericAlias)
