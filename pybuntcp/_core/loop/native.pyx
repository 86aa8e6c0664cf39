"""native: asyncio loops that `new_event_loop` makes.

A native asyncio loop is a stock `SelectorEventLoop` whose selector turns our loop (see selector).
Owns how one gets its selector, and the table that says which of our loops a native asyncio loop turns.
"""
import weakref


cdef object _native_hosts = weakref.WeakKeyDictionary()      # asyncio loop -> weak reference to its Loop


def native_selector():
    """A selector for a stock asyncio loop: it waits in a loop of ours, which serves our sockets at the same time."""
    return Selector()


def native_attach(host):
    """The asyncio loop has taken such a selector: what is opened while it runs belongs to it."""
    cdef Selector selector = host._selector
    selector.loop.host = weakref.ref(host)
    selector.use_queue(host._ready)
    _native_hosts[host] = weakref.ref(selector.loop)


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
