"""state: the states of a connection.

Owns the flags of a `socket_t`, the named questions about several of them, and the rules that always hold.

Four machines run side by side in one word. A flag is never cleared unless its line says so.

  lifetime  new --open--> OPENED --close()--> CLOSING --nothing is pending--> CLOSED --libuv has closed it--> freed
                             |                                                  ^
                             +----- terminate(), a failure, a deadline ---------+        `close` called: CLOSE_EMITTED

  output    writable --end(), shutdown(), close()--> ENDED --nothing is pending--> FIN_SENT
               |                                       |
               +---------- a write fails --------------+----> BROKEN: nothing more can leave
            BLOCKED: the kernel is full; the send queue follows when it is not (cleared again)

  input     reading --the peer's FIN--> EOF
               +--shutdown(True), or close() that waits for the peer--> DISCARD: read, and dropped --its FIN--> EOF
            Not read for now, and why (each is cleared again): PAUSED, HANDLER_TASK, INPUT_DEFERRED, its receiver is full.

  tls       none, or TLS: HANDSHAKE --done (cleared)--> established --nothing more to send--> CLOSE_NOTIFY_SENT
                                                          | ^
                                                     TLS_WANT_READ: half a message of the peer's (cleared again)

Beside the machines:
  owed      an event that waits: NEED_DRAIN, TIMEOUT_DEFERRED, EOF_DELIVERED, CLOSE_DEFERRED
  waiters   somebody awaits: DRAIN_WAITERS, CLOSE_WAITERS
  lists     the loop's list that the socket is in: HANDLER_FLUSH, TURN_FLUSH, IN_DEFERRED
  kind      RECEIVER, UNREF, COUNTED, SHARED

What else decides, beside this word:
  error                     the code that `close` will get; the first one counts. With BROKEN, UV_EPROTO: TLS could not
                            encrypt, and a turn reports it (tls_resume)
  send_queue, gather        bytes that were accepted and did not leave (output_pending)
  drain_at                  the C API's writer is owed `drain`, or with BROKEN `broken` (is_drain_due, is_failure_owed)
  corks, loop.handling      a write is gathered, not sent (output_corked)
  deadlines                 linger_ms: the peer has to let us go. timeout_at: while close() lingers, the next look at
                            what the peer has acknowledged, and not the user's timeout
  context.allow_half_open   whether we go on writing after the peer's FIN
  slots.flags               SLOTS_OPEN_UNTIL_CLOSED: only a verb closes it (stays_open)
  loop.asking               `alloc` of this socket runs: nothing stops or closes it before that has returned
  context.upgraded_to       the TLS socket that takes the connection over when this one has sent its last
  context.upgraded_from     that plain socket, of a TLS socket that still waits for it; upgrade_role: it had one
  context.connector         the outgoing connection that is not open before its handshake is done
  tls_t                     undelivered, handshake_pending: the engine has an event to report. buffered: ciphertext waits
  reader_t.state            whether a SocketReader wants more
  pipe_t.target, .sources   where its bytes go instead of `data`; which sockets' bytes come to it
  loop.tasks                the async handlers that run; HANDLER_TASK says that there is one
  loop.dead                 no handler is called any more

All 32 bits are in use: see docs/state.md for what a new one needs.
Does not know what follows from a state: see verbs, closing, events.
"""
from pybuntcp._c cimport uv

cdef extern from *:
    """
    #ifdef CYTHON_WITHOUT_ASSERTIONS
    #define PBT_CHECK_STATE(fault, flags) ((void)0)
    #else
    #include <stdio.h>
    #include <stdlib.h>
    static void PBT_CHECK_STATE(const char* fault, unsigned int flags) {
        if (fault != NULL) {
            fprintf(stderr, "pybuntcp: this state cannot be: %s (flags %#010x)\\n", fault, flags);
            abort();
        }
    }
    #endif
    """
    void PBT_CHECK_STATE(const char* fault, unsigned int flags) noexcept nogil


