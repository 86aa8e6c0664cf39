"""The types of the compiled module `pybuntcp._core`, whose files are in `_core/`.

Owns nothing at run time. `mypy.stubtest` compares it with the built extension, and `tests/typing/` with how programs
use it. Its docstrings are those of the extension, for editors, which cannot read that: `make stubs` writes them.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager
from enum import IntEnum
from types import GenericAlias
from typing import Any, Generic, Literal, NoReturn, Protocol, SupportsFloat, SupportsIndex, TypeAlias, final, overload

from typing_extensions import Buffer, Self, TypeVar, TypeVarTuple, Unpack

from .options import ConnectOptions, ListenOptions
from .tls.config import Config
from .tls.options import TLSOptions

_Data = TypeVar("_Data", default=Any)  # invariant: `socket.data` can be assigned
_Args = TypeVarTuple("_Args")
_TLS: TypeAlias = Mapping[str, Any] | TLSOptions | ssl.SSLContext | bool
_Family: TypeAlias = Literal["IPv4", "IPv6", "unix"]

# The return type is free: a coroutine is run as a task, anything else is ignored.
_OnEvent: TypeAlias = Callable[[Socket[Any]], object]
_OnData: TypeAlias = Callable[[Socket[Any], Any], object]  # bytes, bytearray or memoryview: see binary_type
_OnClose: TypeAlias = Callable[[Socket[Any], Any], object]  # OSError | None
_OnError: TypeAlias = Callable[[Socket[Any], Any], object]  # BaseException
_OnHandshake: TypeAlias = Callable[[Socket[Any], bool, Any], object]

class _HasData(Protocol):
    """An object, a module, or a class of functions without `self`. A further handler is checked by SocketHandler alone."""

    def data(self, socket: Any, chunk: Any, /) -> object: ...

class _HasDrain(Protocol):
    """The same, for connections that only write."""

    def drain(self, socket: Any, /) -> object: ...

class _HasAsyncOpen(Protocol):
    """The same, for connections that are read with `await`."""

    async def open(self, socket: Any, /) -> object: ...

_HandlersLike: TypeAlias = Handlers | Mapping[str, Any] | _HasData | _HasDrain | _HasAsyncOpen

libuv_version: str
"""The version of the libuv that the extension was built with, for example "1.52.1"."""

class ReadyState(IntEnum):
    """The states of a socket: `Socket.ready_state`. Source: Bun's `Socket.readyState`."""

    SHUTDOWN = -2
    DETACHED = -1
    CLOSED = 0
    ESTABLISHED = 1
    OTHER = 2

