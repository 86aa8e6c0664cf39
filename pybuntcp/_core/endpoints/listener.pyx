"""listener: a listener's life, and `Listener`.

Owns `listener_t`, which has the counts, the socket context and the listening descriptors (see acceptors), and
`Listener`, its Python object, which owns its memory.
A `Listener` holds a reference to itself while it listens or one of its sockets is open (`held`). When neither is the
case any more, it releases the context, and with it the handlers, so that handlers that refer to their listener do not
keep it alive for ever.
Promises that open sockets outlive `stop`, and that the socket which closes last wakes `wait_closed`.
Does not know how connections are accepted (see accept), nor how the descriptor is made (see listen).
"""
cimport cython

from cpython.pythread cimport PyThread_get_thread_ident
from cpython.ref cimport PyObject, Py_DECREF, Py_INCREF
from libc.math cimport INFINITY
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free

from pybuntcp._c cimport uv


cdef struct listener_t:
    loop_t* loop
    acceptors_t acceptors       # its listening descriptors
    alarm_t back_off            # fires when accepting is tried again
    PyObject* wrapper           # the Listener: owned while `held`, else borrowed
    context_t* context          # NULL: released
    bint held
    bint adopted                # made from `fd=`: other processes may listen on the same socket
    bint open                   # listening
    bint unreferenced
    bint awaited                # `_close_waiters` is not empty
    uint64_t connections        # open sockets
    uint64_t max_connections    # UINT64_MAX: no limit
    uint64_t accepted
    uint64_t accept_errors


cdef void listener_watch(listener_t* self) noexcept nogil:
    if self.open:
        acceptors_watch(&self.acceptors)
        loop_wakeup(self.loop)


cdef void listener_socket_closed(listener_t* self) noexcept nogil:
    """One of the listener's sockets has closed."""
    stats_add(&self.connections, -1)
    if self.open and self.connections + 1 == self.max_connections:
        listener_watch(self)
    if self.awaited and self.connections == 0:
        listener_wake_closed(self)
    listener_decref_if_idle(self)


cdef void listener_wake_closed(listener_t* self) noexcept nogil:
    self.awaited = False
    if not self.loop.dead:
        gil_take(self.loop)
        (<listener_fn><void*>listener_call_close_waiters)(self)


cdef void listener_call_close_waiters(listener_t* self) noexcept:
    cdef Listener wrapper = <Listener>self.wrapper
    waiters, wrapper._close_waiters = wrapper._close_waiters, []
    for waiter in waiters:
        waiter()


# ---------------------------------------------------------------------------- life

cdef void listener_incref(listener_t* self) noexcept:
    if not self.held:
        self.held = True
        Py_INCREF(<object>self.wrapper)


cdef void listener_decref_if_idle(listener_t* self) noexcept nogil:
    """Drop the listener's reference to itself, if it does not listen and no socket is open."""
    if self.held and self.connections == 0 and self.acceptors.handles == 0:
        self.held = False
        gil_take(self.loop)
        (<listener_fn><void*>listener_release)(self)


ctypedef void (*listener_fn)(listener_t*) noexcept nogil

cdef void listener_release(listener_t* self) noexcept:
    """Release the context, and with it the handlers; then the reference."""
    cdef Listener wrapper = <Listener>self.wrapper
    with cython.critical_section(wrapper):
        wrapper._data = <object>self.context.data
    context_release(self.loop, self.context)
    self.context = NULL
    Py_DECREF(wrapper)


cdef int listener_start(listener_t* self, list fds) except -1:
    """Begin to accept. Adopts the descriptors on success, and empties the list."""
    cdef int rc
    acceptors_make(&self.acceptors, self, fds)
    listener_incref(self)
    rc = acceptors_start(&self.acceptors, self.loop)
    if rc < 0:
        acceptors_close_handles(&self.acceptors)
        listener_decref_if_idle(self)       # nothing else does it if no handle was made
        raise error_from_code(rc, "listen", listener_place(<Listener>self.wrapper), (<Listener>self.wrapper).port)
    loop_ref(self.loop)
    self.back_off.fire = on_back_off_over
    self.back_off.owner = self
    for fd in fds:
        descriptor_track(fd, descriptors_fork_stamp())
    fds.clear()
    self.open = True
    stats_add(&self.loop.count.open_listeners, 1)
    listener_watch(self)
    return 0


cdef void listener_stop(listener_t* self) noexcept nogil:
    """Stop listening. Open sockets stay open."""
    if not self.open:
        return
    self.open = False
    alarm_disarm(self.loop, &self.back_off)
    if not self.unreferenced:
        loop_unref(self.loop)
    stats_add(&self.loop.count.open_listeners, -1)
    acceptors_close(&self.acceptors, self.adopted)
    loop_wakeup(self.loop)


cdef void listener_abandon(listener_t* self) noexcept nogil:
    """The loop dies: stop, and remove the socket's file if this process made it."""
    gil_take(self.loop)
    (<listener_fn><void*>listener_unlink)(self)
    listener_stop(self)


