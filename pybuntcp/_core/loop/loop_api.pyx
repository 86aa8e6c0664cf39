"""loop_api: the C functions that a loop calls, later or for other threads.

Owns `loop_timer_t` and `loop_poster_t` of the C API, which carry a C function and a pointer of the user's own, borrowed.
Promises that none of these functions but the two that make them needs the GIL, and that nothing is called any more once
the loop has ended. How timers are ordered: see calls. How posts get into the loop: see posts.
"""
from cpython.ref cimport PyObject, Py_DECREF, Py_INCREF
from libc.stdlib cimport calloc, free


cdef struct loop_timer_t:
    timer_t timer       # first
    loop_call call
    void* user
    PyObject* loop      # owned: the Loop, to whose memory `timer` refers

cdef struct loop_poster_t:
    port_t* port        # counted
    bint closed         # guarded by the port's lock

cdef struct c_post_t:
    post_t post         # first
    loop_call call      # NULL: the poster was freed
    void* user


# ---------------------------------------------------------------------------- timers

cdef loop_timer_t* loop_timer_new(loop_call call, void* user) except NULL:
    cdef Loop loop = current_loop()
    cdef loop_timer_t* self = <loop_timer_t*>calloc(1, sizeof(loop_timer_t))
    if self == NULL:
        raise MemoryError()
    self.timer.loop = loop.c
    self.timer.fire = on_c_timer
    self.call, self.user = call, user
    self.loop = <PyObject*>loop
    Py_INCREF(loop)
    return self


cdef int loop_timer_start(loop_timer_t* self, double seconds) noexcept nogil:
    if not seconds >= 0 or self.timer.loop.dead:
        return -1
    timer_disarm(&self.timer)
    timer_arm(&self.timer, timer_after(seconds), seconds == 0)
    return 0


cdef int loop_timer_stop(loop_timer_t* self) noexcept nogil:
    if not timer_is_armed(&self.timer):
        return -1
    timer_disarm(&self.timer)
    return 0


cdef int loop_timer_ref(loop_timer_t* self) noexcept nogil:
    timer_set_referenced(&self.timer, True)
    return 0


cdef int loop_timer_unref(loop_timer_t* self) noexcept nogil:
    timer_set_referenced(&self.timer, False)
    return 0


cdef void loop_timer_free(loop_timer_t* self) noexcept nogil:
    cdef PyObject* loop = self.loop
    timer_disarm(&self.timer)
    free(self)
    loop_forget_owner(loop)


cdef void loop_forget_owner(PyObject* loop) noexcept with gil:
    Py_DECREF(<object>loop)


cdef void on_c_timer(timer_t* timer) noexcept nogil:
    (<loop_timer_t*>timer).call((<loop_timer_t*>timer).user)


# ---------------------------------------------------------------------------- posts

cdef loop_poster_t* loop_poster_new() except NULL:
    cdef Loop loop = current_loop()
    cdef loop_poster_t* self = <loop_poster_t*>calloc(1, sizeof(loop_poster_t))
    if self == NULL or loop.c.port == NULL:
        free(self)
        raise MemoryError()
    self.port = port_keep(loop.c.port)
    port_opened(loop.c)
    return self


cdef int loop_post(loop_poster_t* self, loop_call call, void* user) noexcept nogil:
    cdef c_post_t* post
    if call == NULL:
        return -1
    post = <c_post_t*>calloc(1, sizeof(c_post_t))
    if post == NULL:
        return -2
    post.post.run, post.post.drop = on_c_post, on_c_post_dropped
    post.call, post.user = call, user
    if not port_put(self.port, &post.post, &self.closed, False):
        free(post)
        return -1
    return 0


cdef void loop_poster_free(loop_poster_t* self) noexcept nogil:
    cdef c_post_t* post = <c_post_t*>calloc(1, sizeof(c_post_t))
    if post != NULL:                # else the loop stays referenced
        post.post.run, post.post.drop = on_c_post, on_c_post_dropped
        if not port_put(self.port, &post.post, &self.closed, True):
            free(post)
    port_release(self.port)
    free(self)


cdef void on_c_post(loop_t* loop, post_t* post) noexcept nogil:
    cdef loop_call call = (<c_post_t*>post).call
    cdef void* user = (<c_post_t*>post).user
    free(post)
    if call != NULL:
        call(user)
    else:
        port_closed(loop, False)


cdef void on_c_post_dropped(loop_t* loop, post_t* post) noexcept nogil:
    free(post)
