"""host: what the connections of one event loop share.

Owns `Host`: which descriptor belongs to which Stream, whether debug mode is on, and the user's buffer that is being read into.
There is one at a time: libuv asks for memory, reads and reports in one go. In a forked child every Stream forgets its socket:
the core has freed it there, and told nobody.
"""
import os
import weakref
from asyncio import _get_running_loop

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.pythread cimport PyThread_get_thread_ident
from cpython.ref cimport PyObject
from libc.stdlib cimport free, realloc
from libc.string cimport memset


cdef enum:
    ELSEWHERE = 1               # Host.thread: one that is not known. No thread's identity is 1: it is an address

cdef object _hosts = weakref.WeakSet()


cdef class Host:
    """One event loop, as its transports see it. Made by the event loop."""
    cdef object __weakref__
    cdef object running         # a weak reference to the event loop
    cdef bint foreign           # it is not one of ours, and tells neither when it runs nor that its debug mode changes
    cdef bint in_slot           # of a foreign one: `data` is being told, so `thread` is right
    cdef bint stopping          # of a foreign one: what is written leaves at once, as if it did not run
    cdef bint debug             # of one of ours: see host_is_debug
    cdef unsigned long thread   # in which the event loop runs; 0: it does not run. Of a foreign one: see host_look
    cdef bint reading           # `buffer` is held
    cdef Py_buffer buffer
    cdef PyObject** streams     # by descriptor; borrowed
    cdef int capacity

    def __cinit__(self, loop, bint foreign=False):
        self.running, self.foreign = weakref.ref(loop), foreign
        _hosts.add(self)

    def __dealloc__(self):
        free(self.streams)

    @property
    def loop(self):
        """The event loop; None: it is gone."""
        return self.running()

    @property
    def call_soon(self):
        """Its method."""
        return self.running().call_soon

    def enter(self):
        """The event loop runs in this thread, until `leave`."""
        self.thread = PyThread_get_thread_ident()

    def leave(self):
        """The event loop does not run any more."""
        self.thread = 0

    def set_debug(self, bint enabled):
        """Debug mode as the event loop has it: slow callbacks and pauses are logged."""
        self.debug = enabled

    def transport_of(self, int fd):
        """The transport that uses a descriptor, or None."""
        cdef Stream stream = host_stream(self, fd)
        return None if stream is None or stream.lent or not stream_has_descriptor(stream) else stream.transport

    def flush(self, int fd):
        """Send what was written to the transport that uses a descriptor, if one does."""
        cdef Stream stream = host_stream(self, fd)
        if stream is not None and stream.s != NULL:
            socket_flush(stream.s)

    def begin_stopping(self):
        """A foreign loop is told to stop, and may do it when this callback has returned: send what was written to any transport."""
        self.stopping = True
        self.running().call_soon(self.end_stopping)
        for stream in host_streams(self):
            if (<Stream>stream).s != NULL:
                socket_flush((<Stream>stream).s)

    def end_stopping(self):
        """It runs again, or still."""
        self.stopping = False

    def close(self):
        """The loop is closed: close what is open, with a ResourceWarning each, as a transport that is collected gives."""
        for stream in host_streams(self):
            stream_leave_unclosed(stream)


# ---------------------------------------------------------------------------- threads
# The core turns its sockets without the GIL. What asyncio leaves to luck, a call of another thread, would break it here.

cdef inline bint host_is_elsewhere(Host self) except -1:
    """The event loop runs, in another thread than this one."""
    if self.foreign and not self.in_slot:
        host_look(self)
    return self.thread != 0 and self.thread != PyThread_get_thread_ident()


cdef int host_look(Host self) except -1:
    """Note whether a foreign event loop runs, and where, as far as that is known."""
    cdef object loop = self.running()
    cdef unsigned long here = PyThread_get_thread_ident()
    if loop is not None and _get_running_loop() is loop:
        self.thread = 0 if self.stopping else here
    elif loop is None or not loop.is_running():
        self.thread = 0
    elif self.thread == 0 or self.thread == here:
        self.thread = ELSEWHERE
    return 0


