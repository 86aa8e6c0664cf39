"""signals: how a loop that waits learns that Python was sent a signal.

libuv waits again when a signal interrupts epoll_wait, so Python would not notice Ctrl-C before
the next event. Python can write a byte to a descriptor for every signal: it is given the end of
a pipe whose other end the loop polls.

Owns that descriptor while it is ours, and gives back whose it was before.
"""
import signal
import threading

from cpython.exc cimport PyErr_CheckSignals

from pybuntcp._c cimport net, uv


cdef object loop_watch_signals(loop_t* self):
    """Point the wakeup descriptor at this loop (main thread only); gives what to put back."""
    if self.wakeup[1] < 0 or threading.current_thread() is not threading.main_thread():
        return None
    return signal.set_wakeup_fd(self.wakeup[1], warn_on_full_buffer=False)


cdef int loop_forget_signals(object previous) except -1:
    if previous is not None:
        signal.set_wakeup_fd(previous, warn_on_full_buffer=False)
    return 0


cdef int wakeup_take(loop_t* self) except -2:
    """As a native loop does: ours until it closes, unless it is somebody's: gives whose, or -1."""
    cdef int previous
    cdef char signals[64]
    cdef ssize_t count
    previous = signal.set_wakeup_fd(self.wakeup[1], warn_on_full_buffer=False)
    self.wakeup_taken = previous == -1 or previous == self.wakeup[1] or not wakeup_set(previous)
    if self.wakeup_taken:
        return -1
    count = net.read(self.wakeup[0], signals, sizeof(signals))
    if count > 0:               # what came in between
        net.pbt_pass_on(previous, signals, count)
    return previous


cdef bint wakeup_set(int fd) except -1:
    """False: it will not do, having been closed, say."""
    try:
        signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
    except (OSError, ValueError):
        return False
    return True


cdef void wakeup_give_back(loop_t* self) noexcept:
    """Before its pipe is closed: a signal must not write to whoever gets that number next."""
    cdef int current
    if not self.wakeup_taken:
        return
    if threading.current_thread() is not threading.main_thread():
        self.wakeup[0] = self.wakeup[1] = -1        # only that thread may: the pipe stays open
        return
    current = signal.set_wakeup_fd(-1)
    if current != self.wakeup[1] and current != -1:
        wakeup_set(current)


cdef void on_interrupt(uv.uv_poll_t* handle, int status, int events) noexcept nogil:
    cdef loop_t* self = loop_of(handle)
    cdef char scrap[64]
    while net.read(self.wakeup[0], scrap, sizeof(scrap)) > 0:
        pass
    gil_take(self)
    (<loop_slot><void*>signals_deliver)(self)


cdef void signals_deliver(loop_t* self) noexcept:
    try:
        PyErr_CheckSignals()
    except BaseException as error:
        loop_fail(self, error)
