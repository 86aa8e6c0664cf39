"""running: async handlers, as tasks of the asyncio loop that turns the socket.

The problem: handlers of a socket are called one after the other, and an `async def` handler has
not ended when its call returns.
The rule: while one runs, its socket is busy (`S_BUSY`). It is not read, so that neither `data`
nor `end` comes; `drain`, `timeout` and `close` wait. `socket_go_on` tells what has waited. Other
sockets go on meanwhile.

Owns `Running`, which is told when the task has ended; the loop holds the task until then.
Also `InContext`: handlers run with the context variables that were set when they were given.
Promises that a task's exception takes the same road as that of any handler. Cancelling is none.
"""
cimport cython
from collections.abc import Coroutine
from contextvars import copy_context

cdef extern from *:
    """
    /* Only a type with this can be that of a coroutine: asked first, it is the cheapest. */
    #define PBT_MAY_AWAIT(o) (Py_TYPE(o)->tp_as_async != NULL)
    """
    bint PBT_MAY_AWAIT(object)


@cython.final
@cython.internal
cdef class Running:
    """An async handler that has not ended: called with its task when it has."""
    cdef Socket socket
    cdef Loop loop
    cdef socket_t* s            # it is not freed as long as its loop lives and this runs
    cdef object handler
    cdef int event
    cdef unsigned int after     # bits of events: what goes on when it has ended; see socket_go_on
    cdef object task
    cdef object cause           # the exception an `error` handler was called for; None: another handler

    def __call__(self, task):
        if self.loop is None or self.loop.c.dead:
            return              # asyncio says what nobody asked for
        running_ended(self, self.s)


# ---------------------------------------------------------------------------- starting

cdef inline bint is_coroutine(object result) except -1:
    return PBT_MAY_AWAIT(result) and isinstance(result, Coroutine)


cdef int handler_returned(
    socket_t* s, int event, object handler, object result, object cause=None
) except -1:
    """A handler gave something: if that is a coroutine, the handler goes on in a task. `cause`: see Running."""
    if is_coroutine(result):
        running_start(s, event, handler, result, cause)
    return 0


cdef int running_start(socket_t* s, int event, object handler, object coroutine, object cause) except -1:
    cdef Loop loop = <Loop>loop_of(s).owner
    cdef Running running = Running.__new__(Running)
    running.socket, running.loop, running.s = socket_face(s), loop, s
    running.handler, running.event, running.cause = handler, event, cause
    running.after = 1 << event
    s.flags |= S_BUSY
    if not s.flags & (S_DEAF | S_READER | S_CLOSED):
        stream_rest(s)
    try:
        running.task = coroutine_start(loop, handler, coroutine)
    except BaseException:
        if running.socket not in loop.tasks:
            s.flags &= ~S_BUSY
            stream_read(s)
        raise
    loop.tasks.setdefault(running.socket, []).append(running)
    running.task.add_done_callback(running)
    return 0


cdef object coroutine_start(Loop loop, object handler, object coroutine):
    """Its task. A coroutine that cannot be run is closed: it was never awaited on purpose."""
    try:
        if loop_host(loop) is None:
            raise TypeError(f"{handler!r} gave a coroutine, and no asyncio loop turns this socket")
        vars = (<InContext>handler).vars if isinstance(handler, InContext) else None
        return task_start(loop, coroutine, vars)
    except BaseException:
        coroutine.close()
        raise


# ---------------------------------------------------------------------------- ending

cdef int running_ended(Running self, socket_t* s) except -1:
    """The task is done: its exception, and then what waited for it."""
    cdef Loop owner = <Loop>loop_of(s).owner
    cdef object task = self.task
    cdef object error = None if task.cancelled() else task.exception()
    cdef bint failed = task.cancelled() or error is not None
    handler_enter(owner.c)
    if running_forget(owner, self.socket, self):
        s.flags &= ~S_BUSY
    if error_stops(error):
        pass                    # asyncio has raised it
    elif error is not None and self.cause is None:
        handler_raised(s, self.event, self.handler, error)
    elif error is not None:
        error_handler_raised(s, self.handler, error, self.cause)
    if failed and self.event == E_OPEN and self.cause is None:
        socket_close(s)
    running_part(self, s, owner)
    handler_leave(owner.c)
    loop_kick(owner.c)
    return 0