cdef inline void host_begin_data(Host self) noexcept:
    """A loop of ours is in a turn, so its event loop runs in here: writes until `host_end_data` need not look."""
    if self.foreign:
        self.in_slot = True
        self.thread = PyThread_get_thread_ident()


cdef inline void host_end_data(Host self) noexcept:
    self.in_slot = False


cdef inline bint host_is_debug(Host self) except -1:
    """Debug mode: slow callbacks and pauses are logged."""
    return host_foreign_is_debug(self) if self.foreign else self.debug


cdef bint host_foreign_is_debug(Host self) except -1:
    loop = self.running()
    return loop is not None and loop.get_debug()


cdef int host_check_thread(Host self) except -1:
    if host_is_elsewhere(self):
        raise RuntimeError(
            f"Non-thread-safe operation: this is thread {PyThread_get_thread_ident()}, and the event loop runs in "
            f"{'another' if self.thread == ELSEWHERE else f'thread {self.thread}'}. Use loop.call_soon_threadsafe()"
        )
    return 0


cdef inline int host_check_look(Host self) except -1:
    """Where there is no GIL, another thread must not even read what the event loop's thread replaces or frees."""
    return 0 if PBT_HAS_GIL else host_check_thread(self)


cdef bint host_hand_over(Host self, object method) except -1:
    """Called in another thread, as by a collector of garbage that runs there: have the event loop call it. Debug mode raises."""
    if not host_is_elsewhere(self):
        return False
    if host_is_debug(self):
        host_check_thread(self)
    self.loop.call_soon_threadsafe(method)
    return True


# ---------------------------------------------------------------------------- descriptors

def _leave_after_fork():
    """In a forked child, after the core has ended what it inherited."""
    for host in list(_hosts):
        for stream in host_streams(host):
            stream_forget(stream)


os.register_at_fork(after_in_child=_leave_after_fork)


cdef Stream host_stream(Host self, int fd):
    """The Stream at a descriptor, or None."""
    if not 0 <= fd < self.capacity or self.streams[fd] == NULL:
        return None
    return <Stream>self.streams[fd]


cdef list host_streams(Host self):
    """All of them, which may go while they are looked at."""
    cdef list found = []
    cdef int fd
    for fd in range(self.capacity):
        if self.streams[fd] != NULL:
            found.append(<Stream>self.streams[fd])
    return found


cdef int host_add(Host self, Stream stream) except -1:
    cdef int capacity = self.capacity
    cdef PyObject** grown
    if stream.fd >= capacity:
        capacity = max(stream.fd + 1, 2 * capacity, 64)
        grown = <PyObject**>realloc(self.streams, capacity * sizeof(PyObject*))
        if grown == NULL:
            raise MemoryError()
        memset(grown + self.capacity, 0, (capacity - self.capacity) * sizeof(PyObject*))
        self.streams = grown
        self.capacity = capacity
    self.streams[stream.fd] = <PyObject*>stream
    return 0


cdef void host_remove(Host self, Stream stream) noexcept:
    if stream.fd < self.capacity and self.streams[stream.fd] == <PyObject*>stream:
        self.streams[stream.fd] = NULL


cdef char* host_hold_buffer(Host self, object buffer, size_t* size) except NULL:
    """Have the kernel write to a user's buffer. Held until `host_release_buffer`. TypeError: it cannot be written to."""
    host_release_buffer(self)
    try:
        PyObject_GetBuffer(buffer, &self.buffer, PyBUF_WRITABLE)
    except (TypeError, BufferError):
        raise TypeError(f"get_buffer() must return a read-write bytes-like object, not {type(buffer).__name__}") from None
    self.reading = True
    size[0] = self.buffer.len
    return <char*>self.buffer.buf


cdef inline void host_release_buffer(Host self) noexcept:
    if self.reading:
        self.reading = False
        PyBuffer_Release(&self.buffer)