@final
class Socket(Generic[_Data]):
    """One connection, made by `listen` and `connect` and passed to every handler.

    It is the same object for the life of the connection. A socket belongs to the thread that made it:
    in another thread its methods raise RuntimeError. After close the methods return -1, False or None;
    `data`, the addresses and the counters stay readable.

    `with socket:` calls `end()` on exit. `async with socket:` also waits until it is closed, for as long
    as `linger_timeout` allows. If the block is left by an exception or a cancellation, it calls
    `close()`, cancels the socket's async handlers, and waits for at most 1.5 s.

    Source: Bun's `Socket`, https://bun.com/docs/api/tcp, in snake_case.
    """

    data: _Data
    """Yours: whatever belongs to this connection. At first what `data=` of `listen` or `connect` was."""

    @property
    def idle_timeout(self) -> float | None:
        """Seconds without a byte in either direction until `timeout` is called; None: never. Setting it restarts the time."""
    @idle_timeout.setter
    def idle_timeout(self, seconds: SupportsFloat | SupportsIndex | None) -> None: ...
    @property
    def read_timeout(self) -> float | None:
        """As `idle_timeout`, for received bytes alone, while the socket is read: the time stops while it is paused."""
    @read_timeout.setter
    def read_timeout(self, seconds: SupportsFloat | SupportsIndex | None) -> None: ...
    def __init__(self, *args: Any, **kwargs: Any) -> NoReturn: ...  # made by listen() and connect()
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...
    def write(self, data: str | Buffer, offset: SupportsIndex = 0, length: SupportsIndex | None = None) -> int:
        """Send bytes. Returns how many were accepted, 0..len, or -1 once this side is ended or closed.

        data: str (as UTF-8) or any C-contiguous buffer; offset, length: in bytes, default the
        rest. The buffer is not referenced afterwards. A short count means that `high_water_mark` bytes
        are unsent: write the rest when `drain` is called. A program that ignores a short count and has
        no `drain` handler gets a `ShortWriteWarning`. What a handler writes is sent in one system call
        when the handler returns.

        Errors: ValueError out of range, UnicodeEncodeError, BufferError, TypeError.
        Bun: nothing is buffered, and an offset needs a length.
        """
    def end(
        self, data: str | Buffer | None = None, offset: SupportsIndex = 0, length: SupportsIndex | None = None
    ) -> int:
        """Send what is pending and all of `data`, then FIN. Returns the length, or -1 if it was ended before.

        The socket stays readable until the peer ends too, for at most `linger_timeout`.
        Arguments and errors as `write`.
        Bun: closes both ways at once, and drops what the kernel does not take.
        """
    def flush(self) -> None:
        """Send now what a cork or the running handler has gathered."""
    def cork(self) -> AbstractContextManager[Self, None]:
        """A context manager: writes inside it are gathered and sent together. Corks nest."""
    def sink(self, *, high_water_mark: SupportsIndex = 65536, limit: SupportsIndex | None = None) -> SocketSink:
        """A `SocketSink`: its writes are coalesced, and each is accepted whole.

        high_water_mark: as soon as this many bytes are gathered, they are sent; otherwise at the end of the
        current turn (one iteration of the loop).
        limit: bytes the socket may hold unsent; a write that exceeds it raises BufferError. None = no limit.
        Errors: TypeError, ValueError naming the option.
        """
    @property
    def pending(self) -> int:
        """Bytes accepted and not yet passed to the kernel."""
    @property
    def bytes_written(self) -> int:
        """Bytes passed to the kernel."""
    @property
    def bytes_read(self) -> int:
        """Bytes received."""
    def close(self) -> None:
        """Send what is pending, then close both ways. The `close` handler is called later, from the loop."""
    def terminate(self) -> None:
        """Drop what is pending and reset the connection: the peer sees ECONNRESET (TCP)."""
    def shutdown(self, half_close: bool = False) -> None:
        """Send what is pending, then FIN; the socket stays readable. True: only stop reading; it stays writable.

        Unlike `end` this starts no deadline: the socket stays open until the peer ends.
        """
    def pause(self) -> None:
        """Stop reading. While paused, the peer's end and a reset are not noticed either."""
    def resume(self) -> None:
        """Continue reading."""
    def pipe(self, target: Socket[Any], *, end: bool = True) -> None:
        """Write every byte that arrives here to `target`: in order, in the core, without Python objects or the GIL.

        From now on `data` is not called; the other handlers are. While `target` has bytes that the kernel
        has not accepted, this socket is not read. When the peer ends, the `end` handler is called, and then
        `target.end()` unless `end=False`; `target` is ended likewise after close() of this socket. If
        either is reset or fails, the other is reset, and its `close` gets ConnectionAbortedError. A paused
        socket is resumed, and what its `reader()` holds is written first. `socket.pipe(socket)` is an
        echo. `a.pipe(b); b.pipe(a)` is a proxy, in which a side stays open after its peer's end to receive
        what the other still sends.

        Errors: TypeError if `target` is not a Socket; BrokenPipeError, or the error of `target`, if it
        accepts no more bytes; RuntimeError if this socket is piped already, a read of its reader is
        waiting, or `target` belongs to another thread; ValueError if it belongs to another loop.
        Source: Node's `readable.pipe(writable)`. Bun: has none for TCP sockets.
        """
    def unpipe(self) -> None:
        """Undo `pipe`: both sockets stay open, and what was read is already the target's. Does nothing if not piped.

        Later bytes go to `data`, or to the reader. Without either the socket is paused, so that nothing is lost.
        """
    def ref(self) -> None:
        """Make this socket keep `run()` going (the default)."""
    def unref(self) -> None:
        """Let `run()` return even if this socket is open or has bytes to send; the next `run()` sends those."""
    def timeout(self, seconds: SupportsFloat | SupportsIndex) -> None:
        """Call the `timeout` handler `seconds` (float) from now, then close; 0 cancels it.

        It is called once, never early. If the handler calls this again, the socket stays open.
        Errors: TypeError; ValueError for negative or NaN.
        Bun: whole seconds on a 4 s clock, up to 4 s early, and does not close.
        """
    @property
    def ready_state(self) -> ReadyState:
        """`ReadyState`: ESTABLISHED (open both ways), SHUTDOWN (our side ended), CLOSED, DETACHED, or OTHER."""
    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exception: object) -> None: ...
    def reader(self, limit: SupportsIndex = 65536) -> SocketReader:
        """A `SocketReader`: from now on input is read with `await`, and is not passed to `data`.

        limit: the most bytes that it holds; while they are not read, the peer has to wait. A socket has one
        reader: further calls return the same. A paused socket is resumed.
        Errors: TypeError, ValueError naming the option.
        """
    def __aiter__(self) -> AsyncIterator[bytes]: ...
    @property
    def listener(self) -> Listener | None:
        """The `Listener` that accepted it; None after `connect`, and once the connection is gone."""
    @property
    def remote_address(self) -> str | None:
        """The peer's IP literal ("fe80::1%eth0" with a zone), or a unix socket's path ("" when it has none)."""
    @property
    def remote_port(self) -> int | None:
        """The peer's port; None on unix sockets."""
    @property
    def remote_family(self) -> _Family | None:
        """ "IPv4", "IPv6" or "unix"."""
    @property
    def local_address(self) -> str | None:
        """Our IP literal, or a unix socket's path ("" when it has none)."""
    @property
    def local_port(self) -> int | None:
        """Our port; None on unix sockets."""
    @property
    def local_family(self) -> _Family | None:
        """ "IPv4", "IPv6" or "unix"."""
    def fileno(self) -> int:
        """The descriptor, which the socket still owns; -1 if there is none."""
    def upgrade_tls(
        self,
        *,
        tls: _TLS,
        socket: _HandlersLike | None = None,
        handlers: _HandlersLike | None = None,
        data: Any = None,
        server: bool = False,
        initial_data: Buffer | None = None,
    ) -> Socket[Any]:
        """Continue as a TLS connection: returns the TLS `Socket`. This one is DETACHED and calls no handler any more.

        tls: as for `listen` and `connect`; `server_name` defaults to the host that was connected to.
        socket, handlers: the handlers of the new socket; these are two names of one option.
        data: that of the new socket, which keeps the other options. server: this side answers the handshake.
        Bytes that have arrived and were not yet passed to a handler are part of TLS.
        initial_data: bytes that were passed to a handler and are part of TLS, too.
        Errors: those of the options; RuntimeError if the socket is not established, or uses TLS already.
        Bun: returns `[raw, tls]`, and calls the handlers of `raw` with the ciphertext.
        """
    @property
    def authorized(self) -> bool:
        """True if the peer's certificate was requested and found valid. Kept after close."""
    @property
    def alpn_protocol(self) -> str | None:
        """The negotiated protocol (ALPN), or None."""
    def get_authorization_error(self) -> ssl.SSLError | None:
        """The error found by the verification of the peer's certificate, or None. Kept after close."""
    def get_peer_certificate(self) -> dict[str, Any] | None:
        """The peer's certificate, as `ssl.SSLSocket.getpeercert()` has it, with its DER as "raw". None if there is none."""
    def get_certificate(self) -> dict[str, Any] | None:
        """Our own certificate, in the same form; None if there is none."""
    def get_cipher(self) -> dict[str, str | None] | None:
        """`{"name", "standard_name", "version"}`; None before the handshake."""
    def get_tls_version(self) -> str | None:
        """For example "TLSv1.3"; None before the handshake."""
    def get_session(self) -> bytes | None:
        """The session as bytes, to be resumed by `session=` or `set_session`; None if there is none yet."""
    def set_session(self, session: Buffer) -> bool:
        """Resume a session. Returns False if the handshake has begun. Errors: ValueError for bytes that are no session."""
    def get_tls_ticket(self) -> bytes | None:
        """The session's ticket as bytes, or None."""
    def is_session_reused(self) -> bool:
        """True if a session was resumed."""
    def export_keying_material(
        self, length: SupportsIndex, label: str | bytes, context: Buffer | None = None
    ) -> bytes | None:
        """`length` bytes that only the two ends can derive (RFC 5705, 8446). Errors: ValueError."""
    def get_tls_finished_message(self) -> bytes | None:
        """Our Finished message as bytes, or None."""
    def get_tls_peer_finished_message(self) -> bytes | None:
        """The peer's Finished message as bytes, or None."""
    def get_shared_sigalgs(self) -> list[str] | None:
        """The names of the signature algorithms that both ends support."""
    def get_ephemeral_key_info(self) -> dict[str, Any] | None:
        """On a client, about the key exchange: `{"type", "name", "size"}`; on a server None."""
    def get_servername(self) -> str | None:
        """The name a client requests (SNI), as sent: an A-label (`xn--...`) if it is international; or None."""
    def set_servername(self, name: str) -> bool:
        """Request another name, which the certificate must match. Returns False if the handshake has begun.

        Errors: ValueError on a server, and for a string that cannot be a name.
        """
    def set_max_send_fragment(self, size: SupportsIndex) -> bool:
        """Set the most plaintext bytes in one record, 512..16384. Returns False if out of range, or without TLS."""
    def set_verify_mode(self, request_cert: bool, reject_unauthorized: bool) -> bool:
        """Set which peers to accept, before the handshake is done. Returns False if it is too late, or without TLS."""
    def disable_renegotiation(self) -> None:
        """Does nothing: renegotiation is always off."""
    def renegotiate(self) -> bool:
        """Always returns False: renegotiation is off. Bun: requests one (TLS 1.2)."""
    def set_no_delay(self, enable: bool = True) -> bool:
        """Set TCP_NODELAY. Returns False when closed or not TCP. Bun: True on unix sockets too."""
    def set_keep_alive(self, enable: bool = False, initial_delay: SupportsFloat | SupportsIndex = 0) -> bool:
        """Set SO_KEEPALIVE. initial_delay: milliseconds idle before the first probe, 0 = unchanged.

        The kernel counts in seconds, so the delay is rounded up. Returns False when closed or not TCP.
        """
    def reload(self, socket: _HandlersLike | None = None, *, handlers: _HandlersLike | None = None) -> None:
        """Replace the handlers of this socket alone, between two events. If they are invalid, nothing changes.

        socket, handlers: the new ones, under one of the two names of this option; required.
        Bun: reload of an accepted socket changes all sockets of its listener.
        """

