# cython: language_level=3
"""resolver: the system's resolver, its errors by libuv's numbers, and its threads. Used as `resolver.x`, never shipped.

`getaddrinfo` cannot be interrupted, so a thread that calls it is never joined: it is detached from the start.
"""
from pybuntcp._c.net cimport addrinfo

cdef extern from * nogil:
    """
    #include <errno.h>
    #include <netdb.h>
    #include <pthread.h>
    #include <signal.h>
    #include <uv.h>

    /* libuv's number for a result of getaddrinfo. With EAI_SYSTEM, errno has the reason. */
    static int pbt_lookup_code(int code) {
        switch (code) {
        case 0: return 0;
    #define PBT_NUMBERED(name) case name: return UV_##name;
    #ifdef EAI_ADDRFAMILY
        PBT_NUMBERED(EAI_ADDRFAMILY)
    #endif
    #ifdef EAI_CANCELED
        PBT_NUMBERED(EAI_CANCELED)
    #endif
    #if defined(EAI_NODATA) && EAI_NODATA != EAI_NONAME
        PBT_NUMBERED(EAI_NODATA)
    #endif
    #ifdef EAI_OVERFLOW
        PBT_NUMBERED(EAI_OVERFLOW)
    #endif
        PBT_NUMBERED(EAI_AGAIN)
        PBT_NUMBERED(EAI_BADFLAGS)
        PBT_NUMBERED(EAI_FAIL)
        PBT_NUMBERED(EAI_FAMILY)
        PBT_NUMBERED(EAI_MEMORY)
        PBT_NUMBERED(EAI_NONAME)
        PBT_NUMBERED(EAI_SERVICE)
        PBT_NUMBERED(EAI_SOCKTYPE)
    #undef PBT_NUMBERED
        case EAI_SYSTEM: return errno != 0 ? -errno : UV_EAI_FAIL;
        default: return UV_EAI_FAIL;
        }
    }
    /* Start a detached thread to which no signal is delivered. Returns 0 or a negative errno. Modules of the C
       library's resolver need more stack than musl gives a thread. Unused pages of it take no memory. */
    static int pbt_thread_start(void* (*run)(void*)) {
        enum { STACK = 1 << 20 };
        pthread_attr_t kind;
        pthread_t thread;
        sigset_t every, before;
        int rc = pthread_attr_init(&kind);
        if (rc != 0) return -rc;
        pthread_attr_setdetachstate(&kind, PTHREAD_CREATE_DETACHED);
        pthread_attr_setstacksize(&kind, STACK);
        sigfillset(&every);
        pthread_sigmask(SIG_SETMASK, &every, &before);
        rc = pthread_create(&thread, &kind, run, NULL);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        pthread_attr_destroy(&kind);
        return -rc;
    }
    """
    int pbt_lookup_code(int)
    int pbt_thread_start(void* (*)(void*) noexcept nogil)
    int pthread_atfork(void (*)() noexcept nogil, void (*)() noexcept nogil, void (*)() noexcept nogil)
    int getaddrinfo(const char*, const char*, const addrinfo*, addrinfo**)
    void freeaddrinfo(addrinfo*)
