# cython: language_level=3
"""The handlers of the peer `pybuntcp-slots`: what pybuntcp_handler.py does in Python, as C functions.

They ignore what `socket_write` returns for the reason that is given there. Owns nothing of a connection.
"""
from pybuntcp cimport handlers_from_slots, new_slots, slots_t, socket_t, socket_write

cdef enum:
    PIECE = 20


cdef void echo(socket_t* s, const char* at, size_t size) noexcept nogil:
    socket_write(s, at, size)


cdef void five(socket_t* s, const char* at, size_t size) noexcept nogil:
    cdef size_t sent = 0
    while sent < size:
        socket_write(s, at + sent, min(<size_t>PIECE, size - sent))
        sent += PIECE


def handlers(bint in_pieces):
    cdef slots_t slots = new_slots()
    slots.data = five if in_pieces else echo
    return handlers_from_slots(&slots)