cdef enum:
    # lifetime
    S_OPENED = 1 << 0               # `open` was called, so `close` will be: socket_opened. Cleared: the connection is upgraded
    S_CLOSING = 1 << 1              # close() was called, and the descriptor goes when nothing is pending: socket_close
    S_CLOSED = 1 << 2               # uv_close was called, and no verb does anything any more: stream_close
    S_CLOSE_EMITTED = 1 << 3        # `close` was called, or what stands for it: events_emit_close, upgrade_emit_failure

    # output
    S_ENDED = 1 << 4                # our side takes no more writes: end, shutdown, close, a TLS failure, an upgrade
    S_FIN_WAIT = 1 << 5             # end() was called, so the peer's FIN is waited for in linger_timeout: socket_end
    S_FIN_SENT = 1 << 6             # our FIN is out: closing_shutdown_write
    S_BROKEN = 1 << 7               # a write failed for good, or TLS did; the read side ends it: output_fail, tls_failed
    S_BYTES_LOST = 1 << 8           # accepted bytes never left. Cleared: only our close_notify failed (tls_send_close_notify)
    S_BLOCKED = 1 << 9              # the kernel is full, and the loop watches for when it is not. Cleared: send_queue_unwatch

    # input
    S_EOF = 1 << 10                 # the peer's FIN, or its close_notify, was seen: events_eof
    S_DISCARD = 1 << 11             # incoming bytes are read and dropped: shutdown(True), or close() waits for the peer's FIN
    S_PAUSED = 1 << 12              # not read, by its user's wish. Cleared: resume, a reader, shutdown(True), a close that waits
    S_HANDLER_TASK = 1 << 13        # an async handler runs, and no other handler starts. Cleared: the last task has ended

    # tls
    S_TLS = 1 << 14                 # it has a TLS engine: tls_attach_connection. Cleared: the engine is freed (tls_free)
    S_HANDSHAKE = 1 << 15           # its handshake goes on, and nothing of the user's is sent. Cleared: done, or failed
    S_TLS_WANT_READ = 1 << 16       # the engine encrypts nothing before it has read more: tls_want_read. Cleared: it has read
    S_INPUT_DEFERRED = 1 << 17      # ciphertext, or an event of the engine, waits for a turn; not read. Cleared: tls_resume
    S_CLOSE_NOTIFY_SENT = 1 << 18   # the engine has said that we send no more. Cleared: it could not yet, and will try again

    # owed: an event that waits
    S_NEED_DRAIN = 1 << 19          # a write was short: `drain` when nothing is pending. Cleared: called, or end, or shutdown
    S_TIMEOUT_DEFERRED = 1 << 20    # `timeout` waits for the async handler. Cleared: called, timeout() was, or close()
    S_EOF_DELIVERED = 1 << 21       # the reader's user knows the end, and `end` follows with the turn. Cleared: `end` is called
    S_CLOSE_DEFERRED = 1 << 22      # libuv has closed it, and `close` waits for the async handler: events_closed

    # waiters: somebody awaits
    S_DRAIN_WAITERS = 1 << 23       # the drain of a sink: sink_wait. Cleared: they are woken
    S_CLOSE_WAITERS = 1 << 24       # the end of the socket: wrapper_end_and_wait. Cleared: they are woken

    # lists: the loop's list that it is in
    S_HANDLER_FLUSH = 1 << 25       # loop.handler_flush: a handler has written. Cleared: the handler has returned
    S_TURN_FLUSH = 1 << 26          # loop.turn_flush: a sink has written, or somebody waits. Cleared: the turn ends
    S_IN_DEFERRED = 1 << 27         # loop.deferred_input: see S_INPUT_DEFERRED. Cleared: a turn has looked at it

    # kind
    S_RECEIVER = 1 << 28            # bytes go to a SocketReader or are piped, not to `data`: reader_of, pipe_link. Cleared: no more
    S_UNREF = 1 << 29               # it does not keep `run` going: unref. Cleared: ref
    S_COUNTED = 1 << 30             # it is among the open sockets of `stats`. Cleared: the connection is upgraded
    S_SHARED = 1U << 31             # an upgrade has both of its sockets on the connection. Cleared, of the TLS one: upgrade_begin


# ---------------------------------------------------------------------------- lifetime

