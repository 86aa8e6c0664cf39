# cython: language_level=3, freethreading_compatible=True
"""tables: tables as they may be, and as they may not.

Owns the making of tables that `handlers_from_slots` must refuse, or must have copied; the constants as they were when
this was compiled; and the use of `Socket` as a type.
"""
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from pybuntcp cimport (
    SLOTS_ABI,
    SOCKET_CLOSED,
    SOCKET_DETACHED,
    SOCKET_ESTABLISHED,
    SOCKET_OTHER,
    SOCKET_SHUTDOWN,
    Socket,
    close_slot,
    connect_error_slot,
    data_slot,
    drain_slot,
    end_slot,
    handlers_from_slots,
    handshake_slot,
    new_slots,
    open_slot,
    slots_t,
    socket_end,
    socket_object,
    socket_t,
    socket_write,
    timeout_slot,
)

ABI = SLOTS_ABI
SIZE = sizeof(slots_t)
STATES = {
    "SHUTDOWN": SOCKET_SHUTDOWN,
    "DETACHED": SOCKET_DETACHED,
    "CLOSED": SOCKET_CLOSED,
    "ESTABLISHED": SOCKET_ESTABLISHED,
    "OTHER": SOCKET_OTHER,
}


cdef void echo(socket_t* s, const char* at, size_t size) noexcept nogil:
    socket_write(s, at, size)


cdef void hang_up(socket_t* s, const char* at, size_t size) noexcept nogil:
    socket_end(s, "bye", 3)


cdef void ignore(socket_t* s) noexcept nogil:
    pass


# ---------------------------------------------------------------------------- as new_slots() makes it

def fresh():
    """What `new_slots()` gives, member by member."""
    cdef slots_t slots = new_slots()
    cdef open_slot open = slots.open
    cdef data_slot data = slots.data
    cdef drain_slot drain = slots.drain
    cdef end_slot end = slots.end
    cdef close_slot close = slots.close
    cdef timeout_slot timeout = slots.timeout
    cdef handshake_slot handshake = slots.handshake
    cdef connect_error_slot connect_error = slots.connect_error
    functions = (
        open == NULL, data == NULL, drain == NULL, end == NULL,
        close == NULL, timeout == NULL, handshake == NULL, connect_error == NULL,
    )
    return slots.abi, slots.size, slots.ext_size, slots.user == NULL, functions


# ---------------------------------------------------------------------------- as it may not be

def bind(abi=None, size=None, ext_size=None, bint data=True, bint drain=False, handlers=None, owner=None):
    """Bind an echo whose first numbers are these."""
    cdef slots_t slots = new_slots()
    if data:
        slots.data = echo
    if drain:
        slots.drain = ignore
    if abi is not None:
        slots.abi = abi
    if size is not None:
        slots.size = size
    if ext_size is not None:
        slots.ext_size = ext_size
    return handlers_from_slots(&slots, handlers, owner)


def bind_nothing():
    return handlers_from_slots(NULL)


def bind_zeroes():
    """A table that `new_slots()` did not make."""
    cdef slots_t slots
    memset(&slots, 0, sizeof(slots))
    slots.data = echo
    return handlers_from_slots(&slots)


# ---------------------------------------------------------------------------- what becomes of it afterwards

def bound_then_changed():
    """An echo whose table says something else as soon as it is bound."""
    cdef slots_t slots = new_slots()
    slots.data = echo
    handlers = handlers_from_slots(&slots)
    slots.data = hang_up
    slots.drain = ignore
    return handlers


def bound_then_freed():
    """An echo whose table is overwritten and given back as soon as it is bound."""
    cdef slots_t* slots = <slots_t*>malloc(sizeof(slots_t))
    slots[0] = new_slots()
    slots.data = echo
    try:
        return handlers_from_slots(slots)
    finally:
        memset(slots, 0xA5, sizeof(slots_t))
        free(slots)


# ---------------------------------------------------------------------------- Socket as a type

cdef int greet(Socket sock) except -1:
    sock.write(b"hello from " + type(sock).__name__.encode())
    sock.end()
    return 0


cdef void greet_and_end(socket_t* s) noexcept nogil:
    with gil:
        greet(socket_object(s))


def greeting():
    """Handlers that greet through a typed `Socket`."""
    cdef slots_t slots = new_slots()
    slots.open = greet_and_end
    slots.data = echo
    return handlers_from_slots(&slots)


def taken_as_socket(thing):
    """`cdef Socket sock = thing`."""
    cdef Socket sock = thing
    return sock
