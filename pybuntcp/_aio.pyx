# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: cdivision=True, embedsignature=True, embedsignature.format=clinic, binding=True, always_allow_keywords=True
# cython: freethreading_compatible=True
"""_aio: asyncio's transports on pybuntcp's sockets. This page is its table of contents.

It uses what any other Cython package can use: it cimports `pybuntcp`, and no part of `_core`. A connection is a `socket_t`
of the C API; behind it lies a pointer to a `Stream`, which has the protocol and everything else that asyncio wants to know.

    event of the core     slot             what it does                                                       see
    connection accepted   on_open          makes protocol and transport, calls `connection_made`              serving
    TLS is agreed         on_handshake     `connection_made`; who waits for it goes on                        handshake
    memory wanted         on_alloc         `get_buffer` of a BufferedProtocol                                 reading
    bytes                 on_data          `data_received`, `buffer_updated`                                  reading
    the peer's FIN        on_end           `eof_received`; closes, unless that wants it open                  reading
    few bytes pending     on_drain         `resume_writing`; a close that waited goes on                      writing
    a write failed        on_broken        `connection_lost` follows, with the error                          ending
    a deadline            on_timeout       over TLS: the peer has not ended in time after close()             secured_ending
    closed by the core    on_close         the same: a reset, or a deadline                                   ending
    the loop is no more   on_abandoned     lets go of it, with a ResourceWarning                              ending

Where asyncio's documentation leaves something open, its selector loop's code of the same Python version was followed.
"""
include "_aio/seam.pyx"         # names of the C API, of CPython and of asyncio
include "_aio/peer.pyx"         # the address of a peer
include "_aio/host.pyx"         # what the connections of one event loop share
include "_aio/secured.pyx"      # the options of TLS, and what a connection with it has besides
include "_aio/stream.pyx"       # Stream: one connection
include "_aio/reading.pyx"      # what comes in
include "_aio/writing.pyx"      # what goes out
include "_aio/ending.pyx"       # how it ends
include "_aio/handshake.pyx"    # how it becomes one with TLS
include "_aio/secured_reading.pyx"  # what comes in then
include "_aio/secured_ending.pyx"   # how it ends then
include "_aio/extra_info.pyx"   # get_extra_info
include "_aio/transport.pyx"    # SocketTransport, which protocols see
include "_aio/serving.pyx"      # connections that a listener accepts
include "_aio/ready.pyx"        # the queue of callbacks
include "_aio/handles.pyx"      # asyncio's handles, made and called from C
include "_aio/timers.pyx"       # the heap of those that wait for their time
include "_aio/scheduling.pyx"   # Scheduler: call_soon, call_later and the like
include "_aio/turn.pyx"         # a turn of the event loop
