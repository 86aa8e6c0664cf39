"""descriptors: which descriptors our loops own, and what a fork does to them.

The problem: `fork` copies every descriptor. A child that holds a copy of a connection keeps it open: the parent's
`close` sends no FIN, and a port stays bound. The child abandons the loops of the thread that forked, which closes their
descriptors (see loop/after_fork). But a loop that another thread was turning may be in an inconsistent state, and that
thread does not exist in the child, so the child cannot use any of the loop's memory to find its descriptors.
The rule: a bitmap, one bit a descriptor, says which ones belong to our loops. The child first abandons the loops of its
own thread, then closes every descriptor that is still in the bitmap. close(2) of a copy changes nothing in the parent,
its epoll instance included.

The kernel copies the table of descriptors first and the memory afterwards, and the parent's other threads run
meanwhile. Two things follow. A descriptor that is opened or closed during a fork may have a copy in a child that does
not know of it; so it is shut down before it is closed (`descriptor_release`), and the peer sees the end although the
copy exists. And the bitmap may contain a descriptor that the child does not have; so the child removes those first,
before anything there opens a descriptor.

Left out: a child of a fork in C that runs no hook of Python's keeps its copies until it exits or calls exec; so do
copies that a user made (dup, SCM_RIGHTS); descriptors from 1,048,576 on.
Does not know sockets or loops.
"""


cdef extern from * nogil:
    """
    #include <fcntl.h>
    #include <pthread.h>
    #include <sys/socket.h>
    #include <unistd.h>

    #define PBT_WORD (8 * (int)sizeof(unsigned long))
    #define PBT_DESCRIPTORS (1 << 20)

    static unsigned long pbt_owned[PBT_DESCRIPTORS / PBT_WORD];
    static unsigned long pbt_copied[PBT_DESCRIPTORS / PBT_WORD];    /* opened during a fork: a child may have a copy */
    static unsigned long pbt_forks_begun, pbt_forks_ended;          /* counts of all threads */

    static inline unsigned long pbt_bit(int fd) { return 1UL << fd % PBT_WORD; }
    static inline int pbt_tracked(int fd) { return fd >= 0 && fd < PBT_DESCRIPTORS; }

    static inline unsigned long pbt_stamp(void) { return __atomic_load_n(&pbt_forks_ended, __ATOMIC_SEQ_CST); }
    static inline int pbt_forked_since(unsigned long stamp) {
        return __atomic_load_n(&pbt_forks_begun, __ATOMIC_SEQ_CST) != stamp;
    }
    static inline void pbt_own(int fd, unsigned long stamp) {
        if (!pbt_tracked(fd)) return;
        __atomic_fetch_or(&pbt_owned[fd / PBT_WORD], pbt_bit(fd), __ATOMIC_SEQ_CST);
        if (pbt_forked_since(stamp))
            __atomic_fetch_or(&pbt_copied[fd / PBT_WORD], pbt_bit(fd), __ATOMIC_SEQ_CST);
    }
    /* True: a child may have a copy that it does not know of and will not close. */
    static inline int pbt_disown(int fd) {
        if (!pbt_tracked(fd)) return 0;
        __atomic_fetch_and(&pbt_owned[fd / PBT_WORD], ~pbt_bit(fd), __ATOMIC_SEQ_CST);
        if (!(__atomic_load_n(&pbt_copied[fd / PBT_WORD], __ATOMIC_RELAXED) & pbt_bit(fd)))
            return pbt_forked_since(pbt_stamp());
        __atomic_fetch_and(&pbt_copied[fd / PBT_WORD], ~pbt_bit(fd), __ATOMIC_SEQ_CST);
        return 1;
    }

    static inline int pbt_is_owned(int fd) {
        return pbt_tracked(fd) && (__atomic_load_n(&pbt_owned[fd / PBT_WORD], __ATOMIC_RELAXED) & pbt_bit(fd)) != 0;
    }

    /* Call `act` with every descriptor that is owned. */
    static void pbt_each_owned(void (*act)(int)) {
        int i, bit;
        for (i = 0; i < PBT_DESCRIPTORS / PBT_WORD; i++)
            for (bit = 0; pbt_owned[i] >> bit != 0; bit++) {
                if (pbt_owned[i] >> bit & 1) act(i * PBT_WORD + bit);
                if (bit == PBT_WORD - 1) break;
            }
    }
    static void pbt_forget_missing(int fd) {
        if (fcntl(fd, F_GETFD) < 0) pbt_disown(fd);
    }
    static void pbt_close(int fd) {
        pbt_disown(fd);
        close(fd);
    }
    static void pbt_close_owned(void) { pbt_each_owned(pbt_close); }

    static void pbt_fork_begins(void) { __atomic_add_fetch(&pbt_forks_begun, 1, __ATOMIC_SEQ_CST); }
    static void pbt_fork_ends(void) { __atomic_add_fetch(&pbt_forks_ended, 1, __ATOMIC_SEQ_CST); }
    static void pbt_fork_in_child(void) {
        int i;
        pbt_forks_ended = pbt_forks_begun;
        for (i = 0; i < PBT_DESCRIPTORS / PBT_WORD; i++)
            if (pbt_copied[i] != 0) pbt_copied[i] = 0;
        pbt_each_owned(pbt_forget_missing);
    }
    static int pbt_watch_forks(void) {
        return pthread_atfork(pbt_fork_begins, pbt_fork_ends, pbt_fork_in_child);
    }

    /* End the connection for every process that has the descriptor, as the last close(2) would: by RST if SO_LINGER is
       on, else by FIN. */
    static void pbt_disconnect(int fd) {
        struct sockaddr unspecified = {0};  /* AF_UNSPEC: Linux dissolves the connection and sends RST (connect(2)) */
        struct linger linger = {0};
        socklen_t size = sizeof linger;
        getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &size);
        if (!linger.l_onoff || connect(fd, &unspecified, sizeof unspecified) != 0) shutdown(fd, SHUT_RDWR);
    }
    """
    unsigned long pbt_stamp()
    void pbt_own(int fd, unsigned long stamp)
    bint pbt_disown(int fd)
    bint pbt_is_owned(int fd)
    void pbt_disconnect(int fd)
    void pbt_close_owned()
    int pbt_watch_forks()


cdef inline unsigned long descriptors_fork_stamp() noexcept nogil:
    """How many forks have ended. Call this before a descriptor is opened, and pass it to `descriptor_track`."""
    return pbt_stamp()


cdef inline void descriptor_track(int fd, unsigned long stamp) noexcept nogil:
    """A loop owns the descriptor from now on."""
    pbt_own(fd, stamp)


cdef inline bint descriptor_is_owned(int fd) noexcept nogil:
    """True if a loop of ours owns it. A second owner would close it twice."""
    return pbt_is_owned(fd)


cdef inline void descriptor_release(int fd) noexcept nogil:
    """The owner is about to close the descriptor."""
    if pbt_disown(fd):
        pbt_disconnect(fd)


cdef inline void descriptor_release_shared(int fd) noexcept nogil:
    """As `descriptor_release`, for a socket that other processes share on purpose: it is not shut down."""
    pbt_disown(fd)


cdef void descriptors_close_inherited() noexcept nogil:
    """In a forked child: close every descriptor that is still owned."""
    pbt_close_owned()


pbt_watch_forks()
