"""posts: calls into a loop from any thread.

The problem: everything else of a loop belongs to its thread. A thread that has something for it must not touch the loop's
memory, may call while the loop waits in its poll, or has just ended, and may be interrupted by a signal whose handler
calls, too.
The rule: each loop has a `port_t`, on the heap and counted, so it outlives the loop. A call puts a `post_t` into its
queue and wakes the loop by a `uv_async_t`, both under the port's lock; the loop takes them out one by one. When the loop
ends, the port's pointer to it becomes NULL, under the same lock.

No Python code runs while the lock is held, and so no Python handler of a signal: it cannot find the lock taken by the
thread that it has interrupted. A handler that the C library calls could, so `poster_post` is not for those.

Owns the queue, and `poster_t`, by which C code calls. Promises that the posts of one thread run in their order, each
once; those that come while others run wait for the next turn; when an exception stops the loop, the rest waits.
A forked child refuses: its copy of the lock may be taken by a thread that does not exist there.
"""
from libc.stdlib cimport calloc, free

from pybuntcp._c cimport resolver, uv


ctypedef void (*post_fn)(loop_t*, post_t*) noexcept nogil

cdef struct post_t:
    post_t* next
    post_fn run         # called in the loop's thread; frees it
    post_fn drop        # called instead if the loop ends

cdef struct port_t:
    uv.uv_mutex_t lock
    loop_t* loop        # NULL: it has ended
    post_t* first
    post_t* last
    size_t count
    size_t references   # of the loop, and of those that post
    unsigned int forks  # _forks when it was made

cdef unsigned int _forks = 0        # in how many generations of children this process is


cdef void on_ports_forked() noexcept nogil:
    global _forks
    _forks += 1


resolver.pthread_atfork(NULL, NULL, on_ports_forked)


cdef port_t* port_new(loop_t* loop) noexcept nogil:
    """NULL: no memory."""
    cdef port_t* self = <port_t*>calloc(1, sizeof(port_t))
    if self != NULL:
        uv.uv_mutex_init(&self.lock)
        self.loop = loop
        self.references = 1
        self.forks = _forks
        uv.uv_async_init(&loop.uv, &loop.posted_to, on_posts)
        uv.uv_unref(<uv.uv_handle_t*>&loop.posted_to)
    return self


cdef inline bint port_is_inherited(port_t* self) noexcept nogil:
    """True in a forked child."""
    return self.forks != _forks


cdef port_t* port_keep(port_t* self) noexcept nogil:
    uv.uv_mutex_lock(&self.lock)
    self.references += 1
    uv.uv_mutex_unlock(&self.lock)
    return self


cdef void port_release(port_t* self) noexcept nogil:
    cdef bint last
    if port_is_inherited(self):
        return
    uv.uv_mutex_lock(&self.lock)
    self.references -= 1
    last = self.references == 0
    uv.uv_mutex_unlock(&self.lock)
    if last:
        uv.uv_mutex_destroy(&self.lock)
        free(self)


cdef bint port_put(port_t* self, post_t* post, bint* closed, bint closes) noexcept nogil:
    """Have the loop run a post, which is adopted. False: the loop has ended, or `closed` is set.

    closed: a flag of the caller's that is guarded by the lock; with `closes` it is set.
    """
    cdef bint taken
    if port_is_inherited(self):
        return False
    uv.uv_mutex_lock(&self.lock)
    taken = self.loop != NULL and not closed[0]
    if closes:
        closed[0] = True
    if taken:
        post.next = NULL
        if self.last != NULL:
            self.last.next = post
        else:
            self.first = post
        self.last = post
        self.count += 1
        uv.uv_async_send(&self.loop.posted_to)
    uv.uv_mutex_unlock(&self.lock)
    return taken


cdef bint port_close_now(port_t* self, bint* closed, unsigned long here) noexcept nogil:
    """here: the thread. In the loop's thread, with nothing in the queue: set `closed`. False: a post has to do it, behind the others."""
    cdef bint now
    if port_is_inherited(self):
        return False
    uv.uv_mutex_lock(&self.lock)
    now = (self.loop != NULL and self.count == 0 and not closed[0]
           and self.loop.thread == here)
    if now:
        closed[0] = True
    uv.uv_mutex_unlock(&self.lock)
    return now


cdef post_t* port_take(port_t* self) noexcept nogil:
    """The first post; NULL: there is none."""
    cdef post_t* post
    uv.uv_mutex_lock(&self.lock)
    post = self.first
    if post != NULL:
        self.first = post.next
        self.count -= 1
        if self.first == NULL:
            self.last = NULL
    uv.uv_mutex_unlock(&self.lock)
    return post


cdef void on_posts(uv.uv_async_t* handle) noexcept nogil:
    """Run the posts that are there now. Those that come meanwhile wake the loop again."""
    cdef loop_t* loop = loop_of(handle)
    cdef post_t* post
    cdef size_t count
    uv.uv_mutex_lock(&loop.port.lock)
    count = loop.port.count
    uv.uv_mutex_unlock(&loop.port.lock)
    while count != 0 and not loop.failed and not loop.dead:
        post = port_take(loop.port)
        handler_enter(loop)
        post.run(loop, post)
        handler_leave(loop)
        count -= 1
    if count != 0 and not loop.dead:
        uv.uv_async_send(handle)        # an exception has stopped the loop: the rest is for the next `run`


cdef void port_close(loop_t* loop) noexcept nogil:
    """The loop ends: refuse posts from now on, and drop those that have come."""
    cdef port_t* self = loop.port
    cdef post_t* post
    if self == NULL:
        return
    if port_is_inherited(self):         # what is queued is the parent's
        loop.port = NULL
        self.loop = NULL
        return
    uv.uv_mutex_lock(&self.lock)
    self.loop = NULL
    uv.uv_mutex_unlock(&self.lock)
    post = port_take(self)
    while post != NULL:
        post.drop(loop, post)
        post = port_take(self)
    loop.port = NULL
    port_release(self)


cdef void port_opened(loop_t* loop) noexcept nogil:
    """Somebody may post from now on: this keeps `run` going. An asyncio loop has to poll for it."""
    loop.calls += 1
    loop_ref(loop)
    loop_wakeup(loop)


cdef void port_closed(loop_t* loop, bint unreferenced) noexcept nogil:
    loop.calls -= 1
    if not unreferenced:
        loop_unref(loop)
    loop_wakeup(loop)
