"""signals: how a signal wakes a loop that waits.

The problem: libuv waits again when a signal interrupts its poll, so Python would not notice Ctrl-C
before the next event. Python can write a byte to a descriptor for every signal: ours, for as long
as the loop turns, or, of a native loop, until it closes.

Only one thread may set that descriptor: the one that `signal` takes for the main one. That need not be
`threading.main_thread()`, and a subinterpreter has none. So `signal` itself is asked; everywhere else
signals are simply not watched.

A signal that came while the loop waited is heard before the first Python handler of the turn: it would
be heard in there, at its first line, and if it raises, what that handler was to be told would be lost.
"""
import signal

from pybuntcp._c cimport net, uv

cdef extern from "Python.h":
    int signals_run "PyErr_CheckSignals"() noexcept    # -1: an exception is set

cdef enum:
    NO_DESCRIPTOR = 1 << 30     # a number that none has


cdef bint signals_may_watch() except -1:
    """May this thread set the wakeup descriptor? It is asked with one that does not exist, which changes nothing."""
    try:
        signal.set_wakeup_fd(NO_DESCRIPTOR)
    except ValueError:
        return False
    except OSError:
        pass
    return True


cdef object signals_watch(loop_t* self):
    """Point the wakeup descriptor at this loop, where that can be done; gives what to put back, or None."""
    if self.wakeup[1] < 0 or not signals_may_watch():
        return None
    return signal.set_wakeup_fd(self.wakeup[1], warn_on_full_buffer=False)


cdef int signals_unwatch(object previous) except -1:
    if previous is not None:
        signal.set_wakeup_fd(previous, warn_on_full_buffer=False)
    return 0


cdef int wakeup_fd_take(loop_t* self) except -2:
    """As a native loop does: ours until it closes, unless it is somebody's: gives whose, or -1."""
    cdef int previous
    cdef char signals[64]
    cdef ssize_t count
    previous = signal.set_wakeup_fd(self.wakeup[1], warn_on_full_buffer=False)
    self.wakeup_taken = previous == -1 or previous == self.wakeup[1] or not wakeup_fd_set(previous)
    if self.wakeup_taken:
        return -1
    count = net.read(self.wakeup[0], signals, sizeof(signals))
    if count > 0:               # what came in between
        net.pbt_pass_on(previous, signals, count)
    return previous


cdef bint wakeup_fd_set(int fd) except -1:
    """False: it will not do, having been closed, say."""
    try:
        signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
    except (OSError, ValueError):
        return False
    return True


cdef void wakeup_fd_restore(loop_t* self) noexcept:
    """Before its pipe is closed: a signal must not write to whoever gets that number next."""
    cdef int current
    if not self.wakeup_taken:
        return
    if not signals_may_watch():
        self.wakeup[0] = self.wakeup[1] = -1        # only that thread may: the pipe stays open
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
    """A handler of theirs has raised, and the exception is still set."""
    try:
        signals_raise()
    except BaseException as error:
        loop_fail(self, error)


cdef int signals_raise() except -1:
    return -1
