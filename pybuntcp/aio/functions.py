"""functions: asyncio's functions for connections and servers, on pybuntcp's sockets, in whichever event loop runs.

    server = await pybuntcp.aio.start_server(serve, "127.0.0.1", 7000)

They have asyncio's signatures, as of the running Python, with `limits` for servers, and return what asyncio's do. In a
loop of ours they are its methods; in the standard library's, and in uvloop, the connections are transports of ours that
this loop runs. Errors: asyncio's; RuntimeError if no event loop runs.

Owns nothing: see `stand_in`.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import ssl as stdlib_ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import IO, TYPE_CHECKING, Any, TypeVar

from .connections import Connections
from .limits import LIMITS
from .stand_in import stand_in_for

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .options import ConnectionOptions, ServerOptions, TLSOptions, UnixConnectionOptions, UnixServerOptions

_Protocol = TypeVar("_Protocol", bound=asyncio.BaseProtocol)
_Function = TypeVar("_Function", bound=Callable[..., Any])

READ_LIMIT = 1 << 16  # bytes in a StreamReader; asyncio's own default

Connected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], "Awaitable[None] | None"]


def connections_of(loop: asyncio.AbstractEventLoop) -> Any:
    """What makes connections of ours in this loop: a loop of ours itself, or what stands in for another one."""
    return loop if isinstance(loop, Connections) else stand_in_for(loop)


def _here() -> Any:
    return connections_of(asyncio.get_running_loop())


def _as_of(name: str, extra: tuple[str, ...] = ()) -> Callable[[_Function], _Function]:
    """Show the signature that asyncio's function or method of this name has in the running Python, and options of ours."""
    theirs = getattr(asyncio, name, None) or getattr(asyncio.SelectorEventLoop, name)

    def decorate(function: _Function) -> _Function:
        signature = inspect.signature(theirs)
        parameters = [each for each in signature.parameters.values() if each.name != "self"]
        options = [inspect.Parameter(each, inspect.Parameter.KEYWORD_ONLY, default=None) for each in extra]
        at = len(parameters) - (parameters[-1].kind is inspect.Parameter.VAR_KEYWORD)
        parameters[at:at] = options
        function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        return function

    return decorate


# ---------------------------------------------------------------- protocols


@_as_of("create_connection")
async def create_connection(
    protocol_factory: Callable[[], _Protocol],
    host: str | None = None,
    port: int | str | None = None,
    **options: Unpack[ConnectionOptions],
) -> tuple[asyncio.Transport, _Protocol]:
    """Connect by TCP. Returns (transport, protocol), after `connection_made`. See `loop.create_connection`."""
    made: tuple[asyncio.Transport, _Protocol] = await _here().create_connection(protocol_factory, host, port, **options)
    return made


@_as_of("create_unix_connection")
async def create_unix_connection(
    protocol_factory: Callable[[], _Protocol],
    path: str | os.PathLike[str] | None = None,
    **options: Unpack[UnixConnectionOptions],
) -> tuple[asyncio.Transport, _Protocol]:
    """Connect to a unix socket. Returns (transport, protocol). See `loop.create_unix_connection`."""
    made: tuple[asyncio.Transport, _Protocol] = await _here().create_unix_connection(protocol_factory, path, **options)
    return made


@_as_of("create_server", LIMITS)
async def create_server(
    protocol_factory: Callable[[], asyncio.BaseProtocol],
    host: str | Sequence[str] | None = None,
    port: int | str | None = None,
    **options: Unpack[ServerOptions],
) -> asyncio.Server:
    """Serve on TCP. Returns an `asyncio.Server`. See `loop.create_server`.

    Options of `pybuntcp.listen` in addition: `max_connections` (a number), `idle_timeout`, `read_timeout`, `linger_timeout`
    (seconds), `no_delay`. Errors: those of `listen` for them.
    """
    server: asyncio.Server = await _here().create_server(protocol_factory, host, port, **options)
    return server


@_as_of("create_unix_server", LIMITS)
async def create_unix_server(
    protocol_factory: Callable[[], asyncio.BaseProtocol],
    path: str | os.PathLike[str] | None = None,
    **options: Unpack[UnixServerOptions],
) -> asyncio.Server:
    """Serve on a unix socket; options as for `create_server`. Returns an `asyncio.Server`. See `loop.create_unix_server`."""
    server: asyncio.Server = await _here().create_unix_server(protocol_factory, path, **options)
    return server