cdef inline bint is_closing(socket_t* s) noexcept nogil:
    """Its user is done with it, or it is gone."""
    return s.flags & (S_CLOSING | S_CLOSED) != 0


cdef inline bint may_open(socket_t* s) noexcept nogil:
    """`open` was not called, and still may be."""
    return s.flags & (S_OPENED | S_CLOSING) == 0


cdef inline bint may_emit_close(socket_t* s) noexcept nogil:
    return s.flags & (S_OPENED | S_CLOSE_EMITTED | S_HANDLER_TASK) == S_OPENED


cdef inline bint may_emit_abandoned(socket_t* s) noexcept nogil:
    """`close` is owed, and the loop ends before."""
    return s.flags & (S_OPENED | S_CLOSE_EMITTED) == S_OPENED


cdef inline bint may_emit_error(socket_t* s) noexcept nogil:
    return s.flags & (S_OPENED | S_CLOSING) == S_OPENED


cdef inline bint may_emit_end(socket_t* s) noexcept nogil:
    return s.flags & (S_HANDLER_TASK | S_CLOSED | S_CLOSING | S_DISCARD) == 0


cdef inline bint may_emit_handshake(socket_t* s) noexcept nogil:
    return s.flags & (S_HANDLER_TASK | S_CLOSING) == 0


cdef inline bint may_emit_timeout(socket_t* s) noexcept nogil:
    """`timeout` waited for an async handler, and waits no longer."""
    return s.flags & (S_TIMEOUT_DEFERRED | S_HANDLER_TASK | S_CLOSED) == S_TIMEOUT_DEFERRED


cdef inline bint is_unreported(socket_t* s) noexcept nogil:
    """Neither `open` nor `close` was called: its user knows nothing of it."""
    return s.flags & (S_OPENED | S_CLOSE_EMITTED) == 0


# ---------------------------------------------------------------------------- output

cdef inline bint may_write(socket_t* s) noexcept nogil:
    """Its user may write."""
    return s.flags & (S_ENDED | S_BROKEN | S_CLOSED) == 0


cdef inline bint may_send(socket_t* s) noexcept nogil:
    """What was accepted may still leave."""
    return s.flags & (S_BROKEN | S_CLOSED) == 0


cdef inline bint may_send_fin(socket_t* s) noexcept nogil:
    return s.flags & (S_FIN_SENT | S_CLOSED) == 0


cdef inline bint may_send_close_notify(socket_t* s) noexcept nogil:
    return s.flags & (S_CLOSE_NOTIFY_SENT | S_BROKEN | S_CLOSED) == 0


cdef inline unsigned int ending_verbs(socket_t* s) noexcept nogil:
    """Which of end() and close() were called, as flags."""
    return s.flags & (S_FIN_WAIT | S_CLOSING)


cdef inline bint is_ending(socket_t* s) noexcept nogil:
    """end() or close() was called, and the linger time guards what follows."""
    return ending_verbs(s) != 0


cdef inline bint is_finishing(socket_t* s) noexcept nogil:
    """Our side has ended: what is pending goes out, and then FIN."""
    return s.flags & (S_ENDED | S_CLOSED) == S_ENDED


cdef inline bint is_awaiting_acks(socket_t* s) noexcept nogil:
    """Our side has ended, and what the peer acknowledges counts as progress (see deadlines)."""
    return s.flags & (S_ENDED | S_BROKEN) == S_ENDED


cdef inline bint is_close_lingering(socket_t* s) noexcept nogil:
    """close() has sent FIN, and waits until the peer has everything, or ends."""
    return s.flags & (S_CLOSING | S_DISCARD) == S_CLOSING | S_DISCARD


cdef inline bint has_drain_waiters(socket_t* s) noexcept nogil:
    return s.flags & (S_DRAIN_WAITERS | S_CLOSED) == S_DRAIN_WAITERS


cdef inline bint needs_turn_end(socket_t* s) noexcept nogil:
    """Somebody waits for something that the end of a turn reports."""
    return s.flags & (S_DRAIN_WAITERS | S_EOF_DELIVERED) != 0 or is_drain_due(s) or is_failure_owed(s)


