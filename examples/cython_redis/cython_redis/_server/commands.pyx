"""commands: what the table holds, and `execute`, the way in.

Promises errors as Redis 7.0 words them. Does not know what the commands do, nor how requests were
cut out.
"""
from libcpp.string cimport string

cdef enum:
    MOST_SHOWN = 128            # bytes of a client's words in an error


cdef int execute(server_t* server, client_t* client, request_t* request) except -1 nogil:
    """Append the reply to a request of at least one word."""
    cdef line_t word = word_of(request, 0)
    cdef command_t* row = find_command(0, word.at, word.end - word.at)
    if row == NULL:
        return reply_unknown(&server.replies, request)
    if row.has_family and request.words.size() > 1:
        return execute_of_family(server, client, request, row)
    if row.run == NULL or not fits(row, request.words.size()):
        return reply_wrong_number(&server.replies, row, NULL)
    return row.run(server, client, request)


cdef int execute_of_family(server_t* server, client_t* client, request_t* request, command_t* family) except -1 nogil:
    """A command whose second word says what is meant."""
    cdef line_t word = word_of(request, 1)
    cdef command_t* row = find_command(family.name, word.at, word.end - word.at)
    if row == NULL:
        return reply_unknown_of_family(&server.replies, request, family)
    if not fits(row, request.words.size()):
        return reply_wrong_number(&server.replies, family, row)
    return row.run(server, client, request)


# ---------------------------------------------------------------------------- errors

cdef int reply_wrong_number(string* out, command_t* row, command_t* of_family) except -1 nogil:
    out.append("-ERR wrong number of arguments for '")
    out.append(row.text)
    if of_family != NULL:
        out.push_back(c"|")
        out.append(of_family.text)
    out.append("' command\r\n")
    return 0


cdef int reply_unknown(string* out, request_t* request) except -1 nogil:
    """With the first of its words, as many bytes of them as Redis shows."""
    cdef size_t i, shown = 0
    out.append("-ERR unknown command '")
    append_cut(out, word_of(request, 0), MOST_SHOWN)
    out.append("', with args beginning with: ")
    for i in range(1, request.words.size()):
        if shown >= MOST_SHOWN:
            break
        out.push_back(c"'")
        shown += append_cut(out, word_of(request, i), MOST_SHOWN - shown) + 3      # the quotes and the space
        out.append("' ")
    out.append("\r\n")
    return 0


cdef int reply_unknown_of_family(string* out, request_t* request, command_t* family) except -1 nogil:
    cdef const char* letter = family.text
    out.append("-ERR unknown subcommand '")
    append_cut(out, word_of(request, 1), MOST_SHOWN)
    out.append("'. Try ")
    while letter[0]:
        out.push_back(upper(letter[0]))
        letter += 1
    out.append(" HELP.\r\n")
    return 0


cdef Py_ssize_t append_cut(string* out, line_t word, size_t most) except -1 nogil:
    """At most so many bytes of a word; how many."""
    cdef size_t size = min(<size_t>(word.end - word.at), most)
    append_on_line(out, word.at, size)
    return size


# ---------------------------------------------------------------------------- the table

cdef int define_commands() except -1:
    """What is asked for most comes first."""
    define("", "get", 2, run_get)
    define("", "set", -3, run_set)
    define("", "incr", 2, run_incr)
    define("", "mget", -2, run_mget)
    define("", "mset", -3, run_mset)
    define("", "del", -2, run_del)
    define("", "exists", -2, run_exists)
    define("", "decr", 2, run_decr)
    define("", "incrby", 3, run_incrby)
    define("", "decrby", 3, run_decrby)
    define("", "ping", -1, run_ping)
    define("", "echo", 2, run_echo)
    define("", "quit", -1, run_quit)
    define("", "select", 2, run_select)
    define("", "hello", -1, run_hello)
    define("", "dbsize", 1, run_dbsize)
    define("", "flushdb", -1, run_flush)
    define("", "flushall", -1, run_flush)
    define("", "info", -1, run_info)
    define("", "client", -2, NULL)
    define("client", "id", 2, run_client_id)
    define("client", "getname", 2, run_client_getname)
    define("client", "setname", 3, run_client_setname)
    define("client", "setinfo", 4, run_client_setinfo)
    define("", "command", -1, run_command)
    define("command", "count", 2, run_command_count)
    define("command", "docs", -2, run_command_docs)
    define("", "config", -2, NULL)
    define("config", "get", -3, run_config_get)
    return 0


define_commands()
