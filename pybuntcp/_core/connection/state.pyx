"""state: what a connection is in, in one word."""


cdef enum:
    S_BLOCKED = 1                       # the kernel takes no more for now: in the loop's watch, see send_queue
    S_OPENED = 2                        # `open` was told, so `close` will be
    S_ENDED = 4                         # our side takes no more writes
    S_FIN_SENT = 8
    S_EOF = 16                          # the peer's FIN was seen
    S_DISCARD = 32                      # shutdown(True): what comes is thrown away
    S_PAUSED = 64
    S_CLOSING = 128                     # close when what is pending has gone out
    S_CLOSED = 256                      # uv_close was called
    S_BROKEN = 512                      # a write failed for good; the read side has the last word
    S_NEED_DRAIN = 1024                 # a write was short: a drain is owed
    S_HANDLER_FLUSH = 2048              # in the loop's list of gathered output
    S_UNREF = 4096
    S_SHARED = 8192                     # another socket of ours is on the same connection; see starttls
    S_FIN_WAIT = 16384                  # end() was called: the peer's FIN is waited for, by the clock
    S_TURN_FLUSH = 32768                # in the loop's list of coalesced output
    S_DRAIN_WAITERS = 65536             # somebody waits for a sink's drain
    S_BYTES_LOST = 131072               # bytes that were accepted never reached the kernel
    S_HANDLER_TASK = 262144             # an async handler runs: nothing is read, no other handler starts
    S_TIMEOUT_DEFERRED = 524288         # ... `timeout` waits for it
    S_CLOSE_DEFERRED = 1048576          # ... and so does `close`: libuv has let go of it already
    S_CLOSE_EMITTED = 2097152           # `close` was told
    S_READER = 4194304                  # what comes is for a SocketReader
    S_EOF_DELIVERED = 8388608           # ... which has given its user the end
    S_CLOSE_WAITERS = 16777216          # somebody waits for its end
    S_COUNTED = 33554432                # among the open sockets
    S_TLS = 67108864                    # what is sent is sealed, and what comes is opened: see tls_output, tls_input
    S_HANDSHAKE = 134217728             # ... and its handshake is not done: nothing of the user's is sent
    S_INPUT_DEFERRED = 268435456        # ... something came, or is to be told, that has to wait: not read
    S_IN_DEFERRED = 536870912           # ... and it is in the loop's list for that
    S_CLOSE_NOTIFY_SENT = 1073741824    # ... and the peer was told that nothing more comes
    S_TLS_WANT_READ = 2147483648        # ... and the engine seals nothing until more has come: see tls_output