cdef inline bint is_drain_due(socket_t* s) noexcept nogil:
    """The drain that socket_want_drain asked for."""
    return (
        s.drain_at != 0
        and s.flags & (S_BROKEN | S_CLOSING | S_CLOSED | S_HANDLER_TASK) == 0
        and output_unsent(s) < s.drain_at
    )


cdef inline bint is_failure_owed(socket_t* s) noexcept nogil:
    """A write has failed, and `broken` was not called yet."""
    return s.drain_at != 0 and s.flags & (S_BROKEN | S_CLOSING | S_CLOSED | S_HANDLER_TASK) == S_BROKEN


cdef inline bint stays_open(socket_t* s) noexcept nogil:
    """Only a verb closes it, even when both sides have ended."""
    return context_of(s).table.slots.flags & SLOTS_OPEN_UNTIL_CLOSED != 0


# ---------------------------------------------------------------------------- input

cdef inline bint wants_input(socket_t* s) noexcept nogil:
    """There is something to read, and its user has not paused it."""
    return s.flags & (S_PAUSED | S_EOF | S_CLOSED) == 0


cdef inline bint wants_data(socket_t* s) noexcept nogil:
    """Bytes that were read already may be given to its user."""
    return s.flags & (S_OPENED | S_PAUSED | S_EOF | S_CLOSING | S_CLOSED) == S_OPENED


cdef inline bint is_input_over(socket_t* s) noexcept nogil:
    """Its user gets no more bytes, whatever arrives."""
    return s.flags & (S_EOF | S_DISCARD | S_CLOSING | S_CLOSED) != 0


cdef inline bint receives_directly(socket_t* s) noexcept nogil:
    """What is read goes to `data` as it is."""
    return s.flags & (S_DISCARD | S_RECEIVER | S_TLS) == 0


cdef inline bint reads_into_user_memory(socket_t* s) noexcept nogil:
    """What is read goes to memory of its user's."""
    return context_of(s).table.slots.alloc != NULL and receives_directly(s)


cdef inline bint takes_no_memory(socket_t* s) noexcept nogil:
    """`alloc` itself has closed it, or begun with TLS."""
    return s.flags & (S_CLOSED | S_TLS) != 0


cdef inline bint is_read_for_handlers(socket_t* s) noexcept nogil:
    """Bytes go to handlers, so an async handler that runs stops the reading."""
    return s.flags & (S_DISCARD | S_RECEIVER | S_CLOSED) == 0


cdef inline bint is_piped(socket_t* s) noexcept nogil:
    """Its bytes go to another socket."""
    return s.pipe != NULL and s.pipe.target != NULL


cdef inline bint is_piped_into(socket_t* s) noexcept nogil:
    """Another socket's bytes come to it."""
    return s.pipe != NULL and s.pipe.sources != NULL


cdef inline bint is_left_unread(socket_t* s) noexcept nogil:
    """The peer's end may never be seen: that depends on a user who may have left."""
    if is_piped(s):
        return s.flags & S_PAUSED != 0
    return s.flags & (S_RECEIVER | S_PAUSED | S_HANDLER_TASK) != 0


# ---------------------------------------------------------------------------- tls

cdef inline bint is_tls_blocked(socket_t* s) noexcept nogil:
    """TLS sends nothing of the user's before it has read more. So it is read, whatever its user does."""
    return s.flags & (S_HANDSHAKE | S_TLS_WANT_READ) != 0


cdef inline bint is_read_for_tls(socket_t* s) noexcept nogil:
    """The engine decides whether it is read, and not its user."""
    return s.flags & (S_HANDSHAKE | S_INPUT_DEFERRED | S_TLS_WANT_READ) != 0


cdef inline bint is_fin_for_tls(socket_t* s) noexcept nogil:
    """The engine knows whether the peer's FIN is an end or a truncation."""
    return s.flags & (S_TLS | S_DISCARD | S_BROKEN) == S_TLS


# ---------------------------------------------------------------------------- what always holds

