"""slots: the server, joined to sockets, and `Server`, what Python gets of it.

Promises that replies come in the order of the requests, and leave together as far as they answer one
chunk; that a client which does not read its replies is not served further until it does, so that
beside its request under way, of LARGEST_INPUT bytes at most, no more is held for it than one chunk,
one reply and REPLIES_AT_ONCE; and that a failed allocation ends one connection.
Does not know how a request looks or what a command does.
"""
from libcpp.mutex cimport mutex, py_safe_construct_unique_lock, unique_lock
from libcpp.string cimport string

from pybuntcp cimport (
    handlers_from_slots,
    new_slots,
    slots_t,
    socket_end,
    socket_ext,
    socket_pause,
    socket_resume,
    socket_t,
    socket_terminate,
    socket_user,
    socket_write,
)

cdef enum:
    REPLIES_AT_ONCE = 64 * 1024         # bytes gathered before the socket is asked to take them
    LARGEST_INPUT = 1024 * 1024 * 1024  # bytes of one request
    LARGEST_SPARE = 1024 * 1024         # bytes that a buffer keeps for the next time


cdef class Server:
    """Keys and values, and the handlers that serve them."""
    cdef shared_t* shared

    def __cinit__(self):
        self.shared = new shared_t()

    def __dealloc__(self):
        del self.shared

    def handlers(self):
        """New `Handlers`, for one thread: `pybuntcp.listen(socket=...)`. All of them share the keys and values."""
        cdef slots_t slots = new_slots()
        cdef Thread thread = Thread.__new__(Thread)
        thread.served = self
        thread.server.shared, thread.server.store = self.shared, &self.shared.store
        slots.open = on_open
        slots.data = on_data
        slots.drain = on_drain
        slots.close = on_close
        slots.ext_size = sizeof(client_t)
        slots.user = thread.server
        return handlers_from_slots(&slots, None, thread)


cdef class Thread:
    """What one table of slots works with: its owner, which goes when the last socket that uses it has gone."""
    cdef server_t* server
    cdef Server served

    def __cinit__(self):
        self.server = new server_t()

    def __dealloc__(self):
        del self.server


# ---------------------------------------------------------------------------- slots

cdef void on_open(socket_t* s) noexcept nogil:
    cdef shared_t* shared = (<server_t*>socket_user(s)).shared
    cdef unique_lock[mutex] _held = py_safe_construct_unique_lock(shared.lock)
    shared.clients += 1
    (<client_t*>socket_ext(s)).id = shared.clients


cdef void on_data(socket_t* s, const char* at, size_t size) noexcept nogil:
    cdef bint done = False
    try:
        receive(s, at, size)
        done = True
    finally:
        if not done:
            socket_terminate(s)


cdef void on_drain(socket_t* s) noexcept nogil:
    cdef bint done = False
    try:
        go_on(s)
        done = True
    finally:
        if not done:
            socket_terminate(s)


cdef void on_close(socket_t* s, int error) noexcept nogil:
    free_client(<client_t*>socket_ext(s))


# ---------------------------------------------------------------------------- requests

cdef int receive(socket_t* s, const char* at, size_t size) except -1 nogil:
    """Answer the received bytes. They are read in place, and kept only as far as they are not answered."""
    cdef client_t* client = <client_t*>socket_ext(s)
    cdef server_t* server = <server_t*>socket_user(s)
    cdef size_t used
    if client.ending:
        return 0
    if client.input != NULL:
        return receive_more(s, client, at, size)
    reset_request(&server.request)
    used = serve(s, client, &server.request, at, size)
    if used < size and not client.ending:
        client.input = new input_t()
        client.input.bytes.assign(at + used, size - used)
        reset_request(&client.input.request)
    return 0


