"""later: `call_later`, `every`, `call_soon`, and what they return, `Timer`.

Owns `Timer`, in which the `timer_t` is embedded. While that is armed, the loop has a reference to the object, so a
program need not keep it.
Promises that a cancelled timer is not called, and that it lets go of its callback at once.
The order of calls, and that none is early: see loop/calls.
"""
cimport cython
from contextvars import copy_context

from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t, uint64_t


@cython.final
cdef class Timer:
    """A call that the loop makes later, or again and again: made by `call_later`, `every` and `call_soon`.

    It is referenced, which means that it keeps `run()` going, until it was called or cancelled. Its methods may be called
    in the thread of its loop only; in another one they raise RuntimeError. When the loop ends, its timers end without a
    call.

    Source: Bun's `Timer` (`ref`, `unref`), asyncio's `TimerHandle` (`cancel`, `when`).
    """
    cdef timer_t c
    cdef Loop loop              # keeps the loop's memory
    cdef str name               # of the function that has made it
    cdef object callback        # None: it is not called any more
    cdef tuple args
    cdef object vars            # the context in which it is called
    cdef uint64_t period        # of `every`, in nanoseconds; 0: called once

    def __cinit__(self, made=None):
        if made is not _uninitialised:
            raise TypeError("timers are made by call_later(), every() and call_soon()")

    def cancel(self):
        """End the timer: it makes no further call. May be called at any time, also by its own callback, and more than once."""
        if loop_check(self.c.loop):
            later_cancel(self)

    def ref(self):
        """Let this timer keep `run()` going while it is active (the default)."""
        if loop_check(self.c.loop):
            timer_set_referenced(&self.c, True)

    def unref(self):
        """Let `run()` return even if this timer is active."""
        if loop_check(self.c.loop):
            timer_set_referenced(&self.c, False)

    @property
    def when(self):
        """The time of its next call, or of its last one: seconds on the clock of `time.monotonic()`."""
        return <int64_t>(self.c.at - _clock_turned) / 1e9

    @property
    def active(self):
        """True while a call is due: not cancelled, and either not called yet or made by `every`."""
        return timer_is_armed(&self.c)

    def __repr__(self):
        if not timer_is_armed(&self.c):
            return "<pybuntcp.Timer, not active>"
        if not loop_may_look(self.loop.c):
            return f"<pybuntcp.Timer at {self.when:.3f}>"
        return f"<pybuntcp.Timer {self.callback!r} at {self.when:.3f}>"


def call_later(seconds, callback, *args):
    """Call `callback(*args)` once, from this thread's loop, `seconds` from now and never earlier. Returns a `Timer`.

    Timers are called in the order of their times, and those with the same time in the order in which they were made. With
    0 seconds the call is made in the next turn (iteration) of the loop. Inside asyncio the running loop makes the call.
    The callback runs in the context (`contextvars`) that is current now. An exception that it raises is treated as one of
    a handler. What it writes to sockets is gathered and sent when it returns, as in a handler. Its return value is
    ignored.

    Errors: TypeError, ValueError for `seconds` that is no number, negative or NaN; TypeError for a callback that cannot be
    called, or that is an `async def` function. Source: `setTimeout`; asyncio's `loop.call_later`.
    """
    cdef double delay = callback_seconds(seconds)
    return later_new("call_later", delay, 0, callback, args)


def every(seconds, callback, *args):
    """Call `callback(*args)` again and again, `seconds` apart. Returns a `Timer`; `cancel()` ends it.

    The calls are at whole multiples of `seconds` from now, however long they take, so they do not drift. If the loop was
    busy, and one or more of these times have passed without a call, a single call is made for all of them.
    seconds: more than 0; ValueError otherwise. Everything else is as for `call_later`.

    Source: `setInterval`. Bun: counts the next time from the end of the last call.
    """
    cdef double period = callback_seconds(seconds)
    if period == 0:
        raise ValueError("seconds must be more than 0")
    return later_new("every", period, period, callback, args)


def call_soon(callback, *args):
    """Call `callback(*args)` in the next turn of the loop, after this call has returned, without waiting. Returns a `Timer`.

    As `call_later(0, callback, *args)`. From another thread: `threadsafe`. Source: `setImmediate`; asyncio's `loop.call_soon`.
    """
    return later_new("call_soon", 0, 0, callback, args)


cdef Timer later_new(str name, double delay, double period, object callback, tuple args):
    callback_check(callback)
    cdef Timer self = Timer.__new__(Timer, _uninitialised)
    self.loop = current_loop()
    self.name, self.callback, self.args, self.vars = name, callback, args, copy_context()
    self.period = 0 if period == 0 else <uint64_t>max(min(period, 1e9) * 1e9, 1.0)
    self.c.loop = self.loop.c
    self.c.alarm.owner = <void*>self
    self.c.fire = py_timer
    self.c.dropped = py_timer_dropped
    later_keep(self, timer_after(delay), delay == 0)
    return self


cdef void later_keep(Timer self, uint64_t at, bint soon) noexcept:
    """Arm it. The loop has a reference to the object from now on."""
    Py_INCREF(self)
    timer_arm(&self.c, at, soon)


cdef int later_cancel(Timer self) except -1:
    if timer_is_armed(&self.c):
        timer_disarm(&self.c)
        Py_DECREF(self)         # the loop's
    return later_clear(self)


cdef int later_clear(Timer self) except -1:
    self.callback = self.args = self.vars = None
    self.period = 0
    return 0


cdef void py_timer(timer_t* c) noexcept nogil:
    gil_take(c.loop)
    (<timer_fn><void*>call_timer)(c)


cdef void py_timer_dropped(timer_t* c) noexcept nogil:
    gil_take(c.loop)
    (<timer_fn><void*>call_timer_dropped)(c)


cdef void call_timer(timer_t* c) noexcept:
    """It is due, and not armed any more. The reference that the loop had is ours."""
    cdef Timer self = <Timer>c.alarm.owner
    Py_DECREF(self)
    if c.loop.signal_pending:
        signals_deliver(c.loop)
    callback, args, vars = self.callback, self.args, self.vars
    if callback is None:        # the signal's handler has cancelled it
        return
    if self.period != 0:
        later_keep(self, later_next(self), False)
    else:
        later_clear(self)
    callback_run(self.loop, self.name, vars, callback, args)
    if self.period != 0 and timer_is_armed(c) and c.at <= clock_nanoseconds():
        timer_disarm(c)         # its next time has passed in its own callback
        timer_arm(c, later_next(self), False)


cdef uint64_t later_next(Timer self) noexcept:
    """The first time that has not passed yet."""
    cdef uint64_t now = clock_nanoseconds()
    if now < self.c.at:
        return self.c.at + self.period
    return self.c.at + ((now - self.c.at) // self.period + 1) * self.period


cdef void call_timer_dropped(timer_t* c) noexcept:
    """The loop has ended."""
    cdef Timer self = <Timer>c.alarm.owner
    Py_DECREF(self)
    try:
        later_clear(self)
    except BaseException as error:
        report_unraisable(error, self)