@final
class SocketReader:
    """Reads what a socket receives, with `await`: made by `socket.reader()`. It returns bytes, whatever `binary_type` is.

    Names and errors are those of `asyncio.StreamReader`. One read at a time: a second one while
    another waits raises RuntimeError. If the connection was reset, its error is raised after the
    bytes that arrived before it; if it was closed, or had ended already, reads return the end.

    After a read has returned the peer's end, `end` is called, and unless `allow_half_open` the socket
    closes. An answer can be written before that: immediately after the read, or, in an `async def`
    handler, until the handler returns.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> NoReturn: ...  # made by Socket.reader()
    @property
    def socket(self) -> Socket[Any]:
        """The `Socket` that is read."""
    async def read(self, n: SupportsIndex = -1) -> bytes:
        """1..n bytes, as soon as there are any; n < 0: all until the end. b"" at the end."""
    async def readexactly(self, n: SupportsIndex) -> bytes:
        """Exactly n bytes. Errors: asyncio.IncompleteReadError, with `partial`, if the end comes first."""
    async def readuntil(self, separator: Buffer = b"\n") -> bytes:
        """Bytes up to and including the separator.

        Errors: asyncio.IncompleteReadError, with `partial`, if the end comes first;
        asyncio.LimitOverrunError if it is not among the first `limit` bytes: nothing is read then.
        """
    async def readline(self) -> bytes:
        """Bytes up to and including the next newline; the last line may have none; b"" at the end.

        Errors: ValueError if there is none among the first `limit` bytes: nothing is read then.
        """
    def at_eof(self) -> bool:
        """True if the end has arrived and everything is read."""
    @property
    def limit(self) -> int:
        """The most bytes that are held, unless a read needs more."""

@final
class ArrayBufferSink:
    """Write many small pieces, take them out as one.

        sink = ArrayBufferSink()
        sink.start(stream=True)
        sink.write("GET ")
        sink.write(b"key")
        data = sink.flush()                     # b"GET key"
        wrote = max(0, socket.write(data))
        sink.requeue(data[wrote:])              # the rest, in front of what was written since

    Not thread-safe. For a sink that sends by itself see `Socket.sink`.

    Source: Bun's `ArrayBufferSink`.
    Bun: invalid options are ignored and stay from one `start` to the next, the mark only
    preallocates, there is no `requeue`, and writing after `end` is accepted.
    """

    def __init__(self) -> None: ...
    def start(
        self, stream: bool = False, high_water_mark: SupportsIndex | None = None, as_memoryview: bool = False
    ) -> None:
        """Start over with these options; what was not flushed is dropped. Calling it is optional.

        stream: `flush` returns the bytes written since the last one (False: it only counts them, and
        `end` returns all). high_water_mark: bytes, allocated now; from that length on the sink is
        `full`. as_memoryview: `flush` and `end` return a read-only memoryview instead of bytes,
        and larger ones are not copied.

        Errors: TypeError, ValueError naming the option; MemoryError; ValueError once closed.
        """
    def write(self, chunk: str | Buffer, /) -> int:
        """Append a str (as UTF-8) or any C-contiguous buffer. Returns the number of bytes.

        The bytes are copied now. Errors: ValueError after `end` or `close`, TypeError, BufferError,
        UnicodeEncodeError, MemoryError: nothing is appended.
        """
    def requeue(self, tail: str | Buffer, /) -> None:
        """Put back bytes that were flushed and not sent, in front of everything else.

        To put back two tails, begin with the later one. Errors as `write`.
        """
    def flush(self) -> Any:  # bytes or memoryview when streaming, else int
        """Streaming: take out what was written since the last flush. Otherwise return its byte count.

        Errors: ValueError after `end` or `close`.
        Bun: 0 when not streaming.
        """
    def end(self) -> Any:  # bytes or memoryview
        """Take out everything still held, as bytes or memoryview; the sink accepts nothing more until `start`.

        Errors: ValueError after `end` or `close`.
        """
    def close(self) -> None:
        """Drop what is held, for good. A second call does nothing."""
    def __len__(self) -> int: ...
    @property
    def full(self) -> bool:
        """True if `high_water_mark` bytes were written since the last flush. Always False without a mark."""

@final
class SocketSink:
    """Many small writes to one socket, sent together: `socket.sink()`.

    What is written is sent at the end of the turn (one iteration of the loop), or as soon as
    `high_water_mark` bytes are gathered. What the kernel does not accept is kept, up to `limit` bytes,
    and is sent later without further calls. The socket may be written to directly as well: the order is
    kept. What is written while the loop does not run is sent in the first turn of `run()`, or by `flush`.

    After `end` or `close` of the sink, write, flush and end raise ValueError. If the socket is ended or
    closed in another way, `write` and `drain` raise its error, or BrokenPipeError if it had none.

    Source: Bun's `ArrayBufferSink` in stream mode, joined to its `Socket`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> NoReturn: ...  # made by Socket.sink()
    @property
    def socket(self) -> Socket[Any]:
        """The `Socket` that is written to."""
    def write(self, data: str | Buffer, /) -> int:
        """Accept all of a str (as UTF-8) or any C-contiguous buffer. Returns its number of bytes.

        The buffer is not referenced afterwards.
        Errors: BufferError when more than `limit` bytes would be unsent: nothing is accepted then;
        ValueError after `end`; the socket's error; UnicodeEncodeError, TypeError, MemoryError.
        """
    def flush(self) -> None:
        """Send now what is gathered."""
    async def drain(self) -> None:
        """Wait until everything written to the socket, before and during the wait, is passed to the kernel.

        Errors: the socket's error, or BrokenPipeError, if that will never happen; RuntimeError in
        another asyncio loop than the one the socket was opened in.
        """
    def add_drain_callback(self, callback: Callable[[Any], object], /) -> None:  # OSError | None
        """Call `callback(error)` once, from the loop, when `drain` would return or raise.

        error: None, or the exception. An exception of the callback goes to the `error` handler.
        Errors: TypeError for a callback that is not callable; the socket's error if it is closed.
        """
    def end(self, data: str | Buffer | None = None) -> int:
        """Write `data`, then end the socket as `Socket.end` does. Returns the length of `data`.

        Errors as `write`; the sink is then not ended.
        """
    def close(self) -> None:
        """Close the socket as `Socket.close` does: what is pending is sent first."""
    @property
    def pending(self) -> int:
        """Bytes that the socket has accepted and not yet passed to the kernel."""
    @property
    def full(self) -> bool:
        """True if `high_water_mark` bytes are unsent: it is time to wait for a drain."""
    @property
    def high_water_mark(self) -> int:
        """As soon as this many bytes are gathered, they are sent; otherwise at the end of the turn."""
    @property
    def limit(self) -> int | None:
        """Bytes the socket may hold unsent; None = no limit."""

