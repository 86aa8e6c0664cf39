# cython: language_level=3, freethreading_compatible=True
"""recording: slots that take the GIL and tell a recorder.

Owns one slot for each event. The table's `user` is the recorder, and unless another one is named its owner, too; a slot
calls `recorder.called(event, handle, *arguments)` with its arguments as Python objects. What that raises leaves the slot
as any exception leaves a `noexcept` function.
"""
from libc.stdint cimport uintptr_t

from outside.handle cimport Handle, handle_lost, handle_new, handle_of
from pybuntcp cimport handlers_from_slots, new_slots, slots_t, socket_t, socket_user


cdef int tell(socket_t* s, Handle handle, str event, tuple arguments=()) except -1:
    (<object>socket_user(s)).called(event, handle, *arguments)
    return 0


cdef void on_open(socket_t* s) noexcept nogil:
    with gil:
        tell(s, handle_new(s), "open")


cdef void on_data(socket_t* s, const char* at, size_t size) noexcept nogil:
    with gil:
        tell(s, handle_of(s), "data", (at[:size],))


cdef void on_drain(socket_t* s) noexcept nogil:
    with gil:
        tell(s, handle_of(s), "drain")


cdef void on_end(socket_t* s) noexcept nogil:
    with gil:
        tell(s, handle_of(s), "end")


cdef void on_close(socket_t* s, int error) noexcept nogil:
    with gil:
        try:
            tell(s, handle_of(s), "close", (error,))
        finally:
            handle_lost(s)


cdef void on_timeout(socket_t* s) noexcept nogil:
    with gil:
        tell(s, handle_of(s), "timeout")


cdef void on_handshake(socket_t* s, int success, long verify_result) noexcept nogil:
    with gil:
        tell(s, handle_of(s), "handshake", (success, verify_result))


cdef void on_connect_error(socket_t* s, int error) noexcept nogil:
    with gil:
        try:
            tell(s, handle_new(s), "connect_error", (error,))
        finally:
            handle_lost(s)


def table(recorder, names, size_t ext_size=0, handlers=None, owner=None):
    """A Handlers whose slots for the events in `names` tell the recorder; `handlers`: Python ones beside them."""
    cdef slots_t slots = new_slots()
    slots.user = <void*>recorder
    slots.ext_size = ext_size
    if "open" in names:
        slots.open = on_open
    if "data" in names:
        slots.data = on_data
    if "drain" in names:
        slots.drain = on_drain
    if "end" in names:
        slots.end = on_end
    if "close" in names:
        slots.close = on_close
    if "timeout" in names:
        slots.timeout = on_timeout
    if "handshake" in names:
        slots.handshake = on_handshake
    if "connect_error" in names:
        slots.connect_error = on_connect_error
    return handlers_from_slots(&slots, handlers, recorder if owner is None else owner)


def address_of(recorder):
    """The `user` of its tables."""
    return <uintptr_t><void*>recorder
