# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: cdivision=True, embedsignature=True, embedsignature.format=clinic, binding=False, always_allow_keywords=True
# cython: freethreading_compatible=True
"""_core: the one module that touches libuv. This page is its table of contents.

The folders are the layers. A file uses its own folder and those above it on this page. What points the other way goes
through a table: `upcalls` (see base/upcalls), or the slots of a user's handlers (see connection/slots).
"""
# base: no socket, no loop
include "_core/base/errors.pyx"             # libuv's codes to exceptions
include "_core/base/reports.pyx"            # exceptions that nobody can catch
include "_core/base/buffers.pyx"            # bytes in and out of Python; the memory that is read into
include "_core/base/chunk.pyx"              # a growable buffer
include "_core/base/address.pyx"            # socket names
include "_core/base/unix_files.pyx"         # unix socket files, and their removal
include "_core/base/descriptors.pyx"        # which descriptors are ours; what a fork does to them
include "_core/base/stats.pyx"              # counters
include "_core/base/upcalls.pyx"            # the table by which a lower layer calls a higher one

# loop: one libuv loop, and who turns it
include "_core/loop/timers.pyx"             # one timing wheel for all deadlines
include "_core/loop/calls.pyx"              # what users have called later, in the order of its time
include "_core/loop/lookups.pyx"            # the threads that ask the system's resolver
include "_core/loop/posts.pyx"              # calls into a loop from any thread
include "_core/loop/loop.pyx"               # the loop's memory and handles
include "_core/loop/gil.pyx"                # when its thread holds the GIL
include "_core/loop/turn.pyx"               # one turn of it
include "_core/loop/slabs.pyx"              # what it reads into, and how much at once
include "_core/loop/signals.pyx"            # Ctrl-C, while it waits
include "_core/loop/host.pyx"               # the asyncio loop that turns it, and what is asked of that
include "_core/loop/failures.pyx"           # exceptions that nobody catches, in a loop
include "_core/loop/selector.pyx"           # what a native asyncio loop selects with
include "_core/loop/native.pyx"             # native asyncio loops
include "_core/loop/embed.pyx"              # being turned by any other asyncio loop
include "_core/loop/nested.pyx"             # an asyncio loop that is run inside a handler
include "_core/loop/awaiting.pyx"           # coroutines that wait for something of a loop
include "_core/loop/current.pyx"            # the loops of a thread
include "_core/loop/loop_api.pyx"           # what C code has a loop call
include "_core/loop/closing.pyx"            # how a loop ends
include "_core/loop/after_fork.pyx"         # loops that a forked child inherits

# connection: one connection in C, without Python objects
include "_core/connection/state.pyx"        # the states of a connection
include "_core/connection/stream.pyx"       # open, read, close; where a socket is freed
include "_core/connection/slots.pyx"        # the table of handlers, and the options that go with it
include "_core/connection/output.pyx"       # write, gather, drain
include "_core/connection/unbounded.pyx"    # writes that are never refused
include "_core/connection/send_queue.pyx"   # what the kernel did not take at once
include "_core/connection/deadlines.pyx"    # timeout, idle, linger
include "_core/connection/tls_output.pyx"   # what goes out, encrypted
include "_core/connection/tls_input.pyx"    # what comes in, decrypted; handshakes
include "_core/connection/tls_scheduling.pyx"   # what TLS gets of a turn
include "_core/connection/verbs.pyx"        # what a user may do with a socket
include "_core/connection/pipe.pyx"         # from one socket to another
include "_core/connection/receiver.pyx"     # who gets what arrives, if not `data`
include "_core/connection/closing.pyx"      # our FIN, and the descriptor's end
include "_core/connection/events.pyx"       # what the kernel's events lead to
include "_core/connection/capi.pyx"         # what else the C API has

# objects: what Python sees of a connection
include "_core/objects/adapters.pyx"        # from a slot to a Python handler
include "_core/objects/exceptions.pyx"      # what a handler raised
include "_core/objects/callbacks.pyx"       # functions of users that belong to no socket
include "_core/objects/near_names.pyx"      # handlers that are misspelt
include "_core/objects/arity.pyx"           # handlers that cannot be called
include "_core/objects/slow_handlers.pyx"   # handlers that keep the loop waiting
include "_core/objects/handlers.pyx"        # Handlers: what users give, compiled to a table
include "_core/objects/tasks.pyx"           # async handlers
include "_core/objects/wrapper.pyx"         # when a Socket is made, and what outlives the connection
include "_core/objects/short_writes.pyx"    # a short write that nobody noticed
include "_core/objects/socket.pyx"          # Socket
include "_core/objects/tls.pyx"             # what a Socket knows of its TLS connection
include "_core/objects/starttls.pyx"        # Socket.upgrade_tls
include "_core/objects/tls_in_place.pyx"    # the same by the C API, on one socket
include "_core/objects/cork.pyx"            # Socket.cork
include "_core/objects/array_buffer_sink.pyx"   # ArrayBufferSink
include "_core/objects/sink.pyx"            # SocketSink
include "_core/objects/reader.pyx"          # SocketReader
include "_core/objects/piping.pyx"          # Socket.pipe
include "_core/objects/later.pyx"           # call_later, every, call_soon
include "_core/objects/threadsafe.pyx"      # functions that any thread may call
include "_core/objects/exiting.pyx"         # `async with socket`; handlers that still run

# endpoints: what makes connections
include "_core/endpoints/resolve.pyx"       # names to addresses
include "_core/endpoints/options.pyx"       # from options to a socket context
include "_core/endpoints/acceptors.pyx"     # the listening descriptors of a listener
include "_core/endpoints/listener.pyx"      # Listener
include "_core/endpoints/accept.pyx"        # connections that wait at it
include "_core/endpoints/bind.pyx"          # descriptors that listen
include "_core/endpoints/claim.pyx"         # the same at a path; files that were left behind
include "_core/endpoints/listen.pyx"        # listen
include "_core/endpoints/roster.pyx"         # its open sockets
include "_core/endpoints/exiting.pyx"       # `async with listener`
include "_core/endpoints/connector.pyx"     # one outgoing connection
include "_core/endpoints/adopt.pyx"         # a connected descriptor, at once
include "_core/endpoints/happy_eyeballs.pyx"    # its addresses, tried
include "_core/endpoints/connect.pyx"       # connect, Connecting

include "_core/module.pyx"                  # run, stats; the table of upcalls, filled
