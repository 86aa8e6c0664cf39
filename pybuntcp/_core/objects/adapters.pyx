"""adapters: from a slot to a Python handler.

The problem: dispatch calls C functions without the GIL, which cannot raise. A Python handler needs the GIL and
arguments, may raise anything, may replace the table that it is in, and may return a coroutine.
The rule: for each event there is a pair of functions. `py_data`, to which the slot points, takes the GIL, which this
thread then keeps until the turn ends (see turn). It calls `call_data` through a pointer that is typed `nogil`; Cython
compiles `call_data` itself as code that holds the GIL. That one makes the arguments and calls the handler:

  slot -> py_data -> call_data -> handler
                                     |-> a coroutine: task_of_result: a task runs the rest (see tasks)
                                     '-> an exception: exception_raised -> the table's `error` handler
                                            |                            '-> none, or it raises: exception_report
                                            v                                   -> asyncio's exception handler, or
                     KeyboardInterrupt, SystemExit: loop_fail stops the loop       logging and sys.unraisablehook

Owns these pairs, and what happens to an exception that a handler raised. Promises: a callable stays alive while it
runs; no exception leaves this file, those two apart; a signal's Python handler runs before the first handler that
follows the signal. Large chunks are passed without a copy where that is possible (see buffers, and loop/slabs).
"""
from cpython.bytearray cimport PyByteArray_FromStringAndSize
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromObject


ctypedef void (*call_fn)(socket_t*, int) noexcept nogil

cdef inline void py_call(socket_t* s, int event) noexcept nogil:
    gil_take(loop_of(s))
    (<call_fn><void*>call_handler)(s, event)


cdef void py_open(socket_t* s) noexcept nogil:
    py_call(s, E_OPEN)


cdef void py_drain(socket_t* s) noexcept nogil:
    py_call(s, E_DRAIN)


cdef void py_end(socket_t* s) noexcept nogil:
    py_call(s, E_END)


cdef void py_timeout(socket_t* s) noexcept nogil:
    py_call(s, E_TIMEOUT)


cdef void py_handshake(socket_t* s, int success, long verify_result) noexcept nogil:
    gil_take(loop_of(s))
    (<call_fn><void*>call_handshake)(s, success)


cdef void py_data(socket_t* s, const char* data, size_t size) noexcept nogil:
    gil_take(loop_of(s))
    (<data_slot><void*>call_data)(s, data, size)


cdef void py_close(socket_t* s, int error) noexcept nogil:
    gil_take(loop_of(s))
    (<close_slot><void*>call_close)(s, error)


cdef void call_handler(socket_t* s, int event) noexcept:
    """Call the handler of an event that has no arguments. If `open` raises, the socket is closed."""
    if loop_of(s).signal_pending:
        signals_deliver(loop_of(s))
        if is_closing(s) and event != E_OPEN:
            return
    cdef object handler = <object>context_of(s).table.callable[event]
    try:
        result = handler(wrapper_of(s))
        if result is not None:
            task_of_result(s, event, handler, result)
    except BaseException as error:
        exception_raised(s, event, handler, error)
        if event == E_OPEN:
            socket_close(s)


cdef void call_data(socket_t* s, const char* data, size_t size) noexcept:
    """Call `data`, with what `binary_type` asks for."""
    if loop_of(s).signal_pending:
        signals_deliver(loop_of(s))
        if is_closing(s):
            return
    cdef handlers_t* table = &context_of(s).table
    cdef object handler = <object>table.callable[E_DATA]
    cdef object view = None
    try:
        if table.binary_type == BYTES:
            result = handler(wrapper_of(s), data_bytes(loop_of(s), data, size))
        elif table.binary_type == BYTEARRAY:
            result = handler(wrapper_of(s), PyByteArray_FromStringAndSize(data, size))
        else:
            view = data_view(loop_of(s), data, size)
            result = handler(wrapper_of(s), view)
        if result is not None:
            task_of_result(s, E_DATA, handler, result)
    except BaseException as error:
        exception_raised(s, E_DATA, handler, error)
    if size >= LEASE_MIN:
        view = None
        loop_renew_slab(loop_of(s))


cdef void call_handshake(socket_t* s, int success) noexcept:
    cdef object handler = <object>context_of(s).table.callable[E_HANDSHAKE]
    try:
        result = handler(wrapper_of(s), success != 0, tls_authorization_error(s))
        if result is not None:
            task_of_result(s, E_HANDSHAKE, handler, result)
    except BaseException as error:
        exception_raised(s, E_HANDSHAKE, handler, error)


cdef void call_close(socket_t* s, int error_number) noexcept:
    cdef object handler = <object>context_of(s).table.callable[E_CLOSE]
    try:
        result = handler(wrapper_of(s), wrapper_close_error(s, -error_number))
        if result is not None:
            task_of_result(s, E_CLOSE, handler, result)
    except BaseException as error:
        exception_raised(s, E_CLOSE, handler, error)


cdef inline bytes data_bytes(loop_t* loop, const char* data, size_t size):
    """The chunk as bytes: a large one without a copy, if nothing else refers to the slab."""
    if size < LEASE_MIN or data != loop.slab:
        return PyBytes_FromStringAndSize(data, size)
    return loop_chunk(loop, data, size)


cdef bytes socket_bytes(socket_t* s, const char* data, size_t size):
    return data_bytes(loop_of(s), data, size)


cdef object data_view(loop_t* loop, const char* data, size_t size):
    """The chunk as a memoryview, without a copy if it lies in the slab. TLS data is in a scratch buffer: copied."""
    if size < LEASE_MIN or size < loop.slab_size // 10 or not loop.slab <= data < loop.slab + loop.slab_size:
        return PyMemoryView_FromObject(PyBytes_FromStringAndSize(data, size))
    return slab_lease(<Slab>loop.slab_owner, data, size)
