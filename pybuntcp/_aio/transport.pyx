"""transport: `SocketTransport` and `SSLTransport`, which protocols and programs see.

Each is an instance of `asyncio.Transport`, as programs check. That class has a layout of its own (`__slots__`), which no
extension type can inherit together with its own members. So these are Python classes with one slot for the Stream, read where it
lies. What they have in common is in `StreamTransport`.
"""
from asyncio import constants
from asyncio.transports import _FlowControlMixin
from cpython.ref cimport PyObject


class StreamTransport(_FlowControlMixin):
    """What SocketTransport and SSLTransport have in common."""

    __slots__ = ("_stream", "__weakref__", "__dict__")      # programs put methods of their own in place of ours

    _start_tls_compatible = True

    def write(self, data):
        """Send `data`, any bytes-like object. All writes of a callback are sent together; data that must wait is copied.

        Errors: TypeError; RuntimeError after write_eof(). After close() or a lost connection it is dropped.
        """
        stream_write(stream_of(self), data)

    def writelines(self, list_of_data):
        """Send several bytes-like objects, as one write of all of them."""
        stream_write_lines(stream_of(self), list_of_data)

    def close(self):
        """Send what is pending, then close. `connection_lost(None)` follows."""
        cdef Stream stream = stream_of(self)
        if not host_hand_over(stream.host, self.close):
            stream_close(stream)

    def abort(self):
        """Close, and drop what the kernel has not accepted. `connection_lost(None)` follows."""
        cdef Stream stream = stream_of(self)
        if not host_hand_over(stream.host, self.abort):
            stream_abort(stream)

    def is_closing(self):
        """True after close(), abort(), or a failure."""
        return stream_of(self).closing

    def is_reading(self):
        """True unless it is paused or closing."""
        cdef Stream stream = stream_of(self)
        return not (stream.closing or stream.paused)

    def pause_reading(self):
        """Stop reading until resume_reading()."""
        stream_pause(stream_of(self))

    def resume_reading(self):
        """Continue reading."""
        stream_resume(stream_of(self))

    def get_write_buffer_size(self):
        """Bytes that were written and that the kernel has not accepted, gathered ones included."""
        cdef Stream stream = stream_of(self)
        host_check_look(stream.host)
        return stream_pending(stream)

    def get_write_buffer_limits(self):
        """(low, high), in bytes."""
        cdef Stream stream = stream_of(self)
        return stream.low, stream.high

    def set_write_buffer_limits(self, high=None, low=None):
        """The protocol's `pause_writing` is called when more than `high` bytes are pending, `resume_writing` at `low`.

        high: by default four times `low`, or without `low` 64 KiB, with TLS 512 KiB. low: by default a quarter of `high`.
        Errors: ValueError unless high >= low >= 0.
        """
        cdef Stream stream = stream_of(self)
        host_check_thread(stream.host)      # it may send
        stream_set_limits(stream, high, low)

    def set_protocol(self, protocol):
        """Set another protocol, which is called from now on."""
        cdef Stream stream = stream_of(self)
        host_check_look(stream.host)
        stream_set_protocol(stream, protocol)

    def get_protocol(self):
        """Return the protocol; None when the connection is lost."""
        cdef Stream stream = stream_of(self)
        host_check_look(stream.host)
        return stream.protocol

    def get_extra_info(self, name, default=None):
        """The values that asyncio has: `socket`, `peername`, `sockname`, and those of TLS; or the default."""
        return stream_extra(stream_of(self), name, default)

    def __repr__(self):
        return stream_repr(stream_of(self))

    # What asyncio's own code calls: its SSLProtocol, and `loop.sendfile`.

    def _force_close(self, error):
        stream_force_close(stream_of(self), error)

    def _make_empty_waiter(self):
        return stream_make_empty_waiter(stream_of(self))

    def _lend(self, task=None):
        stream_lend(stream_of(self), task)

    def _take_back(self):
        stream_take_back(stream_of(self))

    @property
    def _closing(self):
        return stream_of(self).closing

    @property
    def _paused(self):
        return stream_of(self).paused

    @property
    def _protocol_paused(self):
        return stream_of(self).write_paused

    @property
    def _sock(self):
        cdef Stream stream = stream_of(self)
        host_check_look(stream.host)
        return None if stream.s == NULL else stream_socket(stream)

    @property
    def _sock_fd(self):
        return stream_of(self).fd

    @property
    def _loop(self):
        return stream_of(self).host.loop

    @property
    def _protocol(self):
        cdef Stream stream = stream_of(self)
        host_check_look(stream.host)
        return stream.protocol