cdef void listener_unlink(listener_t* self) noexcept:
    unix_unlink((<Listener>self.wrapper)._unix_file)


cdef void on_close_accepted(uv.uv_handle_t* handle, void* server) noexcept nogil:
    cdef socket_t* s = <socket_t*>handle
    if handle.type == uv.UV_TCP and s.flags & S_COUNTED and context_of(s).server == server:
        socket_close(s)


cdef bint listener_is_open(Listener self) noexcept:
    """False also in a forked child, which has a copy of `open`."""
    return self.c.open and not self._loop.c.dead


cdef str listener_place(Listener self):
    """What an error names: the path, or the host names in one line."""
    if self.path is not None:
        return self.path
    return self._hostname if isinstance(self._hostname, str) else ", ".join(self._hostname)


cdef object listener_tls(Listener self, object tls):
    if not self.secured:
        raise ValueError("tls: this listener was made without; a plain one cannot become a secured one")
    config = _read_tls(tls, True, None)
    if config is None:
        raise ValueError("tls: a secured listener cannot become a plain one")
    return config


cdef double listener_slow_handler(listener_t* self) noexcept:
    """The option, which a reload keeps."""
    return INFINITY if self.context == NULL else self.context.slow_handler


cdef int listener_reload(Listener self, Handlers handlers, object config) except -1:
    """Replace the handlers and the TLS configuration; None keeps what there is."""
    cdef context_t* context = self.c.context
    if context == NULL:
        return 0
    if handlers is not None:
        handlers_check_ext(handlers, context)
        context_install(self.c.loop, context, &handlers.table)
    if config is not None:
        context_set_tls(context, config)
    return 0


# ---------------------------------------------------------------------------- the Python object

