# cython: language_level=3
"""The players: many connections that push, and check what they are told.

Each answers every state with an input, and changes its direction now and then. Owns what is wrong with a
state: a size or a sum that do not fit, a tick that does not follow the last one, an input heard that was
never sent, itself missing or outside of the arena. Does not know how the server works.
"""
from libc.stdint cimport int16_t, int64_t, uint32_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memmove

from pybuntcp cimport (
    handlers_from_slots, new_slots, slots_t, socket_ext, socket_t, socket_terminate, socket_user, socket_write,
)

from cython_game.protocol cimport ARENA, entry_t, header_t, input_t, state_t
from cython_game.world cimport state_size, state_sum

cdef uint32_t STRIDE = 20       # inputs in one direction


cdef struct guest_t:            # behind every socket, zeroed when it is born
    char* bytes                 # owned: the beginning of a message
    size_t held
    size_t room
    uint32_t tick               # the last one
    uint32_t gaps               # ticks missed before it
    uint32_t heard
    uint32_t wrong
    bint moved
    entry_t at                  # where it was last
    input_t input               # its last one
    uint32_t dice

cdef struct crowd_t:            # all of them, added up as they close
    int64_t closed
    int64_t complete            # had every tick up to their last one, and nothing was wrong
    uint32_t up_to              # the lowest last tick of all
    int64_t moved
    int64_t states
    int64_t gaps
    int64_t wrong
    int64_t inputs
    int64_t failed              # did not connect, or did not end in order
    int why                     # an errno of theirs


# --- slots

cdef void on_data(socket_t* s, const char* at, size_t size) noexcept nogil:
    cdef guest_t* guest = <guest_t*>socket_ext(s)
    cdef size_t used
    if guest.held != 0:
        if not keep(guest, guest.held, at, size):
            socket_terminate(s)
            return
        at, size = guest.bytes, guest.held
    used = read_messages(s, guest, at, size)
    if not keep(guest, 0, at + used, size - used):
        socket_terminate(s)


cdef void on_close(socket_t* s, int error) noexcept nogil:
    cdef crowd_t* crowd = <crowd_t*>socket_user(s)
    cdef guest_t* guest = <guest_t*>socket_ext(s)
    if error != 0:
        crowd.failed += 1
        crowd.why = error
    crowd.wrong += guest.wrong + (guest.held != 0)
    crowd.gaps += guest.gaps
    crowd.complete += guest.tick != 0 and guest.gaps == 0 and guest.wrong == 0
    crowd.moved += guest.moved
    crowd.states += guest.tick - guest.gaps
    crowd.inputs += guest.input.number
    if crowd.closed == 0 or guest.tick < crowd.up_to:
        crowd.up_to = guest.tick
    crowd.closed += 1
    free(guest.bytes)


cdef void on_connect_error(socket_t* s, int error) noexcept nogil:
    cdef crowd_t* crowd = <crowd_t*>socket_user(s)
    crowd.failed += 1
    crowd.why = error


# --- messages

cdef bint keep(guest_t* guest, size_t offset, const char* at, size_t size) noexcept nogil:
    """Put these bytes, which may be its own, at `offset`, and forget what is behind them. False: no memory."""
    cdef char* grown
    if offset + size > guest.room:
        grown = <char*>realloc(guest.bytes, offset + size)
        if grown == NULL:
            return False
        guest.bytes = grown
        guest.room = offset + size
    if size != 0:
        memmove(guest.bytes + offset, at, size)
    guest.held = offset + size
    return True


cdef size_t read_messages(socket_t* s, guest_t* guest, const char* at, size_t size) noexcept nogil:
    """Every message that is complete; how many bytes that were."""
    cdef header_t header
    cdef size_t used = 0
    while size - used >= sizeof(header):
        memcpy(&header, at + used, sizeof(header))
        if header.size > sizeof(state_t):
            guest.wrong += 1
            socket_terminate(s)
            return size
        if size - used < sizeof(header) + header.size:
            break
        used += sizeof(header)
        check(guest, &header, <const state_t*>(at + used))      # aligned: all lengths are multiples of 4
        used += header.size
        push(s, guest)
    return used


cdef void check(guest_t* guest, const header_t* header, const state_t* state) noexcept nogil:
    cdef entry_t me
    if header.size < state_size(0) or header.size != state_size(state.count) or state.sum != state_sum(state):
        guest.wrong += 1
        return
    if state.tick <= guest.tick or header.heard > guest.input.number or header.heard < guest.heard:
        guest.wrong += 1
        return
    guest.gaps += state.tick - guest.tick - 1
    guest.tick = state.tick
    guest.heard = header.heard
    if not find(header.you, state, &me) or not (0 <= me.x <= ARENA and 0 <= me.y <= ARENA):
        guest.wrong += 1
        return
    guest.moved |= guest.at.id == me.id and (guest.at.x != me.x or guest.at.y != me.y)
    guest.at = me


cdef bint find(uint32_t id, const state_t* state, entry_t* found) noexcept nogil:
    cdef uint32_t i
    for i in range(state.count):
        if state.entries[i].id == id:
            found[0] = state.entries[i]
            return True
    return False


cdef void push(socket_t* s, guest_t* guest) noexcept nogil:
    """Answer with an input. A server that lets thousands of them wait is broken."""
    if guest.input.number % STRIDE == 0:
        guest.dice = (guest.dice if guest.dice != 0 else guest.at.id) * 1664525 + 1013904223
        guest.input.push_x = <int16_t>(guest.dice >> 16)
        guest.input.push_y = <int16_t>(guest.dice >> 8)
    guest.input.number += 1
    if socket_write(s, <char*>&guest.input, sizeof(input_t)) != sizeof(input_t):
        socket_terminate(s)


# --- from Python

cdef class Players:
    """The handlers of all players, and what they saw. It must live as long as they do."""
    cdef crowd_t crowd

    def handlers(self):
        """For `pybuntcp.connect`, once for each player."""
        cdef slots_t slots = new_slots()
        slots.user = &self.crowd
        slots.ext_size = sizeof(guest_t)
        slots.data = on_data
        slots.close = on_close
        slots.connect_error = on_connect_error
        return handlers_from_slots(&slots)

    def report(self):
        """What all that have closed saw, as numbers."""
        return self.crowd
