"""signals: how a signal wakes a loop that waits.

The problem: when a signal interrupts its poll, libuv polls again, so Python would notice Ctrl-C at the next event only.
The rule: Python can write a byte to a descriptor for every signal (`signal.set_wakeup_fd`). While `run` turns a loop,
this is a pipe that the loop polls; for a native loop it is so until that loop closes.

Python allows this to one thread only, the main one in the eyes of the module `signal`. This need not be
`threading.main_thread()`, and a subinterpreter has none. So `signal` itself is asked. In every other thread signals are
not watched.

If a signal arrived while the loop waited, Python's handler for it runs before the first Python handler of the turn.
Otherwise Python would run it at the first line of that handler, and if it raised there, the event would be lost.

Owns the pipe's use and the question which descriptor Python writes to. Promises that Ctrl-C ends `run` at once, also
when the loop is idle. How often a native loop checks that the descriptor is still its own: see selector.
"""
import signal

from pybuntcp._c cimport net, uv

cdef extern from "Python.h":
    int signals_run "PyErr_CheckSignals"() noexcept     # -1: an exception is set

cdef enum:
    NO_DESCRIPTOR = 1 << 30     # larger than any descriptor


cdef bint signals_may_watch() except -1:
    """True if this thread may set Python's wakeup descriptor.

    It tries with a descriptor that does not exist. This changes nothing: it is a ValueError where setting one is not
    allowed, else an OSError.
    """
    try:
        signal.set_wakeup_fd(NO_DESCRIPTOR)
    except ValueError:
        return False
    except OSError:
        pass
    return True


cdef object signals_watch(loop_t* self):
    """Make this loop's pipe Python's wakeup descriptor. Returns what `signals_unwatch` needs."""
    if self.wakeup[1] < 0 or not signals_may_watch():
        return None
    previous = signal.set_wakeup_fd(self.wakeup[1], warn_on_full_buffer=False)
    return previous, wakeup_fd_owner(previous)


cdef int signals_unwatch(object watched) except -1:
    """Give back the descriptor that `signals_watch` found, unless a loop of ours has closed it meanwhile."""
    if watched is None:
        return 0
    previous, owner = watched
    if owner is not None and not (<Loop>owner).c.wakeup_taken:
        previous = -1
    if not wakeup_fd_set(previous):
        signal.set_wakeup_fd(-1)
    return 0


cdef object wakeup_fd_owner(int fd):
    """The loop of ours whose pipe this is, or None."""
    cdef Loop loop
    for each in loops_alive() if fd != -1 else ():
        loop = <Loop>each
        if not loop.c.closed and loop.c.wakeup[1] == fd:
            return loop
    return None


cdef int wakeup_fd_take(loop_t* self) except -2:
    """For a native loop: make its pipe the wakeup descriptor until the loop closes, unless another one is in use.

    Returns -1, or the descriptor that is in use.
    """
    cdef int previous
    cdef char signals[64]
    cdef ssize_t count
    previous = signal.set_wakeup_fd(self.wakeup[1], warn_on_full_buffer=False)
    self.wakeup_taken = previous == -1 or previous == self.wakeup[1] or not wakeup_fd_set(previous)
    if self.wakeup_taken:
        return -1
    count = net.read(self.wakeup[0], signals, sizeof(signals))
    if count > 0:               # signals that arrived while ours was set
        net.pbt_pass_on(previous, signals, count)
    return previous


cdef int wakeup_fd_lend(loop_t* self) except -1:
    """For a loop that is attached to an asyncio loop: make its pipe the wakeup descriptor, unless another one is in use.

    Otherwise the stock asyncio loop sleeps on after a handler that `signal.signal` has installed, and does not see what that
    has done.
    """
    cdef int previous
    if self.wakeup[1] >= 0 and not self.wakeup_taken and signals_may_watch():
        previous = signal.set_wakeup_fd(self.wakeup[1], warn_on_full_buffer=False)
        self.wakeup_taken = previous == -1 or not wakeup_fd_set(previous)
    return 0


cdef int wakeup_fd_give_back(loop_t* self) except -1:
    """The asyncio loop does not turn this one any more."""
    cdef int current
    if self.wakeup_taken and signals_may_watch():
        self.wakeup_taken = False
        current = signal.set_wakeup_fd(-1)
        if current != self.wakeup[1] and current != -1:
            wakeup_fd_set(current)
    return 0


cdef bint wakeup_fd_set(int fd) except -1:
    """False: Python refuses it, because it was closed, for example."""
    try:
        signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
    except (OSError, ValueError):
        return False
    return True


cdef void wakeup_fd_restore(loop_t* self) noexcept:
    """Called before the pipe is closed: Python must not write to a descriptor that gets the same number later."""
    cdef int current
    if not self.wakeup_taken:
        return
    self.wakeup_taken = False
    if not signals_may_watch():
        # Only the main thread can change Python's descriptor. So the pipe stays open.
        self.wakeup[0] = self.wakeup[1] = -1
        return
    current = signal.set_wakeup_fd(-1)
    if current != self.wakeup[1] and current != -1:
        wakeup_fd_set(current)


cdef void on_interrupt(uv.uv_poll_t* handle, int status, int events) noexcept nogil:
    cdef loop_t* self = loop_of(handle)
    cdef char scrap[64]
    while net.read(self.wakeup[0], scrap, sizeof(scrap)) > 0:
        pass
    gil_take(self)
    (<loop_fn><void*>signals_deliver)(self)


cdef void signals_deliver(loop_t* self) noexcept:
    self.signal_pending = False
    if signals_run() != 0:
        signals_handler_raised(self)


cdef void signals_handler_raised(loop_t* self) noexcept:
    """A Python handler of a signal has raised, and its exception is still set."""
    try:
        signals_raise()
    except BaseException as error:
        loop_fail(self, error)


cdef int signals_raise() except -1:
    """Return the exception that is set to Cython, which raises it."""
    return -1
