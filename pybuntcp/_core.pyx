# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: cdivision=True, embedsignature=True, embedsignature.format=clinic, binding=False, always_allow_keywords=True
# cython: freethreading_compatible=True
"""_core: the one module that touches libuv. This page is its table of contents.

Chapters in layer order; each uses its own layer and those above it on this page. Two tables
point the other way and nothing else does: `up` (what streams tell sockets) and the slots (what
sockets tell the user).
"""
# leaves: no socket, no loop
include "_core/errors.pyx"      # codes to exceptions
include "_core/buffers.pyx"     # bytes in and out of Python
include "_core/address.pyx"     # socket names
include "_core/stats.pyx"       # counters
include "_core/files.pyx"       # unix socket files
include "_core/descriptors.pyx"     # those that are ours, and a fork
include "_core/sink.pyx"        # the growable buffer, ArrayBufferSink

# the loop
include "_core/timers.pyx"      # one wheel for all deadlines
include "_core/lookups.pyx"     # the threads that ask the system's resolver
include "_core/loop.pyx"        # the turn, and who holds the GIL
include "_core/signals.pyx"     # Ctrl-C, while it waits
include "_core/resolve.pyx"     # names to addresses
include "_core/selector.pyx"    # what a native asyncio loop selects with
include "_core/embed.pyx"       # asyncio: being turned by its loop; futures, tasks
include "_core/awaiting.pyx"    # ... and who waits
include "_core/raising.pyx"     # what comes out of it; and of a loop that is run inside a handler
include "_core/tenancy.pyx"     # which loop is here, and how a loop ends

# one connection, without its user
include "_core/stream.pyx"      # open, read, close; the one place where a socket is freed
include "_core/output.pyx"      # cork, try, drain
include "_core/tail.pyx"        # ... and what the kernel refused
include "_core/sealing.pyx"     # ... where an engine seals what goes out

# what users see
include "_core/handlers.pyx"    # the table of slots, adapters, exceptions
include "_core/compiling.pyx"   # Handlers; from what users give to a table
include "_core/clocks.pyx"      # timeout, idle, linger
include "_core/socket.pyx"      # the verbs
include "_core/closing.pyx"     # ... our FIN, and the descriptor's end
include "_core/secure.pyx"      # what an engine opens, and handshakes
include "_core/scheduling.pyx"  # ... and what each gets of a turn
include "_core/upgrading.pyx"   # ... in the middle of a plain connection
include "_core/capi.pyx"        # ... and what else Cython users may ask
include "_core/face.pyx"        # Socket
include "_core/record.pyx"      # ... when there is one, and what is left of it
include "_core/gathering.pyx"   # Cork, SocketSink
include "_core/reading.pyx"     # SocketReader
include "_core/listener.pyx"    # a listening socket, Listener
include "_core/accepting.pyx"   # ... and what waits at it
include "_core/binding.pyx"     # listen
include "_core/connector.pyx"   # one outgoing connection, and what is told of it
include "_core/dialing.pyx"     # ... happy eyeballs
include "_core/connecting.pyx"  # connect
include "_core/running.pyx"     # async handlers
include "_core/exiting.pyx"     # ... that still run when `async with`, or the program, ends
include "_core/module.pyx"      # run, stats