@final
class Listener:
    """A listening socket, made by `listen`. `with listener:` calls `stop(True)` on exit.

    `async with listener:` also waits until its connections have closed and their async handlers have ended. Handlers
    that run longer than `linger_timeout` are cancelled then. If the block is left by an exception or a cancellation,
    it cancels them at once, and waits for at most 1.5 s.

    Attributes: `hostname` and `unix` as given, `port` as bound (None where they do not apply), `addresses`, the IP
    literals it is bound to, kept after stop; `fd` (-1 after stop), and `fds` if it has several; `data`, what new
    sockets start with; `connections`, the sockets open now.

    Source: Bun's `TCPSocketListener` / `UnixSocketListener`.
    """

    data: Any
    """The first value of `socket.data` of every socket that is accepted from now on."""

    def __new__(cls, *args: Any, **kwargs: Any) -> NoReturn: ...  # made by listen()
    @property
    def hostname(self) -> str | Any | None:  # a list or tuple, if listen() was given one
        """As it was given, a name or a list of them; for an adopted descriptor its address. None for a unix socket."""
    @property
    def addresses(self) -> tuple[str, ...]:
        """The IP addresses that it listens on, a tuple of str; () for a unix socket."""
    @property
    def port(self) -> int | None:
        """The port that it listens on, the actual one if 0 was given; None for a unix socket."""
    @property
    def unix(self) -> str | None:
        """The path of the socket's file, or its abstract name; None for TCP."""
    @property
    def fd(self) -> int:
        """The descriptor, which the listener owns, or the first of several; -1 after `stop`."""
    @property
    def fds(self) -> tuple[int, ...]:
        """All of its descriptors, one for each of `addresses`; empty after `stop`."""
    @property
    def connections(self) -> int:
        """The number of sockets that are open now."""
    def stop(self, close_active_connections: bool = False) -> None:
        """Stop accepting. close_active_connections: also close the open sockets (as `Socket.close`). Idempotent."""
    def ref(self) -> None:
        """Let this listener keep `run()` going (the default)."""
    def unref(self) -> None:
        """Let `run()` return even if this listener is open."""
    def reload(
        self, socket: _HandlersLike | None = None, *, handlers: _HandlersLike | None = None, tls: _TLS | None = None
    ) -> None:
        """Replace the handlers of every socket of this listener, open ones too, between two events.

        socket, handlers: the new ones, under one of the two names of this option. Another listener that was made with
        the same `Handlers` is not changed.
        tls: as in `listen`; used for connections that are accepted from now on, `sni` included.
        On an error nothing changes. Errors: as `Handlers`; those of `TLSOptions`; ValueError for a listener without
        TLS. Source: Bun's `listener.reload({socket})`.
        """
    def sockets(self) -> Iterator[Socket[Any]]:
        """An iterator over the open sockets, oldest first: `open` was called for them, and they are not closing.

        Sockets that close during the iteration are left out, and those that open after this call are not included. A
        socket in a TLS handshake is not open yet, though `connections` counts it. The time that it takes is
        proportional to the number of sockets of the loop.
        Errors: RuntimeError in another thread.
        """
    def stats(self) -> dict[str, int]:
        """The listener's counters: `{"accepted", "connections", "accept_errors"}`."""
    def loop_stats(self) -> dict[str, float]:
        """`pybuntcp.stats()` of the listener's loop, from any thread; the last counts if the loop has ended.

        In another thread the counts are read one by one, each as it is at that moment. There `pending_bytes` counts what
        the kernel has refused, without what was written after that, because only the loop's own thread can add that up.
        """
    async def wait_closed(self, timeout: float | None = None) -> int:
        """Wait until no socket of the listener is open, for at most `timeout` seconds. Returns how many are left.

        Errors: RuntimeError in another asyncio loop than the one in which it was opened.
        """
    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exception: object) -> None: ...

