# cython: language_level=3, cdivision=True
"""The world: bodies in one array of structs, without gaps, that is walked once a tick.

Owns how they move and how a state is made of them. Who leaves is replaced by the last one: a place is
good until somebody leaves, an id for ever. Everything is C: nothing here needs the GIL or allocates.
"""
from libc.stdint cimport uint32_t
from libc.string cimport memcpy, memset

from cython_game.protocol cimport ARENA, MOST_PLAYERS, entry_t, state_t

cdef float FORCE = 400          # what a full push adds to the speed in a second
cdef float FRICTION = 1.5       # the part of the speed that is lost in a second


cdef bint world_is_full(world_t* world) noexcept nogil:
    return world.count == MOST_PLAYERS


cdef uint32_t world_join(world_t* world) noexcept nogil:
    """A new body at rest, somewhere; the world must not be full."""
    cdef uint32_t place = world.count
    cdef body_t* body = &world.bodies[place]
    world.count += 1
    world.last_id += 1
    memset(body, 0, sizeof(body_t))
    body.id = world.last_id
    body.x = body.id * 7919 % ARENA
    body.y = body.id * 104729 % ARENA
    return place


cdef void world_leave(world_t* world, uint32_t place) noexcept nogil:
    world.count -= 1
    world.bodies[place] = world.bodies[world.count]


cdef void world_step(world_t* world, float seconds) noexcept nogil:
    """Everybody moves for so long."""
    cdef body_t* body
    cdef float kept = 1 - FRICTION * seconds if FRICTION * seconds < 1 else 0
    cdef uint32_t i
    for i in range(world.count):
        body = &world.bodies[i]
        body.speed_x = (body.speed_x + body.push_x * FORCE * seconds) * kept
        body.speed_y = (body.speed_y + body.push_y * FORCE * seconds) * kept
        move(&body.x, &body.speed_x, seconds)
        move(&body.y, &body.speed_y, seconds)


cdef inline void move(float* at, float* speed, float seconds) noexcept nogil:
    """Along one axis; at a wall it stops there and turns round."""
    at[0] += speed[0] * seconds
    if at[0] < 0 or at[0] > ARENA:
        at[0] = 0 if at[0] < 0 else ARENA
        speed[0] = -speed[0]


cdef size_t world_describe(world_t* world, uint32_t tick, state_t* state) noexcept nogil:
    cdef entry_t* entry
    cdef uint32_t i
    for i in range(world.count):
        entry = &state.entries[i]
        entry.id = world.bodies[i].id
        entry.x = world.bodies[i].x
        entry.y = world.bodies[i].y
    state.tick = tick
    state.count = world.count
    state.sum = state_sum(state)
    return state_size(world.count)


cdef uint32_t state_sum(const state_t* state) noexcept nogil:
    cdef uint32_t words[3]
    cdef uint32_t sum = state.tick
    cdef uint32_t i
    for i in range(state.count):
        memcpy(words, &state.entries[i], sizeof(entry_t))
        sum = sum * 31 + (words[0] ^ words[1] ^ words[2])
    return sum


cdef size_t state_size(uint32_t count) noexcept nogil:
    return sizeof(state_t) - (MOST_PLAYERS - count) * sizeof(entry_t)