cdef int running_part(Running self, socket_t* s, Loop owner) except -1:
    """It counts no more: what waited for it goes on, or waits for another one."""
    cdef list others
    if running_forget(owner, self.socket, self):
        s.flags &= ~S_BUSY
    others = owner.tasks.get(self.socket)
    if not s.flags & S_BUSY:
        socket_go_on(s, self.after)
    elif others:
        (<Running>others[0]).after |= self.after
    return 0


cdef bint running_forget(Loop loop, object whose, object one) except -1:
    """True: it was the last one."""
    cdef list all_of_it = loop.tasks.get(whose, [])
    if one in all_of_it:
        all_of_it.remove(one)
    if not all_of_it:
        loop.tasks.pop(whose, None)
    return not all_of_it


cdef void running_abandon(loop_t* loop) noexcept:
    """The loop dies: sockets that were only waiting for their handler are freed now."""
    cdef Loop owner = <Loop>loop.owner
    cdef socket_t* s
    for whose in list(owner.tasks):
        s = (<Socket>whose).s if isinstance(whose, Socket) else NULL
        if s != NULL and s.flags & S_GONE and socket_closed(s):
            stream_free(s)
    owner.tasks.clear()


# ---------------------------------------------------------------------------- connect_error

@cython.final
@cython.internal
cdef class Failing:
    """An async `connect_error` that has not ended: called with its task when it has."""
    cdef Connecting face
    cdef object task

    def __call__(self, task):
        cdef loop_t* loop = self.face.loop.c
        running_forget(self.face.loop, self.face, self)
        if not task.cancelled() and task.exception() is not None:
            self.face.error = task.exception()
        connecting_told(self.face)
        if not loop.dead:
            loop.count.connecting -= 1
            loop_kick(loop)


cdef bint connect_error_returned(object handler, object result, Connecting face) except -1:
    """True: the outcome is told when the handler's task has ended."""
    cdef Failing failing
    if not is_coroutine(result):
        return False
    failing = Failing.__new__(Failing)
    failing.face = face
    failing.task = coroutine_start(face.loop, handler, result)
    face.loop.tasks.setdefault(face, []).append(failing)
    face.loop.c.count.connecting += 1       # it is still under way
    failing.task.add_done_callback(failing)
    return True


# ---------------------------------------------------------------------------- context variables

@cython.final
@cython.internal
cdef class InContext:
    """A handler that runs with the context variables of the place where it was given."""
    cdef object vars
    cdef object handler

    def __call__(self, *arguments):
        return self.vars.run(self.handler, *arguments)

    def __repr__(self):
        return repr(self.handler)


cdef Handlers handlers_for(Handlers self, Loop loop):
    """As they are installed in a loop: with the present context variables, if there are any.

    TypeError: one of them is async, and no asyncio loop turns this one.
    """
    cdef Handlers bound
    cdef int event
    if loop_host(loop) is None:
        if self.async_name is not None:
            raise TypeError(f"handler {self.async_name!r} is an async function: that needs a running asyncio loop")
        return self
    vars = copy_context()
    if not len(vars):
        return self
    bound = Handlers.__new__(Handlers, _to_be_filled)
    bound.table = self.table
    bound.found = {}
    bound.owner, bound.async_name, bound.opens_paused = self.owner, self.async_name, self.opens_paused
    for event, name in enumerate(_EVENT_NAMES):
        if self.table.callable[event] != NULL:
            bound.found[name] = in_context(vars, <object>self.table.callable[event])
            bound.table.callable[event] = <PyObject*>bound.found[name]
    return bound


cdef InContext in_context(object vars, object handler):
    cdef InContext self = InContext.__new__(InContext)
    self.vars, self.handler = vars, handler
    return self