@final
class Handlers:
    """A compiled set of handlers, to be shared by listeners and connections.

    Handlers(mapping_or_object=None, /, **handlers)

    Takes a mapping, or a class, an instance or a module whose attributes are the handlers, or
    keywords. Recognised: ``open(socket)``, ``data(socket, chunk)``, ``drain(socket)``,
    ``end(socket)``, ``close(socket, error)``, ``error(socket, error)``, ``timeout(socket)``,
    ``handshake(socket, success, authorization_error)``, ``connect_error(socket, error)`` and
    ``binary_type`` (``"bytes"``, ``"bytearray"`` or ``"memoryview"``: the type of ``chunk``).
    They are read once, when the set is made; a later change of the mapping has no effect. None = absent.
    Each may be ``async def``, in a program that runs asyncio.

    Errors: TypeError for a handler that is not callable, an unknown keyword or key (with the likely
    name), or neither ``data`` nor ``drain`` nor an async ``open``; ValueError for an unknown ``binary_type``.

    Source: the ``socket`` option of Bun's TCP API.
    Bun: ``binaryType`` knows "buffer", "uint8array" and "arraybuffer".
    """

    @overload
    def __new__(cls, source: object, /) -> Self: ...
    @overload
    def __new__(
        cls,
        *,
        open: _OnEvent | None = None,
        data: _OnData | None = None,
        drain: _OnEvent | None = None,
        end: _OnEvent | None = None,
        close: _OnClose | None = None,
        error: _OnError | None = None,
        timeout: _OnEvent | None = None,
        handshake: _OnHandshake | None = None,
        connect_error: _OnError | None = None,
        binary_type: Literal["bytes", "bytearray", "memoryview"] | None = None,
    ) -> Self: ...

