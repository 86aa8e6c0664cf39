"""short_writes: warns of a short `Socket.write` that the program cannot have noticed.

Such a write loses bytes: the table has no `drain` handler that would continue it, and the code that called `write` has
dropped the count. `short_write_check` is called after a short write alone. It warns once for a table, and counts each.

How it is known what the calling code does with the count: see pybuntcp/short_writes.py, which the facade registers
here. Does not know the C functions of Cython users: they get the count of `socket_write`.
"""
import warnings


cdef object _is_unnoticed = None        # set by the facade: (handlers) -> bool
cdef object _ShortWriteWarning = None


def short_write_register(is_unnoticed, category, /):
    """Called by the facade when it is imported."""
    global _is_unnoticed, _ShortWriteWarning
    _is_unnoticed, _ShortWriteWarning = is_unnoticed, category


cdef int short_write_check(Socket self, ssize_t taken, size_t size) except -1:
    """Warn if nobody can have noticed. Raises the warning if the program's filters say so."""
    cdef socket_t* s = self.s
    cdef handlers_t* table
    if taken < 0 or s == NULL or not s.flags & S_NEED_DRAIN:
        return 0
    table = &context_of(s).table
    if table.slots.drain != NULL or not _is_unnoticed(short_write_handlers(table)):
        return 0
    stats_add(&loop_of(s).count.short_writes_unnoticed, 1)
    if not table.short_write_told:
        table.short_write_told = True
        warnings.warn(short_write_text(taken, size), _ShortWriteWarning, 1)
    return 0


cdef list short_write_handlers(handlers_t* table):
    """The callables of the table, as they were given."""
    cdef int event
    cdef list found = []
    for event in range(EVENTS):
        if table.callable[event] != NULL:
            found.append(handlers_unbound(<object>table.callable[event]))
    return found


cdef str short_write_text(ssize_t taken, size_t size):
    return (
        f"write() accepted {taken} of {size} bytes, the rest is lost: nobody looked at the count, and there is no 'drain' "
        "handler. Continue the write in a 'drain' handler, or use socket.sink() or socket.pipe(), which lose nothing"
    )
