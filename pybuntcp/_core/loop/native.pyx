"""native: asyncio loops that `new_event_loop` makes.

A native asyncio loop is a stock `SelectorEventLoop` whose selector turns our loop (see selector).
Owns `new_event_loop`, and the table that says which of our loops a native asyncio loop turns.
"""
import weakref


cdef object _native_hosts = weakref.WeakKeyDictionary()      # asyncio loop -> weak reference to its Loop


def new_event_loop():
    """A stock asyncio loop that waits in our loop, which serves our sockets at the same time."""
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
    """In a forked child: give each native loop a new selector, so that the parent's epoll instance is left alone."""
    for host in list(_native_hosts):
        if isinstance(host._selector, Selector):
            selector_after_fork(<Selector>host._selector)
    return 0


cdef Loop native_loop_of(object host):
    """The loop that a native asyncio loop turns; None: this is no native loop."""
    found = _native_hosts.get(host)
    return None if found is None else found()
