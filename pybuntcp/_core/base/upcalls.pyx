"""upcalls: the one table through which a lower layer calls a higher one.

The problem: a loop must call its connections when a turn ends, and a connection must call its SocketReader, its
listener or its connector when something happens; but a layer may not use names of the layers above it.
The rule: the higher layer puts a function into this table, once, when the module is imported (see module), and the
lower layer calls it from the table. Nothing else points upward except the slots of a user's handlers.

Owns `upcalls`, and the names of those structs of which a lower layer only stores or passes on pointers. Where an entry
says "with the GIL", its caller has taken the GIL.
"""
cdef struct loop_t
cdef struct context_t
cdef struct connector_t
cdef struct listener_t


cdef struct upcalls_t:
    # from the loop
    void (*handler_returned)(loop_t*) noexcept nogil                # flush what the handler wrote
    void (*turn_begins)(loop_t*) noexcept nogil                     # a turn begins that loop_request_turn asked for
    void (*turn_ends)(loop_t*) noexcept nogil                       # flush what sinks coalesced
    void (*turn_flushes)(loop_t*) noexcept nogil                    # the same, and no handler is called
    void (*writable)(loop_t*) noexcept nogil                        # a blocked socket can be written to again
    void (*deferred_input)(loop_t*) noexcept nogil                  # a turn's callbacks have run, and TLS input waits
    void (*tell_abandoned)(loop_t*) noexcept                        # with the GIL: the loop is going to die: call `abandoned`
    void (*abandon_handle)(void*) noexcept nogil                    # the loop dies: close this uv_handle_t
    void (*abandon_rest)(loop_t*) noexcept nogil                    # the loop dies: end what has no libuv handle
    void (*list_unclosed)(loop_t*, list) noexcept                   # with the GIL: append all that is still open

    # from a connection: its Python objects
    void (*wrapper_closing)(socket_t*) noexcept nogil               # the descriptor is about to be closed
    void (*wrapper_closed)(socket_t*) noexcept nogil                # wake the coroutines that wait for the close
    void (*wrapper_detach)(socket_t*) noexcept nogil                # with the GIL: the connection is gone
    void (*drained)(socket_t*) noexcept nogil                       # nothing is pending, or ever will be: wake waiters
    bint (*tls_make_connection)(socket_t*, bint) noexcept nogil     # with the GIL; False: it failed, and was reported
    void (*tls_emit_error)(socket_t*) noexcept nogil                # with the GIL: call the `error` handler
    void (*tls_note_timeout)(socket_t*) noexcept nogil              # with the GIL: the error names `handshake_timeout`

    # from a connection: its SocketReader, if it has S_RECEIVER
    void (*reader_resume)(socket_t*) noexcept nogil                 # read again, if the reader has space
    size_t (*reader_capacity)(socket_t*) noexcept nogil             # bytes that the reader takes now
    void (*reader_received)(socket_t*, const char*, size_t) noexcept nogil
    void (*reader_ended)(socket_t*) noexcept nogil                  # the peer's FIN arrived
    void (*reader_stop)(socket_t*) noexcept nogil                   # our side wants no more input
    void (*reader_closed)(socket_t*) noexcept nogil
    bint (*reader_waits)(socket_t*) noexcept nogil                  # does a read wait for bytes?
    void (*reader_hand_over)(socket_t*) noexcept nogil              # it is piped: write what the reader holds to the target

    # from a connection: the other socket of an upgrade
    void (*upgrade_raw_flushed)(socket_t*) noexcept nogil
    void (*upgrade_raw_lost)(socket_t*) noexcept nogil
    void (*upgrade_tls_closed)(socket_t*) noexcept nogil
    void (*upgrade_emit_failure)(socket_t*) noexcept nogil

    # from a connection: the listener or connector that made it
    void (*listener_socket_closed)(listener_t*) noexcept nogil
    void (*connector_handshake_done)(connector_t*) noexcept nogil
    void (*connector_socket_closed)(connector_t*, socket_t*) noexcept nogil
    void (*connector_note_failure)(connector_t*, object) noexcept   # with the GIL


cdef upcalls_t upcalls