@final
class Connecting:
    """An outgoing connection, made and started by `connect`. `await` returns the `Socket`.

    The attempt continues whether it is awaited or not. `cancel()` closes it, and no handler is called. Cancelling the
    task that awaits it does the same; a connection that is open already is closed.
    `async with connect(...) as socket:` awaits it, and ends as `async with socket:` does.
    Errors, from `await` and `result()`: OSError with errno, `code`, `syscall`, `address` and
    `port`; `socket.gaierror` for a name; TimeoutError after `timeout`; asyncio's
    CancelledError after `cancel()`.
    Bun: the promise of `Bun.connect`, which cannot be cancelled and has no timeout.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> NoReturn: ...  # made by connect()
    def cancel(self) -> bool:
        """Give up the attempt. Returns False if it had an outcome already."""
    def cancelled(self) -> bool:
        """True if the attempt was given up."""
    def done(self) -> bool:
        """True if the attempt has an outcome, and it was reported to the handlers."""
    def result(self) -> Socket[Any]:
        """The `Socket`. Raises the attempt's error, or asyncio's InvalidStateError if it is not done."""
    def exception(self) -> BaseException | None:
        """The attempt's error, or None. Raises as `result` does if it was cancelled or is not done."""
    def __await__(self) -> Generator[None, None, Socket[Any]]: ...
    async def __aenter__(self) -> Socket[Any]: ...
    async def __aexit__(self, *exception: object) -> None: ...