cdef int receive_more(socket_t* s, client_t* client, const char* at, size_t size) except -1 nogil:
    """The same, behind a request of which a part is kept."""
    if client.input.bytes.size() + size > LARGEST_INPUT:
        socket_terminate(s)
        return 0
    client.input.bytes.append(at, size)
    return serve_input(s, client)


cdef int serve_input(socket_t* s, client_t* client) except -1 nogil:
    """Answer the bytes that were kept, and free them."""
    cdef string* bytes = &client.input.bytes
    cdef size_t used = serve(s, client, &client.input.request, bytes.data(), bytes.size())
    cdef string rest
    if used == bytes.size() or client.ending:
        del client.input
        client.input = NULL
    elif used:
        rest.assign(bytes.data() + used, bytes.size() - used)
        bytes.swap(rest)
    return 0


cdef Py_ssize_t serve(socket_t* s, client_t* client, request_t* request, const char* at, size_t size) except -1 nogil:
    """Answer the requests that are complete, for as long as the client takes the answers; the bytes used."""
    cdef server_t* server = <server_t*>socket_user(s)
    cdef size_t used = 0, more = 1
    while more and used < size and client.output == NULL and not client.ending:
        server.replies.clear()
        more = answer_some(server, client, request, at + used, size - used)
        used += more
        send_replies(s, client, &server.replies)
    if client.ending and client.output == NULL:
        socket_end(s)
    return used


cdef Py_ssize_t answer_some(
    server_t* server, client_t* client, request_t* request, const char* at, size_t size
) except -1 nogil:
    """As many requests as REPLIES_AT_ONCE allows; the bytes used. No other thread is served meanwhile."""
    cdef unique_lock[mutex] _held = py_safe_construct_unique_lock(server.shared.lock)
    cdef size_t used = 0
    cdef int verdict
    while used < size and not client.ending and server.replies.size() < REPLIES_AT_ONCE:
        verdict = read_request(request, at + used, size - used)
        if verdict == INCOMPLETE:
            break
        used += request.taken
        answer(server, client, request, verdict)
        reset_request(request)
    return used


cdef inline int answer(server_t* server, client_t* client, request_t* request, int verdict) except -1 nogil:
    if verdict == BROKEN:
        client.ending = True
        server.replies.append("-ERR Protocol error: ")
        append_on_line(&server.replies, request.wrong.data(), request.wrong.size())
        server.replies.append("\r\n")
    elif not request.words.empty():     # an empty request is no request
        execute(server, client, request)
    return 0


# ---------------------------------------------------------------------------- replies

cdef int send_replies(socket_t* s, client_t* client, string* replies) except -1 nogil:
    """What the socket does not take is kept without a copy, and nothing more is read until it is taken."""
    cdef Py_ssize_t taken
    if replies.empty():
        return 0
    taken = max(socket_write(s, replies.data(), replies.size()), 0)     # -1: it is gone, and `close` follows
    if <size_t>taken < replies.size():
        client.output = new output_t()
        client.output.bytes.swap(replies[0])
        client.output.sent = taken
        socket_pause(s)
    replies.clear()
    if replies.capacity() > LARGEST_SPARE:
        replies.shrink_to_fit()
    return 0


cdef int go_on(socket_t* s) except -1 nogil:
    """The client took its replies: send the rest of them, then serve what waits, then read on."""
    cdef client_t* client = <client_t*>socket_ext(s)
    if client.output != NULL and not send_output(s, client):
        return 0
    if client.ending:
        socket_end(s)
    elif client.input != NULL:
        serve_input(s, client)
    if client.output == NULL:
        socket_resume(s)
    return 0


cdef bint send_output(socket_t* s, client_t* client) noexcept nogil:
    """True: all of it is sent. Else another drain follows."""
    cdef output_t* output = client.output
    cdef size_t size = output.bytes.size()
    output.sent += max(socket_write(s, output.bytes.data() + output.sent, size - output.sent), 0)
    if output.sent < size:
        return False
    del client.output
    client.output = NULL
    return True
