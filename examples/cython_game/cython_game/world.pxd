# cython: language_level=3
"""The world: bodies that are pushed, move and bounce. Knows no socket."""
from libc.stdint cimport uint32_t

from cython_game.protocol cimport MOST_PLAYERS, state_t

cdef struct body_t:
    uint32_t id
    float x, y                  # in the arena
    float speed_x, speed_y      # a second
    float push_x, push_y        # -1 to 1

cdef struct world_t:
    body_t bodies[MOST_PLAYERS]         # without gaps
    uint32_t count
    uint32_t last_id

cdef bint world_is_full(world_t* world) noexcept nogil
cdef uint32_t world_join(world_t* world) noexcept nogil                             # its place among the bodies
cdef void world_leave(world_t* world, uint32_t place) noexcept nogil                # the last body moves there
cdef void world_step(world_t* world, float seconds) noexcept nogil
cdef size_t world_describe(world_t* world, uint32_t tick, state_t* state) noexcept nogil     # the bytes to send
cdef uint32_t state_sum(const state_t* state) noexcept nogil
cdef size_t state_size(uint32_t count) noexcept nogil
