"""stats: the counters of one loop, always on.

Owns `stats_t`. Gauges go up and down and are zero when nothing is open; counters only grow.
Promises one plain addition an event. `stats()` returns a snapshot (see module).
"""
from libc.stdint cimport uint64_t


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