cdef inline void state_check(socket_t* s) noexcept nogil:
    """After each event: abort if a rule is broken. In the release build this is nothing."""
    PBT_CHECK_STATE(state_fault(s), s.flags)


cdef const char* state_fault(socket_t* s) noexcept nogil:
    """The rule that does not hold; NULL: the state is sound."""
    cdef const char* fault = state_fault_of_lifetime(s)
    if fault == NULL:
        fault = state_fault_of_output(s)
    if fault == NULL:
        fault = state_fault_of_input(s)
    if fault == NULL:
        fault = state_fault_of_objects(s)
    return fault


cdef inline bint state_breaks(socket_t* s, unsigned int flags, unsigned int needed) noexcept nogil:
    """One of `flags` is set, and none of those that it needs."""
    return s.flags & flags != 0 and s.flags & needed == 0


cdef const char* state_fault_of_lifetime(socket_t* s) noexcept nogil:
    if state_breaks(s, S_CLOSING | S_CLOSED, S_ENDED):
        return "closing, and not S_ENDED"
    if state_breaks(s, S_CLOSE_DEFERRED | S_CLOSE_EMITTED, S_CLOSED):
        return "`close` was called, or waits, and not S_CLOSED"
    if state_breaks(s, S_OPENED, S_COUNTED):
        return "S_OPENED, and not S_COUNTED"
    if context_of(s).upgraded_to != NULL and (s.flags & S_OPENED or not s.flags & S_ENDED):
        return "upgraded, and not retired: S_OPENED, or not S_ENDED"
    return NULL


cdef const char* state_fault_of_output(socket_t* s) noexcept nogil:
    if state_breaks(s, S_FIN_WAIT | S_FIN_SENT, S_ENDED):
        return "a FIN of ours, and not S_ENDED"
    if state_breaks(s, S_BYTES_LOST, S_BROKEN | S_CLOSED):
        return "S_BYTES_LOST, and neither S_BROKEN nor S_CLOSED"
    if s.flags & S_BROKEN and s.error == 0 and not (s.flags & S_EOF and s.flags & S_CLOSE_NOTIFY_SENT):
        return "S_BROKEN, and no error"
    if s.send_queue != NULL and not s.flags & S_BLOCKED:
        return "a send queue, and not S_BLOCKED"
    if s.flags & S_CLOSED and s.flags & S_BLOCKED:
        return "S_CLOSED, and S_BLOCKED"
    return NULL


cdef const char* state_fault_of_input(socket_t* s) noexcept nogil:
    if state_breaks(s, S_EOF_DELIVERED, S_EOF):
        return "S_EOF_DELIVERED, and not S_EOF"
    if s.flags & S_EOF and uv.uv_is_active(<uv.uv_handle_t*>s):
        return "S_EOF, and it is read"
    if s.flags & S_HANDSHAKE and s.flags & (S_TLS_WANT_READ | S_CLOSE_NOTIFY_SENT):
        return "S_HANDSHAKE, and something was encrypted"
    if state_breaks(s, S_TLS_WANT_READ | S_CLOSE_NOTIFY_SENT | S_INPUT_DEFERRED, S_TLS | S_CLOSED):
        return "the engine's flags, and not S_TLS"
    return NULL


cdef const char* state_fault_of_objects(socket_t* s) noexcept nogil:
    if s.flags & (S_DRAIN_WAITERS | S_CLOSE_WAITERS) and s.wrapper == NULL:
        return "somebody who waits, and no Socket"
    if s.flags & S_RECEIVER and s.wrapper == NULL and not is_piped(s):
        return "a reader, and no Socket"
    if is_piped(s) and not s.flags & S_RECEIVER:
        return "piped, and not S_RECEIVER"
    if s.flags & S_CLOSED and (is_piped(s) or is_piped_into(s)):
        return "S_CLOSED, and piped or piped into"
    if s.flags & S_HANDLER_TASK and s.wrapper == NULL and not loop_of(s).dead:
        return "S_HANDLER_TASK, and no Socket"
    if s.flags & S_TIMEOUT_DEFERRED and s.deadlines == NULL:
        return "S_TIMEOUT_DEFERRED, and no deadlines"
    return NULL
