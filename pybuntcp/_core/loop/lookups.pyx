"""lookups: lookups of names, by threads that ask the system's resolver.

The problem: `getaddrinfo` may take minutes, and nothing can stop it. The naive answer, libuv's pool, has two threads
for it. So two names that do not resolve delay every other lookup, even after their callers have given up, and `uv_run`
waits for them.
The rule: one thread for each lookup in progress. The caller may abandon a lookup at any moment; the thread then owns
it, and drops the answer.

Owns `lookup_t`, the lookup of one name, and the pool of the process: up to LOOKUPS_MAX threads. A thread that is idle
is reused for IDLE_NANOSECONDS. Further lookups wait in a queue, first in, first out, and can be abandoned there.
`mailbox_t` belongs to a loop and has the lookups that are done; its `uv_async_t` wakes the loop. The handle is
unreferenced, so a lookup alone keeps no loop turning: its connector does.

One lock guards the pool and every mailbox. A thread sends to a mailbox only under the lock, and only for a lookup that
was not abandoned. So a loop that has abandoned all of its lookups may close its mailbox.
A forked child has none of the threads. The lookups of its parent get no answer there.
The threads run no Python code, and no signal is delivered to them.
"""
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from pybuntcp._c cimport net, resolver, uv


cdef enum:
    LOOKUPS_MAX = 256
    HOST_NAME_MAX_BYTES = 255   # no name is longer (RFC 1035, section 2.3.4)
    IDLE_NANOSECONDS = 5000000000

cdef enum lookup_state:
    LOOKUP_QUEUED   # in _pool.waiting
    LOOKUP_RUNNING  # a thread is asking the resolver
    LOOKUP_DONE     # in its mailbox


ctypedef void (*lookup_fn)(void* owner, int status, net.addrinfo* answer) noexcept nogil

cdef struct lookup_t:
    lookup_t* next              # in a queue
    lookup_t* previous
    mailbox_t* mailbox          # of the loop that asked; NULL: abandoned, and owned by the thread
    lookup_fn callback          # called in the loop's thread, after the lookup was freed; adopts the answer
    void* owner                 # passed to `callback`
    lookup_state state
    unsigned int generation     # _pool.generation when it was started: lower than that in a forked child
    int status
    net.addrinfo* answer
    char service[8]
    char host[256]

cdef struct lookup_queue_t:
    lookup_t* first
    lookup_t* last
    size_t count

cdef struct mailbox_t:
    uv.uv_async_t wakeup    # first: a pointer to it is a pointer to the mailbox
    lookup_queue_t done

cdef struct pool_t:
    uv.uv_mutex_t lock
    uv.uv_cond_t work           # signalled when a lookup was queued
    lookup_queue_t waiting
    size_t threads
    size_t idle                 # threads that wait for `work`
    unsigned int generation     # incremented in each forked child

cdef pool_t _pool
memset(&_pool, 0, sizeof(_pool))


# ---------------------------------------------------------------------------- queues

cdef void lookup_queue_push(lookup_queue_t* self, lookup_t* lookup) noexcept nogil:
    lookup.next = NULL
    lookup.previous = self.last
    if self.last != NULL:
        self.last.next = lookup
    else:
        self.first = lookup
    self.last = lookup
    self.count += 1


cdef void lookup_queue_remove(lookup_queue_t* self, lookup_t* lookup) noexcept nogil:
    if lookup.previous != NULL:
        lookup.previous.next = lookup.next
    else:
        self.first = lookup.next
    if lookup.next != NULL:
        lookup.next.previous = lookup.previous
    else:
        self.last = lookup.previous
    self.count -= 1


cdef lookup_t* lookup_queue_pop(lookup_queue_t* self) noexcept nogil:
    """Remove the first lookup and return it; NULL: the queue is empty."""
    cdef lookup_t* first = self.first
    if first != NULL:
        lookup_queue_remove(self, first)
    return first


# ---------------------------------------------------------------------------- one lookup

cdef int lookup_fill(lookup_t* self, const char* host, size_t size, int port) noexcept nogil:
    """Set what to look up. A negative code: no such name can exist."""
    if size > HOST_NAME_MAX_BYTES:
        return uv.UV_EAI_NONAME
    memcpy(self.host, host, size)
    self.host[size] = 0
    snprintf(self.service, sizeof(self.service), b"%d", port)
    return 0


cdef void lookup_run(lookup_t* self) noexcept nogil:
    """Ask the system's resolver and wait for its answer."""
    cdef net.addrinfo hints
    memset(&hints, 0, sizeof(hints))
    hints.ai_family = net.AF_UNSPEC
    hints.ai_socktype = net.SOCK_STREAM
    self.answer = NULL
    net.errno = 0
    self.status = resolver.pbt_lookup_code(resolver.getaddrinfo(self.host, self.service, &hints, &self.answer))


cdef int lookup_start(lookup_t** self, mailbox_t* mailbox, const char* host, size_t size, int port,
                      lookup_fn callback, void* owner) noexcept nogil:
    """Look up a name; the mailbox's loop will call `callback(owner, status, answer)`.

    A negative code: the lookup was not started, and `callback` will not be called.
    """
    cdef lookup_t* made = <lookup_t*>calloc(1, sizeof(lookup_t))
    cdef int rc
    if made == NULL:
        return uv.UV_ENOMEM
    made.mailbox, made.callback, made.owner = mailbox, callback, owner
    rc = lookup_fill(made, host, size, port)
    if rc == 0:
        uv.uv_mutex_lock(&_pool.lock)
        rc = pool_add(made)
        uv.uv_mutex_unlock(&_pool.lock)
    if rc < 0:
        free(made)
        return rc
    self[0] = made
    return 0