@final
class Timer:
    """A call that the loop makes later, or again and again: made by `call_later`, `every` and `call_soon`.

    It is referenced, which means that it keeps `run()` going, until it was called or cancelled. Its methods may be called
    in the thread of its loop only; in another one they raise RuntimeError. When the loop ends, its timers end without a
    call.

    Source: Bun's `Timer` (`ref`, `unref`), asyncio's `TimerHandle` (`cancel`, `when`).
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> NoReturn: ...  # made by call_later(), every() and call_soon()
    def cancel(self) -> None:
        """End the timer: it makes no further call. May be called at any time, also by its own callback, and more than once."""
    def ref(self) -> None:
        """Let this timer keep `run()` going while it is active (the default)."""
    def unref(self) -> None:
        """Let `run()` return even if this timer is active."""
    @property
    def when(self) -> float:
        """The time of its next call, or of its last one: seconds on the clock of `time.monotonic()`."""
    @property
    def active(self) -> bool:
        """True while a call is due: not cancelled, and either not called yet or made by `every`."""

def call_later(
    seconds: SupportsFloat | SupportsIndex, callback: Callable[[Unpack[_Args]], object], *args: Unpack[_Args]
) -> Timer:
    """Call `callback(*args)` once, from this thread's loop, `seconds` from now and never earlier. Returns a `Timer`.

    Timers are called in the order of their times, and those with the same time in the order in which they were made. With
    0 seconds the call is made in the next turn (iteration) of the loop. Inside asyncio the running loop makes the call.
    The callback runs in the context (`contextvars`) that is current now. An exception that it raises is treated as one of
    a handler. What it writes to sockets is gathered and sent when it returns, as in a handler. Its return value is
    ignored.

    Errors: TypeError, ValueError for `seconds` that is no number, negative or NaN; TypeError for a callback that cannot be
    called, or that is an `async def` function. Source: `setTimeout`; asyncio's `loop.call_later`.
    """

def every(
    seconds: SupportsFloat | SupportsIndex, callback: Callable[[Unpack[_Args]], object], *args: Unpack[_Args]
) -> Timer:
    """Call `callback(*args)` again and again, `seconds` apart. Returns a `Timer`; `cancel()` ends it.

    The calls are at whole multiples of `seconds` from now, however long they take, so they do not drift. If the loop was
    busy, and one or more of these times have passed without a call, a single call is made for all of them.
    seconds: more than 0; ValueError otherwise. Everything else is as for `call_later`.

    Source: `setInterval`. Bun: counts the next time from the end of the last call.
    """

def call_soon(callback: Callable[[Unpack[_Args]], object], *args: Unpack[_Args]) -> Timer:
    """Call `callback(*args)` in the next turn of the loop, after this call has returned, without waiting. Returns a `Timer`.

    As `call_later(0, callback, *args)`. From another thread: `threadsafe`. Source: `setImmediate`; asyncio's `loop.call_soon`.
    """

@final
class ThreadsafeCallback(Generic[Unpack[_Args]]):
    """A function that any thread may call: made by `threadsafe`.

    A call returns None at once, and the loop calls the callback with the same arguments. The calls of one thread keep
    their order. Errors: RuntimeError when it was closed, when the loop has ended, and in a forked child.
    """

    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...
    def __new__(cls, *args: Any, **kwargs: Any) -> NoReturn: ...  # made by threadsafe()
    def __call__(self, *args: Unpack[_Args]) -> None: ...
    def close(self) -> None:
        """Accept no more calls: they raise RuntimeError from now on. Those that were made before are carried out.

        May be called in any thread, more than once, and by the callback. `with threadsafe(...) as call:` closes it, too.
        """
    def ref(self) -> None:
        """Make it keep `run()` going while it is open (the default). Only in the loop's thread."""
    def unref(self) -> None:
        """Let `run()` return even if it is open. Only in the loop's thread."""
    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...

