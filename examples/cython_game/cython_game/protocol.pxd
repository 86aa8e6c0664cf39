# cython: language_level=3
"""What goes over the wire, in both directions: structs, in the byte order of the machine.

A player sends inputs of a fixed size. At every tick it gets one message: a header of its own, then
the state, the same bytes for everybody. Both are cut anywhere on their way. Contains no logic.
"""
from libc.stdint cimport int16_t, uint32_t

cdef enum:
    MOST_PLAYERS = 4096         # a message to so many is below 64 KiB, what a socket holds unsent unless set otherwise
    ARENA = 1000                # its sides; 0 <= x, y <= ARENA

cdef struct input_t:
    uint32_t number             # 1, 2, 3 ... of this player
    int16_t push_x              # where it wants to go; 32767: with full force
    int16_t push_y

cdef struct header_t:
    uint32_t size               # bytes of the state that follows
    uint32_t you                # your id
    uint32_t heard              # the number of your last input that is in the state

cdef struct entry_t:
    uint32_t id
    float x
    float y

cdef struct state_t:
    uint32_t tick               # 1, 2, 3 ...
    uint32_t count              # of entries
    uint32_t sum                # of all of that, to show that no byte was lost or mixed up
    entry_t entries[MOST_PLAYERS]      # `count` are sent
