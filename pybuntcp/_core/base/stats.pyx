"""stats: the counters of one loop, always on.

Owns `stats_t`. Gauges go up and down and are zero when nothing is open; counters only grow.
Promises one plain addition an event, by the loop's thread, and that any thread may read: both are relaxed atomics, which are
plain moves. `stats()` returns a snapshot (see module).
"""
from libc.stdint cimport int64_t, uint64_t

cdef extern from * nogil:
    """
    /* Only the loop's thread writes. */
    static inline void pbt_stats_add(uint64_t* counter, int64_t more) {
        __atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + (uint64_t)more, __ATOMIC_RELAXED);
    }
    static inline uint64_t pbt_stats_read(const uint64_t* counter) { return __atomic_load_n(counter, __ATOMIC_RELAXED); }
    """
    void stats_add "pbt_stats_add"(uint64_t* counter, int64_t more)
    uint64_t stats_read "pbt_stats_read"(const uint64_t* counter)


cdef struct stats_t:
    # gauges
    uint64_t open_sockets
    uint64_t open_listeners
    uint64_t connecting
    uint64_t armed_timers
    uint64_t pipes
    # counters
    uint64_t accepted
    uint64_t connected
    uint64_t closed
    uint64_t bytes_read
    uint64_t bytes_written
    uint64_t bytes_piped
    uint64_t reads
    uint64_t writes
    uint64_t short_writes
    uint64_t short_writes_unnoticed
    uint64_t drains
    uint64_t turns
    uint64_t gil_takes
    uint64_t accept_errors
    uint64_t handshakes
    uint64_t handshake_failures
    uint64_t handler_errors


cdef stats_t stats_of(const stats_t* self) noexcept nogil:
    """The counters as they are one by one at this moment, in any thread."""
    cdef stats_t found
    cdef size_t each
    for each in range(sizeof(stats_t) // sizeof(uint64_t)):     # nothing else is in it
        (<uint64_t*>&found)[each] = stats_read(&(<const uint64_t*>self)[each])
    return found
