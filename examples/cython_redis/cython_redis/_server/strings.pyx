"""strings: the commands on keys and values.

Every command is `run_name(server, client, request)` and appends one reply to `server.replies`; an
error is a reply too. How many words there are was checked. Does not know how requests were cut out.
"""
from libc.limits cimport LLONG_MAX, LLONG_MIN
from libcpp.string cimport string


cdef int run_get(server_t* server, client_t* client, request_t* request) except -1 nogil:
    return reply_value(server, word_of(request, 1))


cdef int run_mget(server_t* server, client_t* client, request_t* request) except -1 nogil:
    cdef size_t i
    reply_array(&server.replies, request.words.size() - 1)
    for i in range(1, request.words.size()):
        reply_value(server, word_of(request, i))
    return 0


cdef inline int reply_value(server_t* server, line_t key) except -1 nogil:
    cdef string* value = NULL
    find_value(server.store, key, &value)
    if value == NULL:
        return reply_nil(&server.replies)
    return reply_bulk(&server.replies, value.data(), value.size())


cdef int run_set(server_t* server, client_t* client, request_t* request) except -1 nogil:
    """Without the options, which Redis would understand."""
    if request.words.size() > 3:
        return reply_error(&server.replies, "ERR syntax error")
    set_word(server, request, 1)
    return reply_ok(&server.replies)


cdef int run_mset(server_t* server, client_t* client, request_t* request) except -1 nogil:
    cdef size_t i
    if request.words.size() % 2 == 0:
        return reply_error(&server.replies, "ERR wrong number of arguments for 'mset' command")
    for i in range(1, request.words.size(), 2):
        set_word(server, request, i)
    return reply_ok(&server.replies)


cdef inline int set_word(server_t* server, request_t* request, size_t number) except -1 nogil:
    """A key and, in the word after it, its value."""
    cdef line_t value = word_of(request, number + 1)
    return set_value(server.store, word_of(request, number), value.at, value.end - value.at)


cdef int run_del(server_t* server, client_t* client, request_t* request) except -1 nogil:
    cdef size_t i, deleted = 0
    for i in range(1, request.words.size()):
        deleted += delete_value(server.store, word_of(request, i))
    return reply_number(&server.replies, deleted)


cdef int run_exists(server_t* server, client_t* client, request_t* request) except -1 nogil:
    cdef size_t i, found = 0
    cdef string* value = NULL
    for i in range(1, request.words.size()):
        find_value(server.store, word_of(request, i), &value)
        found += value != NULL
    return reply_number(&server.replies, found)


# ---------------------------------------------------------------------------- numbers

cdef int run_incr(server_t* server, client_t* client, request_t* request) except -1 nogil:
    return add(server, request, 1)


cdef int run_decr(server_t* server, client_t* client, request_t* request) except -1 nogil:
    return add(server, request, -1)


cdef int run_incrby(server_t* server, client_t* client, request_t* request) except -1 nogil:
    cdef long long amount = 0
    if not read_amount(server, request, &amount):
        return 0
    return add(server, request, amount)


cdef int run_decrby(server_t* server, client_t* client, request_t* request) except -1 nogil:
    cdef long long amount = 0
    if not read_amount(server, request, &amount):
        return 0
    if amount == LLONG_MIN:
        return reply_error(&server.replies, "ERR decrement would overflow")
    return add(server, request, -amount)


cdef int read_amount(server_t* server, request_t* request, long long* amount) except -1 nogil:
    """The third word. 1, or 0: it is no number, and the client has its error."""
    cdef line_t word = word_of(request, 2)
    if read_number(word.at, word.end - word.at, amount):
        return 1
    reply_error(&server.replies, "ERR value is not an integer or out of range")
    return 0


cdef int add(server_t* server, request_t* request, long long amount) except -1 nogil:
    """To the value of a key, which is 0 if there is none."""
    cdef char[LONGEST_NUMBER] text
    cdef long long number = 0
    cdef string* value = NULL
    find_value(server.store, word_of(request, 1), &value)
    if value != NULL and not read_number(value.data(), value.size(), &number):
        return reply_error(&server.replies, "ERR value is not an integer or out of range")
    if number > LLONG_MAX - amount if amount > 0 else number < LLONG_MIN - amount:
        return reply_error(&server.replies, "ERR increment or decrement would overflow")
    set_value(server.store, word_of(request, 1), text, write_number(text, number + amount))
    return reply_number(&server.replies, number + amount)