@_as_of("connect_accepted_socket")
async def connect_accepted_socket(
    protocol_factory: Callable[[], _Protocol], sock: Any, **options: Unpack[TLSOptions]
) -> tuple[asyncio.Transport, _Protocol]:
    """Use a connection that other code has accepted; the transport owns `sock` from now on. Returns (transport, protocol)."""
    made: tuple[asyncio.Transport, _Protocol] = await _here().connect_accepted_socket(protocol_factory, sock, **options)
    return made


@_as_of("start_tls")
async def start_tls(
    transport: asyncio.BaseTransport,
    protocol: asyncio.BaseProtocol,
    sslcontext: stdlib_ssl.SSLContext,
    *,
    server_side: bool = False,
    server_hostname: str | None = None,
    **options: Any,
) -> asyncio.Transport | None:
    """Start TLS. Returns the transport that `protocol` must use in place of this one. See `loop.start_tls`.

    A transport that is not pybuntcp's is passed to the loop's own `start_tls`.
    """
    secured: asyncio.Transport | None = await _here().start_tls(
        transport, protocol, sslcontext, server_side=server_side, server_hostname=server_hostname, **options
    )
    return secured


@_as_of("sendfile")
async def sendfile(
    transport: asyncio.WriteTransport,
    file: IO[bytes],
    offset: int = 0,
    count: int | None = None,
    *,
    fallback: bool = True,
) -> int:
    """Send a file by the kernel's sendfile, after what was written. Returns the bytes sent. See `loop.sendfile`.

    fallback: read the file and write it where the kernel cannot send it, as over TLS. A transport that is not pybuntcp's
    is passed to the loop's own `sendfile`.
    """
    sent: int = await _here().sendfile(transport, file, offset, count, fallback=fallback)
    return sent


# ---------------------------------------------------------------- streams
# asyncio's own functions call methods of the loop that runs. Their readers and writers get what stands in for it: a writer's
# start_tls() calls that of its loop.


@_as_of("open_connection")
async def open_connection(
    host: str | None = None,
    port: int | str | None = None,
    *,
    limit: int = READ_LIMIT,
    **options: Unpack[ConnectionOptions],
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect by TCP. Returns (reader, writer). limit: bytes. See `asyncio.open_connection`."""
    here, reader, protocol = _stream(limit)
    transport, _ = await here.create_connection(lambda: protocol, host, port, **options)
    return reader, asyncio.StreamWriter(transport, protocol, reader, here)


@_as_of("open_unix_connection")
async def open_unix_connection(
    path: str | os.PathLike[str] | None = None, *, limit: int = READ_LIMIT, **options: Unpack[UnixConnectionOptions]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to a unix socket. Returns (reader, writer). limit: bytes. See `asyncio.open_unix_connection`."""
    here, reader, protocol = _stream(limit)
    transport, _ = await here.create_unix_connection(lambda: protocol, path, **options)
    return reader, asyncio.StreamWriter(transport, protocol, reader, here)


@_as_of("start_server", LIMITS)
async def start_server(
    client_connected_cb: Connected,
    host: str | Sequence[str] | None = None,
    port: int | str | None = None,
    *,
    limit: int = READ_LIMIT,
    **options: Unpack[ServerOptions],
) -> asyncio.Server:
    """Serve on TCP: `client_connected_cb(reader, writer)` is called for each connection, as a task if it is `async def`.

    Returns an `asyncio.Server`. limit: bytes. Options as for `create_server`. See `asyncio.start_server`.
    """
    server: asyncio.Server = await _here().create_server(_streams(client_connected_cb, limit), host, port, **options)
    return server


@_as_of("start_unix_server", LIMITS)
async def start_unix_server(
    client_connected_cb: Connected,
    path: str | os.PathLike[str] | None = None,
    *,
    limit: int = READ_LIMIT,
    **options: Unpack[UnixServerOptions],
) -> asyncio.Server:
    """As `start_server`, on a unix socket. See `asyncio.start_unix_server`."""
    server: asyncio.Server = await _here().create_unix_server(_streams(client_connected_cb, limit), path, **options)
    return server


def _stream(limit: int) -> tuple[Any, asyncio.StreamReader, asyncio.StreamReaderProtocol]:
    here = _here()
    reader = asyncio.StreamReader(limit=limit, loop=here)
    return here, reader, asyncio.StreamReaderProtocol(reader, loop=here)


def _streams(client_connected_cb: Connected, limit: int) -> Callable[[], asyncio.StreamReaderProtocol]:
    here = _here()

    def protocol() -> asyncio.StreamReaderProtocol:
        reader = asyncio.StreamReader(limit=limit, loop=here)
        return asyncio.StreamReaderProtocol(reader, client_connected_cb, loop=here)

    return protocol
