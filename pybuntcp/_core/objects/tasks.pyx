"""tasks: async handlers, as tasks of the asyncio loop that turns the socket.

The problem: handlers of a socket are called one after the other, and an `async def` handler has
not ended when its call returns.
The rule: while one runs, its socket is busy (`S_HANDLER_TASK`). It is not read, so that neither `data`
nor `end` comes; `drain`, `timeout` and `close` wait. `events_run_deferred` tells what has waited. Other
sockets go on meanwhile.

Owns `HandlerTask`, which is told when the task has ended; the loop holds the task until then.
Also `BoundHandler`: handlers run with the context variables that were set when they were given.
Promises that a task's exception takes the same road as that of any handler. Cancelling is none.
"""
cimport cython
from collections.abc import Coroutine

cdef extern from *:
    """
    /* Only a type with this can be that of a coroutine: asked first, it is the cheapest. */
    #define PBT_MAY_AWAIT(o) (Py_TYPE(o)->tp_as_async != NULL)
    """
    bint PBT_MAY_AWAIT(object)


@cython.internal
cdef class RunningTask:
    """An async handler that has not ended: the loop keeps it until then, with its task."""
    cdef object task


@cython.final
@cython.internal
cdef class HandlerTask(RunningTask):
    """An async handler that has not ended: called with its task when it has."""
    cdef Socket socket
    cdef Loop loop
    cdef socket_t* s            # it is not freed as long as its loop lives and this runs
    cdef object handler
    cdef int event
    cdef unsigned int after     # bits of events: what goes on when it has ended; see events_run_deferred
    cdef object cause           # the exception an `error` handler was called for; None: another handler

    def __call__(self, task):
        if self.loop is None or self.loop.c.dead:
            return              # asyncio says what nobody asked for
        task_done(self, self.s)


# ---------------------------------------------------------------------------- starting

cdef inline bint is_coroutine(object result) except -1:
    return PBT_MAY_AWAIT(result) and isinstance(result, Coroutine)


cdef int task_of_result(
    socket_t* s, int event, object handler, object result, object cause=None
) except -1:
    """A handler gave something: if that is a coroutine, the handler goes on in a task. `cause`: see Running."""
    if is_coroutine(result):
        task_start(s, event, handler, result, cause)
    return 0


cdef int task_start(socket_t* s, int event, object handler, object coroutine, object cause) except -1:
    cdef Loop loop = <Loop>loop_of(s).owner
    cdef HandlerTask running = HandlerTask.__new__(HandlerTask)
    running.socket, running.loop, running.s = wrapper_of(s), loop, s
    running.handler, running.event, running.cause = handler, event, cause
    running.after = 1 << event
    s.flags |= S_HANDLER_TASK
    if is_read_for_handlers(s):
        stream_pause_reading(s)
    try:
        running.task = task_create(loop, handler, coroutine)
    except BaseException:
        if running.socket not in loop.tasks:
            s.flags &= ~S_HANDLER_TASK
            stream_read(s)
        raise
    loop.tasks.setdefault(running.socket, []).append(running)
    running.task.add_done_callback(running)
    return 0


cdef object task_create(Loop loop, object handler, object coroutine):
    """Its task. A coroutine that cannot be run is closed: it was never awaited on purpose."""
    try:
        if host_of(loop) is None:
            raise TypeError(f"{handler!r} gave a coroutine, and no asyncio loop turns this socket")
        vars = (<BoundHandler>handler).vars if isinstance(handler, BoundHandler) else None
        return host_task_start(loop, coroutine, vars)
    except BaseException:
        coroutine.close()
        raise


# ---------------------------------------------------------------------------- ending

cdef int task_done(HandlerTask self, socket_t* s) except -1:
    """The task is done: its exception, and then what waited for it."""
    cdef Loop owner = <Loop>loop_of(s).owner
    cdef object task = self.task
    cdef object error = None if task.cancelled() else task.exception()
    cdef bint failed = task.cancelled() or error is not None
    handler_enter(owner.c)
    if task_remove(owner, self.socket, self):
        s.flags &= ~S_HANDLER_TASK
    if error_stops(error):
        pass                    # asyncio has raised it
    elif error is not None and self.cause is None:
        call_raised(s, self.event, self.handler, error)
    elif error is not None:
        call_error_handler_raised(s, self.handler, error, self.cause)
    if failed and self.event == E_OPEN and self.cause is None:
        socket_close(s)
    task_release(self, s, owner)
    handler_leave(owner.c)
    loop_wakeup(owner.c)
    return 0


cdef int task_release(HandlerTask self, socket_t* s, Loop owner) except -1:
    """It counts no more: what waited for it goes on, or waits for another one."""
    cdef list others
    if task_remove(owner, self.socket, self):
        s.flags &= ~S_HANDLER_TASK
    others = owner.tasks.get(self.socket)
    if not s.flags & S_HANDLER_TASK:
        events_run_deferred(s, self.after)
    elif others:
        (<HandlerTask>others[0]).after |= self.after
    return 0


cdef bint task_remove(Loop loop, object whose, object one) except -1:
    """True: it was the last one."""
    cdef list all_of_it = loop.tasks.get(whose, [])
    if one in all_of_it:
        all_of_it.remove(one)
    if not all_of_it:
        loop.tasks.pop(whose, None)
    return not all_of_it


cdef void tasks_abandon(loop_t* loop) noexcept:
    """The loop dies: sockets that were only waiting for their handler are freed now."""
    cdef Loop owner = <Loop>loop.owner
    cdef socket_t* s
    for whose in list(owner.tasks):
        s = (<Socket>whose).s if isinstance(whose, Socket) else NULL
        if s != NULL and s.flags & S_CLOSE_DEFERRED and events_closed(s):
            stream_free(s)
    owner.tasks.clear()


# ---------------------------------------------------------------------------- connect_error


# ---------------------------------------------------------------------------- context variables


cdef list tasks_all(Loop loop):
    """Every async handler that has not ended, but the one that asks."""
    if not loop.tasks:
        return []
    current = host_asyncio("current_task")()
    found = []
    for some in loop.tasks.values():
        found += [one for one in some if task_of(one) is not current]
    return found


cdef list tasks_of_socket(Loop loop, Socket socket):
    return [one for one in tasks_all(loop) if isinstance(one, HandlerTask) and (<HandlerTask>one).socket is socket]


cdef object task_of(object one):
    return (<RunningTask>one).task


cdef int tasks_cancel(list handlers) except -1:
    for one in handlers:
        task_of(one).cancel()
    return 0


cdef int task_detach(HandlerTask self) except -1:
    """What waited for it goes on; it may end whenever it likes."""
    cdef Loop owner = self.loop
    if owner is None or owner.c.dead or self.task.done():
        return 0
    self.loop = None
    handler_enter(owner.c)
    task_release(self, self.s, owner)
    handler_leave(owner.c)
    loop_wakeup(owner.c)
    return 0


cdef int task_disown(Loop loop, object task) except -1:
    """It was cancelled long ago. `asyncio.run` would wait for it as long as it likes."""
    host_asyncio("_unregister_task")(task)
    host_of(loop).call_exception_handler({
        "message": f"A handler goes on {EXIT_SECONDS:g} s after it was cancelled: nobody waits for it any more",
        "task": task,
    })
    return 0
