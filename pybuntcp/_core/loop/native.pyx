"""native: asyncio loops of our own making.

Owns `new_event_loop`, and which of our loops a native asyncio loop turns. What such a loop waits with: see selector.
"""
import weakref


cdef object _native_hosts = weakref.WeakKeyDictionary()      # asyncio loop -> weak reference to its Loop


def new_event_loop():
    """A stock asyncio loop that selects with our loop, which serves our sockets meanwhile."""
    selector = Selector()
    try:
        host = host_asyncio("SelectorEventLoop")(selector)
    except BaseException:
        selector.close()
        raise
    (<Selector>selector).loop.host = weakref.ref(host)
    _native_hosts[host] = weakref.ref((<Selector>selector).loop)
    return host


cdef int native_loops_after_fork() except -1:
    """In a forked child: asyncio's own descriptors must not be unwatched in the parent's epoll instance."""
    for host in list(_native_hosts):
        if isinstance(host._selector, Selector):
            selector_after_fork(<Selector>host._selector)
    return 0


cdef Loop native_loop_of(object host):
    """The loop of a native asyncio loop; None: it is somebody else's."""
    found = _native_hosts.get(host)
    return None if found is None else found()
