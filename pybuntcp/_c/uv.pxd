# cython: language_level=3
"""uv: libuv's names, as far as pybuntcp uses them. Used as `uv.x`, never shipped.

Only those members of structs are declared that we read or write. All of it is in libuv 1.52, the oldest that is taken, and later.
"""
from libc.stdint cimport int64_t, uint64_t

from pybuntcp._c.net cimport sockaddr

cdef extern from "uv.h" nogil:
    ctypedef enum uv_run_mode:
        UV_RUN_DEFAULT, UV_RUN_ONCE, UV_RUN_NOWAIT

    cdef enum uv_handle_type:
        UV_TCP

    cdef enum uv_poll_event:
        UV_READABLE, UV_DISCONNECT

    cdef enum:
        UV_EOF, UV_EAGAIN, UV_ENOMEM, UV_ETIMEDOUT, UV_EPIPE, UV_ENOBUFS, UV_EPROTO, UV_ECONNABORTED
        UV_ECONNREFUSED, UV_EADDRNOTAVAIL, UV_EAFNOSUPPORT, UV_EHOSTUNREACH
        UV_ENETUNREACH, UV_EEXIST, UV_EINVAL, UV_ENOTCONN, UV_ENAMETOOLONG
        UV_EAI_ADDRFAMILY, UV_EAI_AGAIN, UV_EAI_BADFLAGS
        UV_EAI_FAIL, UV_EAI_FAMILY, UV_EAI_MEMORY, UV_EAI_NODATA, UV_EAI_NONAME
        UV_EAI_OVERFLOW, UV_EAI_SERVICE, UV_EAI_SOCKTYPE

    ctypedef struct uv_buf_t:
        char* base
        size_t len

    ctypedef struct uv_loop_t:
        void* data

    ctypedef struct uv_handle_t:
        void* data
        uv_loop_t* loop
        uv_handle_type type

    ctypedef struct uv_stream_t:
        void* data
        uv_loop_t* loop

    ctypedef struct uv_tcp_t:
        void* data
        uv_loop_t* loop

    ctypedef struct uv_prepare_t:
        void* data
        uv_loop_t* loop

    ctypedef struct uv_check_t:
        void* data
        uv_loop_t* loop

    ctypedef struct uv_idle_t:
        void* data
        uv_loop_t* loop

    ctypedef struct uv_timer_t:
        void* data
        uv_loop_t* loop

    ctypedef struct uv_poll_t:
        void* data
        uv_loop_t* loop

    ctypedef struct uv_connect_t:
        void* data
        uv_stream_t* handle

    ctypedef struct uv_async_t:
        void* data
        uv_loop_t* loop

    ctypedef struct uv_mutex_t:
        pass

    ctypedef struct uv_cond_t:
        pass

    ctypedef void (*uv_alloc_cb)(uv_handle_t*, size_t, uv_buf_t*) noexcept nogil
    ctypedef void (*uv_read_cb)(uv_stream_t*, ssize_t, const uv_buf_t*) noexcept nogil
    ctypedef void (*uv_connect_cb)(uv_connect_t*, int) noexcept nogil
    ctypedef void (*uv_close_cb)(uv_handle_t*) noexcept nogil
    ctypedef void (*uv_walk_cb)(uv_handle_t*, void*) noexcept nogil
    ctypedef void (*uv_prepare_cb)(uv_prepare_t*) noexcept nogil
    ctypedef void (*uv_check_cb)(uv_check_t*) noexcept nogil
    ctypedef void (*uv_idle_cb)(uv_idle_t*) noexcept nogil
    ctypedef void (*uv_timer_cb)(uv_timer_t*) noexcept nogil
    ctypedef void (*uv_poll_cb)(uv_poll_t*, int, int) noexcept nogil
    ctypedef void (*uv_async_cb)(uv_async_t*) noexcept nogil

    const char* uv_version_string()
    const char* uv_strerror(int)
    const char* uv_err_name(int)
    uint64_t uv_hrtime()

    int uv_loop_init(uv_loop_t*)
    int uv_loop_close(uv_loop_t*)
    int uv_loop_fork(uv_loop_t*)
    int uv_run(uv_loop_t*, uv_run_mode)
    void uv_stop(uv_loop_t*)
    uint64_t uv_now(const uv_loop_t*)
    void uv_update_time(uv_loop_t*)
    int uv_backend_fd(const uv_loop_t*)
    int uv_backend_timeout(const uv_loop_t*)
    void uv_walk(uv_loop_t*, uv_walk_cb, void*)

    void uv_close(uv_handle_t*, uv_close_cb)
    int uv_is_closing(const uv_handle_t*)
    int uv_is_active(const uv_handle_t*)
    void uv_ref(uv_handle_t*)
    void uv_unref(uv_handle_t*)
    int uv_fileno(const uv_handle_t*, int*)

    int uv_prepare_init(uv_loop_t*, uv_prepare_t*)
    int uv_prepare_start(uv_prepare_t*, uv_prepare_cb)
    int uv_check_init(uv_loop_t*, uv_check_t*)
    int uv_check_start(uv_check_t*, uv_check_cb)
    int uv_idle_init(uv_loop_t*, uv_idle_t*)
    int uv_idle_start(uv_idle_t*, uv_idle_cb)
    int uv_idle_stop(uv_idle_t*)
    int uv_timer_init(uv_loop_t*, uv_timer_t*)
    int uv_timer_start(uv_timer_t*, uv_timer_cb, uint64_t, uint64_t)
    int uv_timer_stop(uv_timer_t*)
    int uv_poll_init(uv_loop_t*, uv_poll_t*, int)
    int uv_poll_start(uv_poll_t*, int, uv_poll_cb)
    int uv_poll_stop(uv_poll_t*)

    int uv_tcp_init(uv_loop_t*, uv_tcp_t*)
    int uv_tcp_open(uv_tcp_t*, int)
    int uv_tcp_connect(uv_connect_t*, uv_tcp_t*, const sockaddr*, uv_connect_cb)

    int uv_read_start(uv_stream_t*, uv_alloc_cb, uv_read_cb)
    int uv_read_stop(uv_stream_t*)

    int uv_async_init(uv_loop_t*, uv_async_t*, uv_async_cb)
    int uv_async_send(uv_async_t*)
    int uv_mutex_init(uv_mutex_t*)
    void uv_mutex_destroy(uv_mutex_t*)
    void uv_mutex_lock(uv_mutex_t*)
    void uv_mutex_unlock(uv_mutex_t*)
    int uv_cond_init(uv_cond_t*)
    void uv_cond_signal(uv_cond_t*)
    int uv_cond_timedwait(uv_cond_t*, uv_mutex_t*, uint64_t)

    int uv_ip4_addr(const char*, int, void*)
    int uv_ip6_addr(const char*, int, void*)
    int uv_inet_ntop(int, const void*, char*, size_t)

cdef extern from * nogil:
    """
    /* Out of line on purpose: inlined at each of its thirty callers, it would not be where bytes are sent. */
    #if defined(__GNUC__)
    __attribute__((noinline))
    #endif
    static int pbt_fileno(const uv_handle_t* handle) {
        int fd = -1;
        uv_fileno(handle, &fd);
        return fd;
    }
    """
    int pbt_fileno(const uv_handle_t*)