class SocketTransport(StreamTransport):
    """A connection, as a protocol sees it: an `asyncio.Transport`, with the same errors, on one of pybuntcp's sockets."""

    __slots__ = ()

    _sendfile_compatible = constants._SendfileMode.TRY_NATIVE

    def write_eof(self):
        """Send what is pending, then FIN. What the peer sends is still received."""
        stream_write_eof(stream_of(self))

    def can_write_eof(self):
        """True."""
        return True


class SSLTransport(StreamTransport):
    """A connection with TLS, as a protocol sees it: as the transport of asyncio's SSLProtocol, on pybuntcp's own TLS."""

    __slots__ = ()

    _sendfile_compatible = constants._SendfileMode.FALLBACK

    def write(self, data):
        """Send `data`, encrypted, together with other writes of this callback: a record holds up to 16 KiB of them.

        Errors: TypeError for what is not bytes, bytearray or memoryview. After close() or a lost connection it is dropped.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data: expecting a bytes-like instance, got {type(data).__name__}")
        stream_write(stream_of(self), data)

    def write_eof(self):
        """TLS cannot end one direction alone. Errors: NotImplementedError, always."""
        raise NotImplementedError

    def can_write_eof(self):
        """False."""
        return False

    def is_reading(self):
        """True unless it is paused."""
        return not stream_of(self).paused

    def set_read_buffer_limits(self, high=None, low=None):
        """Only stored for get_read_buffer_limits: this side holds no more than it must while the protocol is paused."""
        cdef Stream stream = stream_of(self)
        limits_read(high, low, SECURED_READ_HIGH_WATER, &stream.tls.read_high, &stream.tls.read_low)

    def get_read_buffer_limits(self):
        """(low, high), in bytes."""
        cdef Stream stream = stream_of(self)
        return stream.tls.read_low, stream.tls.read_high

    def get_read_buffer_size(self):
        """Bytes that are decrypted and not yet passed to the protocol."""
        cdef Stream stream = stream_of(self)
        host_check_look(stream.host)
        return 0 if stream.tls.held is None else len(stream.tls.held)


cdef object transport_type = StreamTransport
cdef Py_ssize_t transport_stream_at = pbt_slot_offset(StreamTransport.__dict__["_stream"])


cdef object transport_new(Stream stream):
    kind = SocketTransport if stream.tls is None else SSLTransport
    transport = kind.__new__(kind)
    transport._stream = stream
    return transport


cdef inline Stream stream_of(object transport):
    """The Stream of a transport of ours. TypeError: it is something else."""
    cdef PyObject* stream
    if not isinstance(transport, transport_type):
        raise TypeError(f"a SocketTransport is wanted, not {type(transport).__name__!r}")
    stream = (<PyObject**>(<char*><void*>transport + transport_stream_at))[0]
    if stream == NULL or not isinstance(<object>stream, Stream):
        raise TypeError("SocketTransport is made by an event loop")
    return <Stream>stream


cdef str stream_repr(Stream self):
    cdef bint looks = PBT_HAS_GIL or not host_is_elsewhere(self.host)
    cdef size_t pending = stream_pending(self) if looks else 0
    parts = ["SocketTransport" if self.tls is None else "SSLTransport"]
    if self.s == NULL:
        parts.append("closed")
    elif self.closing:
        parts.append("closing")
    parts.append(f"fd={self.fd}")
    if self.s != NULL:
        parts.append("read=idle" if self.closing or self.paused else "read=polling")
        parts.append(f"write=<{'polling' if pending else 'idle'}, bufsize={pending}>")
    return f"<{' '.join(parts)}>"