cdef void lookup_abandon(lookup_t* self) noexcept nogil:
    """Give a lookup up: `callback` will not be called."""
    uv.uv_mutex_lock(&_pool.lock)
    if self.state == LOOKUP_RUNNING and self.generation == _pool.generation:
        self.mailbox = NULL
        self = NULL
    elif self.state == LOOKUP_DONE:
        lookup_queue_remove(&self.mailbox.done, self)
    elif self.generation == _pool.generation:
        lookup_queue_remove(&_pool.waiting, self)
    uv.uv_mutex_unlock(&_pool.lock)
    if self != NULL:
        lookup_free(self)


cdef void lookup_free(lookup_t* self) noexcept nogil:
    if self.answer != NULL:
        resolver.freeaddrinfo(self.answer)
    free(self)


# ---------------------------------------------------------------------------- a loop's mailbox

cdef void mailbox_init(mailbox_t* self, uv.uv_loop_t* loop) noexcept:
    """The mailbox lies inside `loop_t`, so the loop closes its handle together with its others."""
    memset(&self.done, 0, sizeof(lookup_queue_t))
    uv.uv_async_init(loop, &self.wakeup, on_lookups_done)
    uv.uv_unref(<uv.uv_handle_t*>&self.wakeup)


cdef void on_lookups_done(uv.uv_async_t* wakeup) noexcept nogil:
    """Call back for the lookups that are done now. A lookup that is done later wakes the loop again."""
    cdef mailbox_t* self = <mailbox_t*>wakeup
    cdef lookup_t* each
    cdef size_t count
    uv.uv_mutex_lock(&_pool.lock)
    count = self.done.count
    uv.uv_mutex_unlock(&_pool.lock)
    while count != 0:
        uv.uv_mutex_lock(&_pool.lock)
        each = lookup_queue_pop(&self.done)     # NULL if a callback has abandoned the others
        uv.uv_mutex_unlock(&_pool.lock)
        if each == NULL:
            return
        lookup_call_back(each)
        count -= 1


cdef void lookup_call_back(lookup_t* self) noexcept nogil:
    cdef net.addrinfo* answer = self.answer
    cdef lookup_fn callback = self.callback
    cdef void* owner = self.owner
    cdef int status = self.status
    self.answer = NULL
    lookup_free(self)
    callback(owner, status, answer)


# ---------------------------------------------------------------------------- the pool: called with the lock held

cdef int pool_add(lookup_t* lookup) noexcept nogil:
    """Queue a lookup, and start a thread for it unless an idle one will take it.

    A negative code: there is no thread and none can be started; the lookup was not queued.
    """
    cdef int rc = 0
    # Each idle thread takes one lookup. Those that were queued before this one may not have been taken yet.
    if _pool.waiting.count >= _pool.idle and _pool.threads < LOOKUPS_MAX:
        rc = resolver.pbt_thread_start(lookup_thread)
        _pool.threads += rc == 0
    if rc < 0 and _pool.threads == 0:
        return rc
    lookup.state = LOOKUP_QUEUED
    lookup.generation = _pool.generation
    lookup_queue_push(&_pool.waiting, lookup)
    uv.uv_cond_signal(&_pool.work)
    return 0


cdef lookup_t* pool_take() noexcept nogil:
    """Wait for the next lookup in the queue and remove it. NULL: none came in time, and the thread should end."""
    cdef int rc = 0
    while _pool.waiting.first == NULL and rc == 0:
        _pool.idle += 1
        rc = uv.uv_cond_timedwait(&_pool.work, &_pool.lock, IDLE_NANOSECONDS)
        _pool.idle -= 1
    return lookup_queue_pop(&_pool.waiting)


cdef void* lookup_thread(void* nothing) noexcept nogil:
    cdef lookup_t* each
    uv.uv_mutex_lock(&_pool.lock)
    each = pool_take()
    while each != NULL:
        each.state = LOOKUP_RUNNING
        uv.uv_mutex_unlock(&_pool.lock)
        lookup_run(each)
        uv.uv_mutex_lock(&_pool.lock)
        lookup_complete(each)
        each = pool_take()
    _pool.threads -= 1
    uv.uv_mutex_unlock(&_pool.lock)
    return NULL


cdef void lookup_complete(lookup_t* self) noexcept nogil:
    """Pass a lookup to its loop, or free it if it was abandoned."""
    if self.mailbox == NULL:
        lookup_free(self)
        return
    self.state = LOOKUP_DONE
    lookup_queue_push(&self.mailbox.done, self)
    uv.uv_async_send(&self.mailbox.wakeup)


# ---------------------------------------------------------------------------- fork

cdef void on_fork() noexcept nogil:
    uv.uv_mutex_lock(&_pool.lock)       # no thread is changing the pool or a mailbox when they are copied


cdef void on_forked_parent() noexcept nogil:
    uv.uv_mutex_unlock(&_pool.lock)


cdef void on_forked_child() noexcept nogil:
    """The child has no thread. What its parent has queued is dropped."""
    cdef unsigned int generation = _pool.generation + 1
    memset(&_pool, 0, sizeof(_pool))
    _pool.generation = generation
    pool_init()


cdef void pool_init() noexcept nogil:
    uv.uv_mutex_init(&_pool.lock)
    uv.uv_cond_init(&_pool.work)


pool_init()
resolver.pthread_atfork(on_fork, on_forked_parent, on_forked_child)