def threadsafe(callback: Callable[[Unpack[_Args]], object]) -> ThreadsafeCallback[Unpack[_Args]]:
    """Make a function that any thread and any Python signal handler may call; this thread's loop then calls `callback`.

    Each call returns at once. For each, the loop calls `callback` once with the same positional arguments, in its own
    thread, even if it was waiting; inside asyncio that is the running loop. The calls of one thread keep their order. The
    callback runs in the context (`contextvars`) that is current now. Everything else is as for `call_later`.

    The result has `close()`, `ref()` and `unref()`. It keeps `run()` going until it is closed, or until it is no longer
    referenced.

    Errors: TypeError for a callback that cannot be called, or that is an `async def` function. Of the result: RuntimeError
    once it is closed or the loop has ended. Source: asyncio's `loop.call_soon_threadsafe`; Node-API's thread-safe functions.
    """

# Called by the facade (api.py), which has checked the options.
def set_tls_readers(
    read_tls: Callable[[Any, bool, str | None], Config | None],
    read_upgrade: Callable[[Any, bool, str | None], Config],
    read_in_place: Callable[[Any, bool, str | None], Config],
    /,
) -> None:
    """Called by the facade when it is imported. The core itself reads no option of `tls=`."""

def short_write_register(is_unnoticed: Callable[[list[Any]], bool], category: type[Warning], /) -> None:
    """Called by the facade when it is imported."""

def run_loop(seconds: float = -1) -> None:
    """Run this thread's loop until no referenced handle is left, or for that many seconds."""

def is_running() -> bool:
    """True if this thread is inside `run()`, in a handler."""

async def end_handlers() -> None:
    """Cancel the handlers that run in the running asyncio loop, and wait for them for at most EXIT_SECONDS."""

def native_selector() -> Any:
    """A selector for a stock asyncio loop: it waits in a loop of ours, which serves our sockets at the same time."""

def native_attach(host: asyncio.AbstractEventLoop) -> None:
    """The asyncio loop has taken such a selector: what is opened while it runs belongs to it."""

def note_asyncio() -> None:
    """`run(main)` begins: what is open in the thread's own loop is not served meanwhile."""

def is_open() -> bool:
    """For `pybuntcp.testing`: True if this thread's loop has anything that could call a handler."""

def turn(seconds: float) -> int:
    """For `pybuntcp.testing`: run one turn of the loop, which waits for at most `seconds`.

    Returns the descriptor that is readable while something is ready for the next turn, or -1 if it has work already.
    """

def turn_clock(seconds: float) -> None:
    """For `pybuntcp.testing`: advance the clock. The loops of this thread check at once what is due."""

def turned() -> float:
    """By how much the clock was advanced, in seconds."""

def stats() -> dict[str, float]:
    """The counters of this thread's loop, as a dict of numbers. Inside asyncio: those of the sockets opened there.

    Gauges: `open_sockets`, `open_listeners`, `connecting`, `armed_timers`, `pipes`, `pending_bytes`.
    Counters since the loop was made: `accepted`, `connected`, `closed`, `bytes_read`,
    `bytes_written`, `bytes_piped`, `reads`, `writes`, `short_writes`, `short_writes_unnoticed`, `drains`, `turns`,
    `gil_takes`, `accept_errors`, `handshakes`, `handshake_failures`, `handler_errors`.
    And `longest_turn`: the seconds, to the millisecond, that the longest turn of the loop took since the loop was made. A
    turn is one iteration of the loop; while it runs, nothing else is served. Its time includes the callbacks of users'
    timers, and excludes waiting.

    Errors: RuntimeError in a thread, other than the main one, that has no loop. For the loop of another thread there is
    `Listener.loop_stats`.
    """

def either(socket: Any, handlers: Any) -> Any:
    """The handlers of a call: `socket=`, or `handlers=`, which is another name of it."""

def compile_handlers(source: Any) -> Handlers:
    """The value of `socket=` as a Handlers."""

def listen_on(handlers: Handlers, options: ListenOptions) -> Listener:
    """`listen`, with options that were checked (pybuntcp/options.py, ListenOptions)."""

def connect_on(handlers: Handlers | None, options: ConnectOptions) -> Connecting:
    """`connect`, with options that were checked (pybuntcp/options.py, ConnectOptions)."""
