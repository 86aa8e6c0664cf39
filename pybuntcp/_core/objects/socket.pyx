"""socket: the Python class `Socket`, a thin object over `socket_t`.

Owns the class and its documentation. A method reads its arguments, checks the thread, calls one verb, and returns.
When a `Socket` is made, and what it answers after close: see wrapper. What the verbs do: see verbs.

Promises that after close no verb raises: they return -1, False or None.
"""
cimport cython
from types import GenericAlias

from libc.math cimport ceil
from libc.stdlib cimport free


@cython.final
@cython.freelist(64)
cdef class Socket:
    """One connection, made by `listen` and `connect` and passed to every handler.

    It is the same object for the life of the connection. A socket belongs to the thread that made it:
    in another thread its methods raise RuntimeError. After close the methods return -1, False or None;
    `data`, the addresses and the counters stay readable.

    `with socket:` calls `end()` on exit. `async with socket:` also waits until it is closed, for as long
    as `linger_timeout` allows. If the block is left by an exception or a cancellation, it calls
    `close()`, cancels the socket's async handlers, and waits for at most 1.5 s.

    Source: Bun's `Socket`, https://bun.com/docs/api/tcp, in snake_case.
    """
    cdef socket_t* s            # borrowed; NULL once the connection is gone
    cdef snapshot_t* snapshot   # owned
    cdef object _data
    cdef object own_reader      # its SocketReader; None: none was made
    cdef object tls_connection  # the engine's object; None: no TLS
    cdef object __weakref__

    __class_getitem__ = classmethod(GenericAlias)

    def __init__(self):
        raise TypeError("sockets are made by listen() and connect()")

    def __dealloc__(self):
        free(self.snapshot)

    # ------------------------------------------------------------------ writing

    def write(self, data, offset=0, length=None):
        """Send bytes. Returns how many were accepted, 0..len, or -1 once this side is ended or closed.

        data: str (as UTF-8) or any C-contiguous buffer; offset, length: in bytes, default the
        rest. The buffer is not referenced afterwards. A short count means that `high_water_mark` bytes
        are unsent: write the rest when `drain` is called. A program that ignores a short count and has
        no `drain` handler gets a `ShortWriteWarning`. What a handler writes is sent in one system call
        when the handler returns.

        Errors: ValueError out of range, UnicodeEncodeError, BufferError, TypeError.
        Bun: nothing is buffered, and an offset needs a length.
        """
        cdef slice_t piece
        cdef ssize_t taken = -1
        if not wrapper_is_open(self):
            return -1
        slice_open(&piece, data)
        try:
            if length is not None or offset is not 0:
                slice_narrow(&piece, offset, length)
            if self.s != NULL:      # the arguments' own code may have ended the connection
                taken = socket_write(self.s, piece.at, piece.size)
                if taken != <ssize_t>piece.size:
                    short_write_check(self, taken, piece.size)
        finally:
            slice_release(&piece)
        return taken

    def end(self, data=None, offset=0, length=None):
        """Send what is pending and all of `data`, then FIN. Returns the length, or -1 if it was ended before.

        The socket stays readable until the peer ends too, for at most `linger_timeout`.
        Arguments and errors as `write`.
        Bun: closes both ways at once, and drops what the kernel does not take.
        """
        cdef slice_t piece
        cdef ssize_t taken = -1
        if not wrapper_is_open(self):
            return -1
        slice_open(&piece, b"" if data is None else data)
        try:
            slice_narrow(&piece, offset, length)
            if self.s != NULL:  # reading the arguments may have run user code that closed the connection
                taken = socket_end(self.s, piece.at, piece.size)
        finally:
            slice_release(&piece)
        if taken == -2:
            raise MemoryError()
        return taken if taken < 0 else piece.size

    def flush(self):
        """Send now what a cork or the running handler has gathered."""
        if wrapper_is_open(self):
            socket_flush(self.s)

    def cork(self):
        """A context manager: writes inside it are gathered and sent together. Corks nest."""
        wrapper_is_open(self)
        return cork_new(self)

    def sink(self, *, high_water_mark=65536, limit=None):
        """A `SocketSink`: its writes are coalesced, and each is accepted whole.

        high_water_mark: as soon as this many bytes are gathered, they are sent; otherwise at the end of the
        current turn (one iteration of the loop).
        limit: bytes the socket may hold unsent; a write that exceeds it raises BufferError. None = no limit.
        Errors: TypeError, ValueError naming the option.
        """
        wrapper_is_open(self)
        return sink_new(self, high_water_mark, limit)

    @property
    def pending(self):
        """Bytes accepted and not yet passed to the kernel."""
        return output_unsent(self.s) if wrapper_is_open(self) else 0

    @property
    def bytes_written(self):
        """Bytes passed to the kernel."""
        return output_written(self.s) if wrapper_is_open(self) else wrapper_snapshot(self).bytes_written

    @property
    def bytes_read(self):
        """Bytes received."""
        return self.s.bytes_read if wrapper_is_open(self) else wrapper_snapshot(self).bytes_read

    # ------------------------------------------------------------------ life

    def close(self):
        """Send what is pending, then close both ways. The `close` handler is called later, from the loop."""
        if wrapper_is_open(self):
            socket_close(self.s)

    def terminate(self):
        """Drop what is pending and reset the connection: the peer sees ECONNRESET (TCP)."""
        if wrapper_is_open(self):
            socket_terminate(self.s)

    def shutdown(self, half_close=False):
        """Send what is pending, then FIN; the socket stays readable. True: only stop reading; it stays writable.

        Unlike `end` this starts no deadline: the socket stays open until the peer ends.
        """
        if not wrapper_is_open(self):
            return
        socket_shutdown(self.s, bool(half_close))

    def pause(self):
        """Stop reading. While paused, the peer's end and a reset are not noticed either."""
        if wrapper_is_open(self):
            socket_pause(self.s)

    def resume(self):
        """Continue reading."""
        if wrapper_is_open(self):
            socket_resume(self.s)

    def pipe(self, target, *, end=True):
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
        piping_start(self, target, bool(end))

    def unpipe(self):
        """Undo `pipe`: both sockets stay open, and what was read is already the target's. Does nothing if not piped.

        Later bytes go to `data`, or to the reader. Without either the socket is paused, so that nothing is lost.
        """
        if wrapper_is_open(self):
            socket_unpipe(self.s)

    def ref(self):
        """Make this socket keep `run()` going (the default)."""
        if wrapper_is_open(self):
            socket_ref(self.s)

    def unref(self):
        """Let `run()` return even if this socket is open or has bytes to send; the next `run()` sends those."""
        if wrapper_is_open(self):
            socket_unref(self.s)

    def timeout(self, seconds):
        """Call the `timeout` handler `seconds` (float) from now, then close; 0 cancels it.

        It is called once, never early. If the handler calls this again, the socket stays open.
        Errors: TypeError; ValueError for negative or NaN.
        Bun: whole seconds on a 4 s clock, up to 4 s early, and does not close.
        """
        cdef double wait = number_of_seconds("seconds", seconds)
        if not wait >= 0:
            raise ValueError(f"seconds must not be negative or NaN, not {seconds!r}")
        if not wrapper_is_open(self):
            return
        if socket_timeout(self.s, wait) == -2:
            raise MemoryError()

    @property
    def idle_timeout(self):
        """Seconds without a byte in either direction until `timeout` is called; None: never. Setting it restarts the time."""
        return wrapper_timeout(self, DEADLINE_IDLE)

    @idle_timeout.setter
    def idle_timeout(self, seconds):
        wrapper_set_timeout(self, DEADLINE_IDLE, seconds)

    @property
    def read_timeout(self):
        """As `idle_timeout`, for received bytes alone, while the socket is read: the time stops while it is paused."""
        return wrapper_timeout(self, DEADLINE_READ)

    @read_timeout.setter
    def read_timeout(self, seconds):
        wrapper_set_timeout(self, DEADLINE_READ, seconds)

    @property
    def ready_state(self):
        """`ReadyState`: ESTABLISHED (open both ways), SHUTDOWN (our side ended), CLOSED, DETACHED, or OTHER."""
        return ReadyState(wrapper_state(self))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.end()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exception):
        await _exit_socket(self, any(exception))

    # ------------------------------------------------------------------ awaiting

    def reader(self, limit=65536):
        """A `SocketReader`: from now on input is read with `await`, and is not passed to `data`.

        limit: the most bytes that it holds; while they are not read, the peer has to wait. A socket has one
        reader: further calls return the same. A paused socket is resumed.
        Errors: TypeError, ValueError naming the option.
        """
        return reader_of(self, limit)

    def __aiter__(self):
        """`async for chunk in socket`: bytes as they arrive, until the end. Uses the socket's reader."""
        return reader_chunks(self)

    # ------------------------------------------------------------------ identity

    @property
    def data(self):
        """Yours: whatever belongs to this connection. At first what `data=` of `listen` or `connect` was."""
        return self._data if PBT_HAS_GIL else wrapper_data(self)

    @data.setter
    def data(self, value):
        if PBT_HAS_GIL:
            self._data = value
        else:
            wrapper_set_data(self, value)

    @property
    def listener(self):
        """The `Listener` that accepted it; None after `connect`, and once the connection is gone."""
        if not wrapper_is_open(self) or context_of(self.s).server == NULL:
            return None
        return <object>context_of(self.s).server.wrapper

    @property
    def remote_address(self):
        """The peer's IP literal ("fe80::1%eth0" with a zone), or a unix socket's path ("" when it has none)."""
        return wrapper_host(self, True)

    @property
    def remote_port(self):
        """The peer's port; None on unix sockets."""
        return wrapper_port(self, True)

    @property
    def remote_family(self):
        """"IPv4", "IPv6" or "unix"."""
        return wrapper_family(self, True)

    @property
    def local_address(self):
        """Our IP literal, or a unix socket's path ("" when it has none)."""
        return wrapper_host(self, False)

    @property
    def local_port(self):
        """Our port; None on unix sockets."""
        return wrapper_port(self, False)

    @property
    def local_family(self):
        """"IPv4", "IPv6" or "unix"."""
        return wrapper_family(self, False)

    def fileno(self):
        """The descriptor, which the socket still owns; -1 if there is none."""
        return socket_fileno(self.s) if wrapper_is_open(self) else -1

    # ------------------------------------------------------------------ TLS

    def upgrade_tls(self, *, tls, socket=None, handlers=None, data=None, server=False, initial_data=None):
        """Continue as a TLS connection: returns the TLS `Socket`. This one is DETACHED and calls no handler any more.

        tls: as for `listen` and `connect`; `server_name` defaults to the host that was connected to.
        socket, handlers: the handlers of the new socket; these are two names of one option.
        data: that of the new socket, which keeps the other options. server: this side answers the handshake.
        Bytes that have arrived and were not yet passed to a handler are part of TLS.
        initial_data: bytes that were passed to a handler and are part of TLS, too.
        Errors: those of the options; RuntimeError if the socket is not established, or uses TLS already.
        Bun: returns `[raw, tls]`, and calls the handlers of `raw` with the ciphertext.
        """
        return upgrade_socket(self, tls, handlers_either(socket, handlers), data, bool(server), initial_data)

    @property
    def authorized(self):
        """True if the peer's certificate was requested and found valid. Kept after close."""
        return bool(tls_query(self, "authorized"))

    @property
    def alpn_protocol(self):
        """The negotiated protocol (ALPN), or None."""
        return tls_query(self, "alpn_protocol")

    def get_authorization_error(self):
        """The error found by the verification of the peer's certificate, or None. Kept after close."""
        return tls_query(self, "authorization_error")

    def get_peer_certificate(self):
        """The peer's certificate, as `ssl.SSLSocket.getpeercert()` has it, with its DER as "raw". None if there is none."""
        return tls_query(self, "get_peer_certificate")

    def get_certificate(self):
        """Our own certificate, in the same form; None if there is none."""
        return tls_query(self, "get_certificate")

    def get_cipher(self):
        """`{"name", "standard_name", "version"}`; None before the handshake."""
        return tls_query(self, "get_cipher")

    def get_tls_version(self):
        """For example "TLSv1.3"; None before the handshake."""
        return tls_query(self, "get_tls_version")

    def get_session(self):
        """The session as bytes, to be resumed by `session=` or `set_session`; None if there is none yet."""
        return tls_query(self, "get_session")

    def set_session(self, session):
        """Resume a session. Returns False if the handshake has begun. Errors: ValueError for bytes that are no session."""
        return bool(tls_query(self, "set_session", session))

    def get_tls_ticket(self):
        """The session's ticket as bytes, or None."""
        return tls_query(self, "get_tls_ticket")

    def is_session_reused(self):
        """True if a session was resumed."""
        return bool(tls_query(self, "is_session_reused"))

    def export_keying_material(self, length, label, context=None):
        """`length` bytes that only the two ends can derive (RFC 5705, 8446). Errors: ValueError."""
        return tls_query(self, "export_keying_material", length, label, context)

    def get_tls_finished_message(self):
        """Our Finished message as bytes, or None."""
        return tls_query(self, "get_tls_finished_message")

    def get_tls_peer_finished_message(self):
        """The peer's Finished message as bytes, or None."""
        return tls_query(self, "get_tls_peer_finished_message")

    def get_shared_sigalgs(self):
        """The names of the signature algorithms that both ends support."""
        return tls_query(self, "get_shared_sigalgs")

    def get_ephemeral_key_info(self):
        """On a client, about the key exchange: `{"type", "name", "size"}`; on a server None."""
        return tls_query(self, "get_ephemeral_key_info")

    def get_servername(self):
        """The name a client requests (SNI), as sent: an A-label (`xn--...`) if it is international; or None."""
        return tls_query(self, "get_servername")

    def set_servername(self, name):
        """Request another name, which the certificate must match. Returns False if the handshake has begun.

        Errors: ValueError on a server, and for a string that cannot be a name.
        """
        return bool(tls_query(self, "set_servername", name))

    def set_max_send_fragment(self, size):
        """Set the most plaintext bytes in one record, 512..16384. Returns False if out of range, or without TLS."""
        return bool(tls_query(self, "set_max_send_fragment", size))

    def set_verify_mode(self, request_cert, reject_unauthorized):
        """Set which peers to accept, before the handshake is done. Returns False if it is too late, or without TLS."""
        return bool(tls_query(self, "set_verify_mode", request_cert, reject_unauthorized))

    def disable_renegotiation(self):
        """Does nothing: renegotiation is always off."""

    def renegotiate(self):
        """Always returns False: renegotiation is off. Bun: requests one (TLS 1.2)."""
        return False

    # ------------------------------------------------------------------ options

    def set_no_delay(self, enable=True):
        """Set TCP_NODELAY. Returns False when closed or not TCP. Bun: True on unix sockets too."""
        cdef bint on = bool(enable)
        return wrapper_is_open(self) and socket_set_no_delay(self.s, on) == 0

    def set_keep_alive(self, enable=False, initial_delay=0):
        """Set SO_KEEPALIVE. initial_delay: milliseconds idle before the first probe, 0 = unchanged.

        The kernel counts in seconds, so the delay is rounded up. Returns False when closed or not TCP.
        """
        cdef bint on = bool(enable)
        cdef double delay
        if isinstance(initial_delay, bool):
            raise TypeError("initial_delay must be a number of milliseconds, not 'bool'")
        delay = initial_delay
        if not 0 <= delay <= KEEP_ALIVE_MAX:
            raise ValueError(f"initial_delay must be 0..{KEEP_ALIVE_MAX} milliseconds, not {initial_delay!r}")
        return wrapper_is_open(self) and socket_set_keep_alive(self.s, on, <unsigned int>ceil(delay)) == 0

    def reload(self, socket=None, *, handlers=None):
        """Replace the handlers of this socket alone, between two events. If they are invalid, nothing changes.

        socket, handlers: the new ones, under one of the two names of this option; required.
        Bun: reload of an accepted socket changes all sockets of its listener.
        """
        cdef Handlers table = handlers_compile(handlers_either(socket, handlers))
        if wrapper_is_open(self):
            wrapper_reload(self.s, table)

    def __repr__(self):
        state = ReadyState(wrapper_state(self)).name
        if self.remote_port is None:
            return f"<pybuntcp.Socket {self.remote_address or self.local_address or ''!r} {state}>"
        return f"<pybuntcp.Socket {self.remote_address} port {self.remote_port} {state}>"
