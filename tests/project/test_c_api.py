"""The C API only grows: what `_core.pxd` has promised once is there, letter by letter.

Cython looks exported functions up by name and signature when a module is imported, and says nothing of members that
changed their places. A line here is never changed or taken out; new ones are added below it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DECLARATIONS = (Path(__file__).resolve().parents[2] / "pybuntcp" / "_core.pxd").read_text()

MEMBERS = """
    unsigned int abi
    unsigned int size
    size_t ext_size
    void* user
    open_slot open
    data_slot data
    drain_slot drain
    end_slot end
    close_slot close
    timeout_slot timeout
    handshake_slot handshake
    connect_error_slot connect_error
    broken_slot broken
    alloc_slot alloc
    unsigned int flags
"""

LINES = """
    ctypedef void (*open_slot)(socket_t*) noexcept nogil
    ctypedef void (*data_slot)(socket_t*, const char*, size_t) noexcept nogil
    ctypedef void (*drain_slot)(socket_t*) noexcept nogil
    ctypedef void (*end_slot)(socket_t*) noexcept nogil
    ctypedef void (*close_slot)(socket_t*, int error) noexcept nogil
    ctypedef void (*timeout_slot)(socket_t*) noexcept nogil
    ctypedef void (*handshake_slot)(socket_t*, int success, long verify_result) noexcept nogil
    ctypedef void (*connect_error_slot)(socket_t*, int error) noexcept nogil
    SLOTS_ABI = 1
    SOCKET_SHUTDOWN = -2
    SOCKET_DETACHED = -1
    SOCKET_CLOSED = 0
    SOCKET_ESTABLISHED = 1
    SOCKET_OTHER = 2
    cdef inline slots_t new_slots() noexcept nogil:
    cdef object handlers_from_slots(const slots_t* slots, object handlers=*, object owner=*)
    cdef Py_ssize_t socket_write(socket_t* s, const char* data, size_t size) noexcept nogil
    cdef int socket_end(socket_t* s, const char* data=*, size_t size=*) noexcept nogil
    cdef int socket_flush(socket_t* s) noexcept nogil
    cdef int socket_cork(socket_t* s) noexcept nogil
    cdef int socket_uncork(socket_t* s) noexcept nogil
    cdef size_t socket_pending(socket_t* s) noexcept nogil
    cdef unsigned long long socket_bytes_written(socket_t* s) noexcept nogil
    cdef unsigned long long socket_bytes_read(socket_t* s) noexcept nogil
    cdef int socket_close(socket_t* s) noexcept nogil
    cdef int socket_terminate(socket_t* s) noexcept nogil
    cdef int socket_shutdown(socket_t* s, bint half_close=*) noexcept nogil
    cdef int socket_pause(socket_t* s) noexcept nogil
    cdef int socket_resume(socket_t* s) noexcept nogil
    cdef int socket_ref(socket_t* s) noexcept nogil
    cdef int socket_unref(socket_t* s) noexcept nogil
    cdef int socket_timeout(socket_t* s, double seconds) noexcept nogil
    cdef int socket_state(socket_t* s) noexcept nogil
    cdef void* socket_ext(socket_t* s) noexcept nogil
    cdef void* socket_user(socket_t* s) noexcept nogil
    cdef int socket_fileno(socket_t* s) noexcept nogil
    cdef Py_ssize_t socket_remote_address(socket_t* s, char* text, size_t capacity) noexcept nogil
    cdef Py_ssize_t socket_local_address(socket_t* s, char* text, size_t capacity) noexcept nogil
    cdef int socket_remote_port(socket_t* s) noexcept nogil
    cdef int socket_local_port(socket_t* s) noexcept nogil
    cdef int socket_set_no_delay(socket_t* s, bint enable) noexcept nogil
    cdef int socket_set_keep_alive(socket_t* s, bint enable, unsigned int milliseconds) noexcept nogil
    cdef object socket_object(socket_t* s)
    cdef int socket_pipe(socket_t* s, socket_t* target, int end) noexcept nogil
    cdef int socket_unpipe(socket_t* s) noexcept nogil
    ctypedef void (*loop_call)(void* user) noexcept nogil
    cdef loop_timer_t* loop_timer_new(loop_call call, void* user) except NULL
    cdef int loop_timer_start(loop_timer_t* timer, double seconds) noexcept nogil
    cdef int loop_timer_stop(loop_timer_t* timer) noexcept nogil
    cdef int loop_timer_ref(loop_timer_t* timer) noexcept nogil
    cdef int loop_timer_unref(loop_timer_t* timer) noexcept nogil
    cdef void loop_timer_free(loop_timer_t* timer) noexcept nogil
    cdef loop_poster_t* loop_poster_new() except NULL
    cdef int loop_post(loop_poster_t* poster, loop_call call, void* user) noexcept nogil
    cdef void loop_poster_free(loop_poster_t* poster) noexcept nogil
    ctypedef void (*broken_slot)(socket_t*, int error) noexcept nogil
    ctypedef char* (*alloc_slot)(socket_t*, size_t suggested, size_t* capacity) noexcept nogil
    SLOTS_OPEN_UNTIL_CLOSED = 1
    cdef int socket_write_all(socket_t* s, const char* data, size_t size) noexcept nogil
    cdef int socket_writev(socket_t* s, const socket_part_t* parts, int count) noexcept nogil
    cdef int socket_want_drain(socket_t* s, size_t low) noexcept nogil
    cdef int socket_close_now(socket_t* s) noexcept nogil
    cdef int socket_error(socket_t* s) noexcept nogil
    cdef void socket_take_gil(socket_t* s) noexcept nogil
    cdef void socket_interrupted(socket_t* s, object error) noexcept
    cdef object tls_prepare(object tls, bint server, object server_hostname=*)
    cdef object socket_ssl_object(socket_t* s)
    cdef object socket_exception(socket_t* s)
    cdef bytes socket_bytes(socket_t* s, const char* data, size_t size)
    cdef socket_t* socket_from_fd(int fd, object handlers) except NULL
"""


def lines_of(text: str) -> list[str]:
    """Without comments and what surrounds them."""
    return [line for line in (re.sub(r"\s*#.*", "", line).strip() for line in text.splitlines()) if line]


def test_members_of_slots_t_keep_their_places() -> None:
    body = re.search(r"^cdef struct slots_t:.*\n((?:    .*\n)+)", DECLARATIONS, re.MULTILINE)
    assert body is not None
    promised = lines_of(MEMBERS)
    assert lines_of(body[1])[: len(promised)] == promised


@pytest.mark.parametrize("line", lines_of(LINES))
def test_what_was_promised_is_there(line: str) -> None:
    assert line in lines_of(DECLARATIONS)
