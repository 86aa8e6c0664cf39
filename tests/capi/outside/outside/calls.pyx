# cython: language_level=3, freethreading_compatible=True
"""calls: timers and posts of the C API, as tests use them from Python.

Owns `Ticker`, a timer that counts without the GIL and starts itself again, and `Posts`, which a thread without the GIL fills.
"""
from libc.stdlib cimport malloc, free

from pybuntcp cimport (
    loop_call,
    loop_post,
    loop_poster_free,
    loop_poster_new,
    loop_poster_t,
    loop_timer_free,
    loop_timer_new,
    loop_timer_ref,
    loop_timer_start,
    loop_timer_stop,
    loop_timer_t,
    loop_timer_unref,
)

cdef struct ticker_t:
    loop_timer_t* timer
    double period
    long count
    long limit
    bint frees_itself


cdef void on_tick(void* user) noexcept nogil:
    cdef ticker_t* self = <ticker_t*>user
    self.count += 1
    if self.count < self.limit:
        loop_timer_start(self.timer, self.period)
    elif self.frees_itself:
        loop_timer_free(self.timer)
        self.timer = NULL


cdef loop_call tick = on_tick


cdef class Ticker:
    cdef ticker_t c

    def __init__(self, double period, long limit, bint frees_itself=False):
        self.c.period, self.c.limit, self.c.frees_itself = period, limit, frees_itself
        self.c.timer = loop_timer_new(tick, &self.c)

    def start(self, double seconds):
        return loop_timer_start(self.c.timer, seconds)

    def stop(self):
        return loop_timer_stop(self.c.timer)

    def ref(self):
        return loop_timer_ref(self.c.timer)

    def unref(self):
        return loop_timer_unref(self.c.timer)

    def free(self):
        if self.c.timer != NULL:
            loop_timer_free(self.c.timer)
            self.c.timer = NULL

    @property
    def count(self):
        return self.c.count


cdef struct posted_t:
    long number
    long* sum
    long* last_number
    long* disorder


cdef void on_posted(void* user) noexcept nogil:
    cdef posted_t* self = <posted_t*>user
    self.sum[0] += self.number
    self.disorder[0] += self.number != self.last_number[0] + 1
    self.last_number[0] = self.number
    free(self)


cdef class Posts:
    cdef loop_poster_t* poster
    cdef long sum, last, disorder

    def __init__(self):
        self.poster = loop_poster_new()

    def post(self, long count):
        """Post the numbers 1 to `count`, without the GIL. Returns how many were taken."""
        cdef posted_t* each
        cdef long number, taken = 0
        with nogil:
            for number in range(1, count + 1):
                each = <posted_t*>malloc(sizeof(posted_t))
                each.number, each.sum, each.last_number, each.disorder = number, &self.sum, &self.last, &self.disorder
                if loop_post(self.poster, on_posted, each) == 0:
                    taken += 1
                else:
                    free(each)
        return taken

    def free(self):
        with nogil:
            loop_poster_free(self.poster)

    @property
    def result(self):
        return self.sum, self.disorder
