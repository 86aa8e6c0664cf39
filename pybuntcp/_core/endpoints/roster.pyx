"""roster: the open sockets of one listener, and the counts of a loop, as a walk over the loop's handles finds them.

A listener keeps no list of its sockets, which would cost each of them memory: libuv has every handle of the loop in a
queue, and the sockets of one listener are found by their context. So an enumeration takes as long as the loop has
sockets, and has them all in a list, since any of them may close while a program looks at them.

Promises each socket once, oldest first, and none that has closed meanwhile. A socket is open from its `open` until its
user closes it or it is gone; one in a TLS handshake is not. Does not know what is done with them.
"""
cimport cython

from pybuntcp._c cimport uv

cdef extern from "Python.h":
    int PyGC_Disable()
    int PyGC_Enable()


cdef struct roster_t:
    listener_t* listener
    void* found                 # borrowed: a list of Sockets


@cython.final
@cython.internal
cdef class Roster:
    """`listener.sockets()`"""
    cdef Listener listener
    cdef list left              # Sockets, the oldest last

    def __iter__(self):
        return self

    def __next__(self):
        cdef Socket one
        if loop_check(self.listener.c.loop):
            while self.left:
                one = self.left.pop()
                if one.s != NULL and roster_has(one.s):
                    return one
        raise StopIteration


cdef Roster roster_of(Listener listener):
    cdef Roster self = Roster.__new__(Roster)
    cdef roster_t walk
    self.listener = listener
    self.left = []
    if loop_check(listener.c.loop) and not listener.c.loop.dead and listener.c.connections != 0:
        walk.listener, walk.found = listener.c, <void*>self.left
        roster_walk(listener.c.loop, on_roster_walk, &walk)
        self.left.reverse()
    return self


cdef void roster_walk(loop_t* loop, uv.uv_walk_cb visit, void* argument) noexcept:
    """As `uv_walk`, for what makes Python objects.

    Meanwhile the collector is off, since finalizers that it runs may walk, too: libuv takes its queue apart for a walk, so
    one inside another misses handles.
    """
    cdef bint collects = PyGC_Disable()
    uv.uv_walk(&loop.uv, visit, argument)
    if collects:
        PyGC_Enable()


cdef inline bint roster_has(socket_t* s) noexcept nogil:
    return s.flags & S_OPENED != 0 and not is_closing(s)


cdef void on_roster_walk(uv.uv_handle_t* handle, void* walk) noexcept with gil:
    cdef roster_t* self = <roster_t*>walk
    cdef socket_t* s = <socket_t*>handle
    if handle.type == uv.UV_TCP and roster_has(s) and context_of(s).server == self.listener:
        (<list>self.found).append(wrapper_of(s))


# ---------------------------------------------------------------------------- counts

cdef dict roster_stats(loop_t* loop):
    """The counters of a loop of this thread."""
    cdef size_t pending = 0
    cdef dict found = roster_stats_seen(loop)
    uv.uv_walk(&loop.uv, on_count_pending, &pending)
    found["pending_bytes"] = pending
    return found


cdef dict roster_stats_seen(loop_t* loop):
    """The same as another thread sees them, which must not look at sockets."""
    cdef dict found = stats_of(&loop.count)
    found["pending_bytes"] = stats_read(&loop.refused_bytes)
    found["longest_turn"] = stats_read(&loop.longest_turn) / 1e3
    return found


cdef void on_count_pending(uv.uv_handle_t* handle, void* total) noexcept nogil:
    if handle.type == uv.UV_TCP and not uv.uv_is_closing(handle):
        (<size_t*>total)[0] += output_unsent(<socket_t*>handle)
