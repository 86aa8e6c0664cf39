"""tasks: async handlers, as tasks of the asyncio loop that turns the socket.

The problem: the handlers of a socket are called one after the other, and an `async def` handler has not ended when its
call returns.
The rule: the coroutine becomes a task, and until that is done its socket has S_HANDLER_TASK. The socket is not read,
so neither `data` nor `end` occurs; `drain`, `timeout`, `handshake` and `close` are deferred. `events_run_deferred`
emits what was deferred. Other sockets go on meanwhile.

  a handler returns a coroutine   task_of_result, task_start: S_HANDLER_TASK; `loop.tasks[socket]` keeps it
  the task is done                task_done: its exception goes to `error`; then task_release
  it is abandoned while it runs   task_detach: task_release (see exiting)
  task_release                    the last task of its socket clears the flag and calls events_run_deferred

Several can run for one socket: `error` may be called while another runs. `after` collects the events of those that
have ended, until the last one has.
Who frees: a socket that closes while a task runs stays allocated (S_CLOSE_DEFERRED). It is freed by
`events_run_deferred`, or when the loop dies, by `tasks_abandon`. So `HandlerTask.s` is valid as long as the loop lives.

Owns `HandlerTask`, the task's done callback; `loop.tasks` keeps it, and with it the task.
Promises: an exception of the task is treated like one raised by a plain handler: `error`, then the loop's exception
handler. Cancelling the task is not an exception.
"""
cimport cython
from collections.abc import Coroutine

cdef extern from *:
    """
    /* Every coroutine's type has this. It is checked first because it is the cheapest test. */
    #define PBT_MAY_AWAIT(o) (Py_TYPE(o)->tp_as_async != NULL)
    """
    bint PBT_MAY_AWAIT(object)


@cython.internal
cdef class RunningTask:
    """An async handler that has not ended. `loop.tasks` keeps it until then, with its task."""
    cdef object task


@cython.final
@cython.internal
cdef class HandlerTask(RunningTask):
    """An async handler of a socket. Called by asyncio, as the task's done callback."""
    cdef Socket socket
    cdef Loop loop
    cdef socket_t* s            # borrowed; not freed before this has ended, or its loop is dead
    cdef object handler
    cdef int event
    cdef unsigned int after     # bits of events key handlers have ended; see events_run_deferred
    cdef object cause           # the exception that an `error` handler was called with; None: another handler

    def __call__(self, task):
        if self.loop is None or self.loop.c.dead:
            return              # detached, or the loop is dead: asyncio reports an exception that was never retrieved
        task_done(self, self.s)


# ---------------------------------------------------------------------------- starting

cdef inline bint is_coroutine(object result) except -1:
    return PBT_MAY_AWAIT(result) and isinstance(result, Coroutine)


cdef int task_of_result(
    socket_t* s, int event, object handler, object result, object cause=None
) except -1:
    """A handler returned something. If that is a coroutine, run it as a task. `cause`: see HandlerTask."""
    if is_coroutine(result):
        task_start(s, event, handler, result, cause)
    return 0


cdef int task_start(socket_t* s, int event, object handler, object coroutine, object cause) except -1:
    """Run the coroutine as a task of the asyncio loop. TypeError: there is none."""
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
    """The task. A coroutine that cannot be run is closed, so that Python does not warn that it was never awaited."""
    try:
        if host_of(loop) is None:
            raise TypeError(f"{handler!r} returned a coroutine, and no asyncio loop turns this socket")
        vars = (<BoundHandler>handler).vars if isinstance(handler, BoundHandler) else None
        return host_task_start(loop, coroutine, vars)
    except BaseException:
        coroutine.close()
        raise


# ---------------------------------------------------------------------------- ending

cdef int task_done(HandlerTask self, socket_t* s) except -1:
    """The task is done: handle its exception, then what was deferred."""
    cdef Loop owner = <Loop>loop_of(s).owner
    cdef object task = self.task
    cdef object error = None if task.cancelled() else task.exception()
    cdef bint failed = task.cancelled() or error is not None
    handler_enter(owner.c)
    if task_remove(owner, self.socket, self):
        s.flags &= ~S_HANDLER_TASK
    if error_stops(error):
        pass                    # asyncio has raised it already
    elif error is not None and self.cause is None:
        exception_raised(s, self.event, self.handler, error)
    elif error is not None:
        exception_of_error_handler(s, self.handler, error, self.cause)
    if failed and self.event == E_OPEN and self.cause is None:
        socket_close(s)
    task_release(self, s, owner)
    handler_leave(owner.c)
    loop_wakeup(owner.c)
    return 0


cdef int task_release(HandlerTask self, socket_t* s, Loop owner) except -1:
    """Remove the task. If it was the last of its socket, emit what was deferred; else leave that to another."""
    cdef list others
    if task_remove(owner, self.socket, self):
        s.flags &= ~S_HANDLER_TASK
    others = owner.tasks.get(self.socket)
    if not s.flags & S_HANDLER_TASK:
        events_run_deferred(s, self.after)
    elif others:
        (<HandlerTask>others[0]).after |= self.after
    return 0


cdef bint task_remove(Loop loop, object key, object one) except -1:
    """Remove `one` from the tasks that `loop.tasks` has under `key`. True: it was the last of them."""
    cdef list all_of_it = loop.tasks.get(key, [])
    if one in all_of_it:
        all_of_it.remove(one)
    if not all_of_it:
        loop.tasks.pop(key, None)
    return not all_of_it


cdef void tasks_abandon(loop_t* loop) noexcept:
    """The loop dies: free the sockets that only waited for their handler."""
    cdef Loop owner = <Loop>loop.owner
    cdef socket_t* s
    for key in list(owner.tasks):
        s = (<Socket>key).s if isinstance(key, Socket) else NULL
        if s != NULL and s.flags & S_CLOSE_DEFERRED and events_closed(s):
            stream_free(s)
    owner.tasks.clear()


# ---------------------------------------------------------------------------- giving up


cdef list tasks_all(Loop loop):
    """Every async handler that has not ended, the current task apart."""
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
    """Stop waiting for it: emit what was deferred. The task itself runs on."""
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
    """It was cancelled and did not end: have `asyncio.run` not wait for it, and report it."""
    host_asyncio("_unregister_task")(task)
    host_of(loop).call_exception_handler({
        "message": f"A handler goes on {EXIT_SECONDS:g} s after it was cancelled: nobody waits for it any more",
        "task": task,
    })
    return 0