@cython.final
@cython.no_gc_clear             # __dealloc__ needs the loop's memory
cdef class Listener:
    """A listening socket, made by `listen`. `with listener:` calls `stop(True)` on exit.

    `async with listener:` also waits until its connections have closed and their async handlers have ended. Handlers
    that run longer than `linger_timeout` are cancelled then. If the block is left by an exception or a cancellation,
    it cancels them at once, and waits for at most 1.5 s.

    Attributes: `hostname` and `unix` as given, `port` as bound (None where they do not apply), `addresses`, the IP
    literals it is bound to, kept after stop; `fd` (-1 after stop), and `fds` if it has several; `data`, what new
    sockets start with; `connections`, the sockets open now.

    Source: Bun's `TCPSocketListener` / `UnixSocketListener`.
    """
    cdef listener_t* c
    cdef object _hostname
    cdef object _port
    cdef tuple _addresses
    cdef object path            # the property `unix`, which is a macro of some compilers
    cdef object _unix_file      # key of the socket's file: see base/unix_files
    cdef object _data           # the property `data` after the context was released
    cdef list _close_waiters    # Waiters of `wait_closed`
    cdef Loop _loop             # keeps the loop's memory, to which `c` refers
    cdef bint secured           # made with `tls=`

    def __cinit__(self, made=None):
        if made is not _uninitialised:
            raise TypeError("listeners are made by listen()")

    def __dealloc__(self):
        if self.c != NULL:
            if self.c.context != NULL:
                context_release(self.c.loop, self.c.context)
            acceptors_free(&self.c.acceptors)
            free(self.c)

    @property
    def hostname(self):
        """As it was given, a name or a list of them; for an adopted descriptor its address. None for a unix socket."""
        return self._hostname

    @property
    def port(self):
        """The port that it listens on, the actual one if 0 was given; None for a unix socket."""
        return self._port

    @property
    def addresses(self):
        """The IP addresses that it listens on, a tuple of str; () for a unix socket."""
        return self._addresses

    @property
    def unix(self):
        """The path of the socket's file, or its abstract name; None for TCP."""
        return self.path

    @property
    def fd(self):
        """The descriptor, which the listener owns, or the first of several; -1 after `stop`."""
        return self.c.acceptors.each[0].fd if listener_is_open(self) else -1

    @property
    def fds(self):
        """All of its descriptors, one for each of `addresses`; empty after `stop`."""
        if not listener_is_open(self):
            return ()
        return tuple([self.c.acceptors.each[i].fd for i in range(self.c.acceptors.count)])

    @property
    def data(self):
        """The first value of `socket.data` of every socket that is accepted from now on."""
        if self.c.context == NULL:
            with cython.critical_section(self):
                return self._data
        loop_check(self.c.loop)
        return <object>self.c.context.data

    @data.setter
    def data(self, value):
        cdef PyObject* old
        if self.c.context == NULL:
            with cython.critical_section(self):
                self._data = value
            return
        loop_check(self.c.loop)
        old = self.c.context.data
        Py_INCREF(value)
        self.c.context.data = <PyObject*>value
        Py_DECREF(<object>old)

    @property
    def connections(self):
        """The number of sockets that are open now."""
        return 0 if self._loop.c.dead else stats_read(&self.c.connections)

    def stop(self, close_active_connections=False):
        """Stop accepting. close_active_connections: also close the open sockets (as `Socket.close`). Idempotent."""
        cdef bint everything = bool(close_active_connections)
        if not loop_check(self.c.loop):
            return
        if self.c.open:
            unix_unlink(self._unix_file)
            listener_stop(self.c)
        if everything and self.c.connections != 0:
            uv.uv_walk(&self.c.loop.uv, on_close_accepted, self.c)

    def ref(self):
        """Let this listener keep `run()` going (the default)."""
        if loop_check(self.c.loop) and self.c.open and self.c.unreferenced:
            self.c.unreferenced = False
            loop_ref(self.c.loop)

    def unref(self):
        """Let `run()` return even if this listener is open."""
        if loop_check(self.c.loop) and self.c.open and not self.c.unreferenced:
            self.c.unreferenced = True
            loop_unref(self.c.loop)

    def reload(self, socket=None, *, handlers=None, tls=None):
        """Replace the handlers of every socket of this listener, open ones too, between two events.

        socket, handlers: the new ones, under one of the two names of this option. Another listener that was made with
        the same `Handlers` is not changed.
        tls: as in `listen`; used for connections that are accepted from now on, `sni` included.
        On an error nothing changes. Errors: as `Handlers`; those of `TLSOptions`; ValueError for a listener without
        TLS. Source: Bun's `listener.reload({socket})`.
        """
        cdef Handlers table = None
        socket = handlers_either(socket, handlers)
        if socket is not None or tls is None:
            table = handlers_compile(socket)
        if not loop_check(self.c.loop):
            return
        if table is not None:
            table = handlers_bind(table, self._loop, listener_slow_handler(self.c))
        listener_reload(self, table, None if tls is None else listener_tls(self, tls))

    def sockets(self):
        """An iterator over the open sockets, oldest first: `open` was called for them, and they are not closing.

        Sockets that close during the iteration are left out, and those that open after this call are not included. A
        socket in a TLS handshake is not open yet, though `connections` counts it. The time that it takes is
        proportional to the number of sockets of the loop.
        Errors: RuntimeError in another thread.
        """
        return roster_of(self)

    def loop_stats(self):
        """`pybuntcp.stats()` of the listener's loop, from any thread; the last counts if the loop has ended.

        In another thread the counts are read one by one, each as it is at that moment. There `pending_bytes` counts what
        the kernel has refused, without what was written after that, because only the loop's own thread can add that up.
        """
        if self.c.loop.thread != PyThread_get_thread_ident() or self.c.loop.closed:
            return roster_stats_seen(self.c.loop)
        return roster_stats(self.c.loop)

    def stats(self):
        """The listener's counters: `{"accepted", "connections", "accept_errors"}`."""
        return {
            "accepted": stats_read(&self.c.accepted),
            "connections": self.connections,
            "accept_errors": stats_read(&self.c.accept_errors),
        }

    async def wait_closed(self, timeout=None):
        """Wait until no socket of the listener is open, for at most `timeout` seconds. Returns how many are left.

        Errors: RuntimeError in another asyncio loop than the one in which it was opened.
        """
        cdef double seconds = float("inf") if timeout is None else number_of_seconds("timeout", timeout)
        if self.connections == 0 or not seconds > 0:
            return self.connections
        loop_check(self.c.loop)
        waiter = waiter_new(self._loop)
        timer = host_call_later(self._loop, seconds, waiter) if seconds < float("inf") else None
        self.c.awaited = True
        self._close_waiters.append(waiter)
        try:
            await waiter
        finally:
            if timer is not None:
                timer.cancel()
            if loop_may_look(self.c.loop) and waiter in self._close_waiters:    # see sink_remove_waiter
                self._close_waiters.remove(waiter)
        return self.connections

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.stop(True)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exception):
        await _exit_listener(self, any(exception))

    def __repr__(self):
        where = repr(self.path) if self.path is not None else f"{listener_place(self)} port {self._port}"
        return f"<pybuntcp.Listener {where}{'' if listener_is_open(self) else ' stopped'}>"


cdef Listener listener_new(Loop loop, context_t* context, object hostname, object unix):
    """A Listener that does not listen yet. It takes a reference to the context."""
    cdef Listener wrapper = Listener.__new__(Listener, _uninitialised)
    wrapper.c = <listener_t*>calloc(1, sizeof(listener_t))
    if wrapper.c == NULL:
        raise MemoryError()
    wrapper.c.wrapper = <PyObject*>wrapper
    wrapper._loop = loop
    wrapper._close_waiters = []
    wrapper.c.loop = loop.c
    wrapper.c.context = context
    context.references += 1
    context.server = wrapper.c
    wrapper._hostname = hostname
    wrapper._addresses = ()
    wrapper.path = unix
    wrapper.secured = context.tls != NULL
    return wrapper
