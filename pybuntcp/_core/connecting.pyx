"""connecting: the Python face of an outgoing connection, and `connect` itself.

Owns `Connecting`: what `connect()` returns, to await, to ask or to cancel. It is kept alive by
its connector until the outcome is told.
"""
cimport cython

from cpython.ref cimport PyObject, Py_INCREF


@cython.final
cdef class Connecting:
    """An outgoing connection, made and started by `connect`. Awaited it gives the `Socket`.

    It goes on whether awaited or not. `cancel()` closes the attempt: no handler runs. So does
    cancelling the task that awaits it; if the connection stands already, it is closed.
    Errors, from `await` and `result()`: OSError with errno, `code`, `syscall`, `address` and
    `port`; `socket.gaierror` for a name; TimeoutError after `timeout`; asyncio's
    CancelledError after `cancel()`.
    Bun: the promise of `Bun.connect`; it cannot be cancelled and knows no timeout.
    """
    cdef connector_t* c         # NULL once the outcome is known
    cdef object options
    cdef object value
    cdef object error
    cdef bint cancelled_
    cdef bint telling           # a handler runs: not done yet
    cdef bint told              # somebody has seen the error
    cdef Loop loop
    cdef list waiting           # who awaits it
    cdef bint taken             # somebody has been given the socket

    def __init__(self):
        raise TypeError("connections are made by connect()")

    def __del__(self):
        if self.error is None or self.told:
            return
        if not host_report(self.loop, "Connection failed, and nobody asked", self.error, self):
            report_unraisable(self.error, self)

    def cancel(self):
        """Give the attempt up. False: there was an outcome already."""
        if self.c == NULL or not loop_check(self.c.loop):
            return False
        self.cancelled_ = True
        connector_cancel(self.c)
        connecting_wake(self)
        return True

    def cancelled(self):
        """Was it given up?"""
        return self.cancelled_

    def done(self):
        """Is there an outcome, and was it told?"""
        return self.c == NULL and not self.telling

    def result(self):
        """The `Socket`; raises the attempt's error, or asyncio's InvalidStateError before."""
        error = self.exception()
        if error is not None:
            raise error
        return self.value

    def exception(self):
        """The attempt's error or None; raises as `result` when cancelled or not done."""
        if self.cancelled_:
            raise asyncio_of("CancelledError")()
        if not self.done():
            raise asyncio_of("InvalidStateError")("the connection is not settled yet")
        self.told = True
        return self.error

    def __await__(self):
        cdef Waiter waiter
        if not self.done():
            waiter = waiter_new(self.loop)
            self.waiting.append(waiter)
            try:
                yield from waiter.__await__()
            except BaseException:       # cancelled, or the coroutine is thrown away
                connecting_give_up(self, waiter)
                raise
            connecting_forget(self, waiter)
        socket = self.result()
        self.taken = True
        return socket

    def __repr__(self):
        state = "in progress" if not self.done() else "cancelled" if self.cancelled_ else "done"
        return f"<pybuntcp.Connecting {state}>"


cdef void connecting_told(Connecting face) noexcept:
    face.telling = False
    connecting_wake(face)


cdef void connect_error_call(loop_t* loop, object handler, Connecting face) noexcept:
    """`connect_error(socket, error)`; what it raises takes the error's place."""
    cdef bint goes_on = False
    handler_enter(loop)
    try:
        result = handler(face_of_failure(face.options.data), face.error)
        goes_on = result is not None and connect_error_returned(handler, result, face)
    except BaseException as raised:
        if error_stops(raised):
            loop_fail(loop, raised)
        else:
            face.error = error_plain(raised)
    handler_leave(loop)
    if not goes_on:
        connecting_told(face)


cdef int connecting_wake(Connecting self) except -1:
    """There is an outcome. Who awaits it stays in the list until it goes on."""
    for waiter in self.waiting:
        waiter()
    return 0


cdef int connecting_forget(Connecting self, Waiter waiter) except -1:
    if waiter in self.waiting:
        self.waiting.remove(waiter)
    return 0


cdef int connecting_give_up(Connecting self, Waiter waiter) except -1:
    """One who awaits it is cancelled: so is the attempt. One that stands is closed, if nobody takes it."""
    connecting_forget(self, waiter)
    if not self.cancel() and self.value is not None and not self.waiting and not self.taken:
        (<Socket>self.value).close()
    return 0


def connect_on(handlers, options):
    """`connect` after its options were checked (see options.ConnectOptions)."""
    cdef Loop loop = loop_here()
    cdef Handlers table = handlers_none() if handlers is None else handlers
    cdef context_t* context = context_from(handlers_for(table, loop), options)
    cdef Connecting face = Connecting.__new__(Connecting)
    cdef object host = options.hostname
    cdef connector_t* self
    Py_INCREF(host)
    context.host = <PyObject*>host
    try:
        self = connector_new(loop, context)
    finally:
        context_release(loop.c, context)
    face.options = options
    face.loop = loop
    face.waiting = []
    face.c = self
    Py_INCREF(face)
    self.face = <PyObject*>face
    self.no_delay = options.no_delay and options.unix is None
    if options.local is None:
        self.local_port = options.local_port
    else:
        self.nowhere = address_parse(&self.local, options.local, options.local_port) < 0
    try:
        connector_start(self, options)
    except BaseException:
        connector_cancel(self)
        loop_kick(loop.c)
        raise
    return face
