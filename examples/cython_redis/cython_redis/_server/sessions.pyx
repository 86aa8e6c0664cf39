"""sessions: the commands about the connection and the server. They are like those in strings.

What clients ask for when they connect is here; of what Redis would tell them, as much as they need.
"""
from libcpp.string cimport string

cdef extern from "<strings.h>" nogil:
    int strncasecmp(const char*, const char*, size_t)

cdef extern from "<fnmatch.h>" nogil:
    int fnmatch(const char* pattern, const char* text, int flags)

cdef const char* VERSION = "7.0.0"

cdef const char** SETTINGS = [     # names and values by turns
    "appendonly", "no",
    "databases", "1",
    "maxmemory", "0",
    "save", "",
    "timeout", "0",
]


cdef bint is_word(line_t word, const char* text) noexcept nogil:
    """Whatever the case."""
    cdef size_t size = word.end - word.at
    return size == strlen(text) and strncasecmp(word.at, text, size) == 0


# ---------------------------------------------------------------------------- the connection

cdef int run_ping(server_t* server, client_t* client, request_t* request) except -1 nogil:
    if request.words.size() > 2:
        return reply_error(&server.replies, "ERR wrong number of arguments for 'ping' command")
    if request.words.size() == 2:
        return run_echo(server, client, request)
    server.replies.append("+PONG\r\n", 7)
    return 0


cdef int run_echo(server_t* server, client_t* client, request_t* request) except -1 nogil:
    cdef line_t word = word_of(request, 1)
    return reply_bulk(&server.replies, word.at, word.end - word.at)


cdef int run_quit(server_t* server, client_t* client, request_t* request) except -1 nogil:
    client.ending = True
    return reply_ok(&server.replies)


cdef int run_select(server_t* server, client_t* client, request_t* request) except -1 nogil:
    cdef line_t word = word_of(request, 1)
    cdef long long number = 0
    if not read_number(word.at, word.end - word.at, &number):
        return reply_error(&server.replies, "ERR value is not an integer or out of range")
    if number != 0:
        return reply_error(&server.replies, "ERR DB index is out of range")
    return reply_ok(&server.replies)


cdef int run_hello(server_t* server, client_t* client, request_t* request) except -1 nogil:
    """RESP2 is what we speak; a client that asks for more gets that answer and goes on with it."""
    cdef long long wanted = 2
    cdef line_t word
    if request.words.size() > 1:
        word = word_of(request, 1)
        if not read_number(word.at, word.end - word.at, &wanted):
            return reply_error(&server.replies, "ERR Protocol version is not an integer or out of range")
    if wanted != 2:
        return reply_error(&server.replies, "NOPROTO unsupported protocol version")
    if request.words.size() > 2:
        return reply_error_about(server, "ERR Syntax error in HELLO option '", word_of(request, 2), "'")
    return reply_greeting(&server.replies, client.id)


cdef int reply_greeting(string* out, long long id) except -1 nogil:
    reply_array(out, 14)
    reply_text(out, "server")
    reply_text(out, "redis")
    reply_text(out, "version")
    reply_text(out, VERSION)
    reply_text(out, "proto")
    reply_number(out, 2)
    reply_text(out, "id")
    reply_number(out, id)
    reply_text(out, "mode")
    reply_text(out, "standalone")
    reply_text(out, "role")
    reply_text(out, "master")
    reply_text(out, "modules")
    return reply_array(out, 0)


cdef int reply_error_about(server_t* server, const char* before, line_t word, const char* behind) except -1 nogil:
    """An error with a word of the client's in it."""
    server.replies.push_back(c"-")
    server.replies.append(before)
    append_on_line(&server.replies, word.at, word.end - word.at)
    server.replies.append(behind)
    server.replies.append("\r\n", 2)
    return 0


cdef int run_client_id(server_t* server, client_t* client, request_t* request) except -1 nogil:
    return reply_number(&server.replies, client.id)


cdef int run_client_getname(server_t* server, client_t* client, request_t* request) except -1 nogil:
    if client.name == NULL or client.name.empty():
        return reply_nil(&server.replies)
    return reply_bulk(&server.replies, client.name.data(), client.name.size())


cdef int run_client_setname(server_t* server, client_t* client, request_t* request) except -1 nogil:
    cdef line_t word = word_of(request, 2)
    cdef const char* at = word.at
    while at < word.end:
        if not c"!" <= at[0] <= c"~":
            return reply_error(
                &server.replies, "ERR Client names cannot contain spaces, newlines or special characters."
            )
        at += 1
    if client.name == NULL:
        client.name = new string()
    client.name.assign(word.at, word.end - word.at)
    return reply_ok(&server.replies)


cdef int run_client_setinfo(server_t* server, client_t* client, request_t* request) except -1 nogil:
    """A library says its name and version, which are ignored."""
    return reply_ok(&server.replies)


# ---------------------------------------------------------------------------- the server

cdef int run_dbsize(server_t* server, client_t* client, request_t* request) except -1 nogil:
    return reply_number(&server.replies, server.store.values.size())


cdef int run_flush(server_t* server, client_t* client, request_t* request) except -1 nogil:
    cdef size_t words = request.words.size()
    if words > 2 or words == 2 and not (is_word(word_of(request, 1), "sync") or is_word(word_of(request, 1), "async")):
        return reply_error(&server.replies, "ERR syntax error")
    clear_store(server.store)
    return reply_ok(&server.replies)


cdef int run_info(server_t* server, client_t* client, request_t* request) except -1 nogil:
    cdef char[LONGEST_NUMBER] text
    cdef size_t keys = server.store.values.size()
    cdef string info = string("# Server\r\nredis_version:")
    info.append(VERSION)
    info.append("\r\nredis_mode:standalone\r\n\r\n# Keyspace\r\n")
    if keys:
        info.append("db0:keys=")
        info.append(text, write_number(text, keys))
        info.append("\r\n")
    return reply_bulk(&server.replies, info.data(), info.size())


cdef int run_config_get(server_t* server, client_t* client, request_t* request) except -1 nogil:
    """Those settings that one of the patterns fits."""
    cdef string found
    cdef size_t i, count = 0
    for i in range(0, 10, 2):
        if is_wanted(request, SETTINGS[i]):
            reply_text(&found, SETTINGS[i])
            reply_text(&found, SETTINGS[i + 1])
            count += 2
    reply_array(&server.replies, count)
    server.replies.append(found)
    return 0


cdef int is_wanted(request_t* request, const char* name) except -1 nogil:
    cdef size_t i
    cdef line_t word
    cdef string pattern
    for i in range(2, request.words.size()):
        word = word_of(request, i)
        pattern.clear()
        while word.at < word.end:
            pattern.push_back(lower(word.at[0]))
            word.at += 1
        if fnmatch(pattern.c_str(), name, 0) == 0:
            return 1
    return 0


cdef int run_command(server_t* server, client_t* client, request_t* request) except -1 nogil:
    """Name and arity of each; flags and the places of keys are left out."""
    cdef size_t i
    reply_array(&server.replies, count_commands())
    for i in range(COMMANDS.size()):
        if COMMANDS[i].family == 0:
            reply_array(&server.replies, 2)
            reply_text(&server.replies, COMMANDS[i].text)
            reply_number(&server.replies, COMMANDS[i].arity)
    return 0


cdef int run_command_count(server_t* server, client_t* client, request_t* request) except -1 nogil:
    return reply_number(&server.replies, count_commands())


cdef int run_command_docs(server_t* server, client_t* client, request_t* request) except -1 nogil:
    return reply_array(&server.replies, 0)
