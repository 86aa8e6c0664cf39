"""descriptors: those that our loops own, and what a fork does to them.

The problem: `fork` copies every descriptor. A forked child that holds a copy of a connection keeps
it open: the parent's `close` sends no FIN, and a port stays bound. The loops of the thread that
forked are abandoned in the child as any loop is. The loop that turned in another thread was in the
middle of something, and that thread does not exist in the child: nothing of its memory can be used.
The rule: a bitmap tells which descriptors are our loops'. The child closes those that are left in
it when its own thread's loops have let go of theirs. close(2) of a copy changes nothing in the
parent, its epoll instance included.

The kernel copies the table of descriptors first and memory after it, and the parent's other threads
go on meanwhile. So a descriptor that is closed during a fork, or was opened during one, is shut down
before it is closed (`descriptor_release`): a copy in a child is nothing to the peer. And the bitmap may
have one that the child has not: the child's first act is to forget those, before anything there opens
a descriptor.

Left out: a child of a fork in C that runs no hook of Python's keeps its copies until it ends or
calls exec; so do copies that a user made (dup, SCM_RIGHTS); descriptors of a million and more.
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
    static unsigned long pbt_copied[PBT_DESCRIPTORS / PBT_WORD];    /* owned, and perhaps in a child that cannot know */
    static unsigned long pbt_forks_begun, pbt_forks_ended;          /* in any thread */

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
    /* True: a child may hold it that will not give it back. */
    static inline int pbt_disown(int fd) {
        if (!pbt_tracked(fd)) return 0;
        __atomic_fetch_and(&pbt_owned[fd / PBT_WORD], ~pbt_bit(fd), __ATOMIC_SEQ_CST);
        if (!(__atomic_load_n(&pbt_copied[fd / PBT_WORD], __ATOMIC_RELAXED) & pbt_bit(fd)))
            return pbt_forked_since(pbt_stamp());
        __atomic_fetch_and(&pbt_copied[fd / PBT_WORD], ~pbt_bit(fd), __ATOMIC_SEQ_CST);
        return 1;
    }

    /* Tell `act` of every descriptor that is owned. */
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
    static void pbt_give_back(int fd) {
        pbt_disown(fd);
        close(fd);
    }
    static void pbt_give_back_owned(void) { pbt_each_owned(pbt_give_back); }

    static void pbt_fork_begins(void) { __atomic_add_fetch(&pbt_forks_begun, 1, __ATOMIC_SEQ_CST); }
    static void pbt_fork_ends(void) { __atomic_add_fetch(&pbt_forks_ended, 1, __ATOMIC_SEQ_CST); }
    static void pbt_fork_in_child(void) {
        int i;
        pbt_forks_ended = pbt_forks_begun;
        for (i = 0; i < PBT_DESCRIPTORS / PBT_WORD; i++)
            if (pbt_copied[i] != 0) pbt_copied[i] = 0;
        pbt_each_owned(pbt_forget_missing);
    }
    static int pbt_hear_of_forks(void) {
        return pthread_atfork(pbt_fork_begins, pbt_fork_ends, pbt_fork_in_child);
    }

    /* End it for every process that holds it, as close(2) would do if nobody else did: by RST, or by FIN. */
    static void pbt_part(int fd) {
        struct sockaddr nobody = {0};       /* AF_UNSPEC: Linux takes the connection apart, and sends RST */
        struct linger linger = {0};
        socklen_t size = sizeof linger;
        getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &size);
        if (!linger.l_onoff || connect(fd, &nobody, sizeof nobody) != 0) shutdown(fd, SHUT_RDWR);
    }
    """
    unsigned long pbt_stamp()
    void pbt_own(int fd, unsigned long stamp)
    bint pbt_disown(int fd)
    void pbt_part(int fd)
    void pbt_give_back_owned()
    int pbt_hear_of_forks()


cdef inline unsigned long descriptors_fork_stamp() noexcept nogil:
    """To be taken before a descriptor is opened."""
    return pbt_stamp()


cdef inline void descriptor_track(int fd, unsigned long stamp) noexcept nogil:
    """A loop owns it from now on."""
    pbt_own(fd, stamp)


cdef inline void descriptor_release(int fd) noexcept nogil:
    """Its owner closes it now."""
    if pbt_disown(fd):
        pbt_part(fd)


cdef inline void descriptor_release_shared(int fd) noexcept nogil:
    """As `descriptor_release`, where others share it on purpose: it stays as it is for them."""
    pbt_disown(fd)


cdef void descriptors_close_inherited() noexcept nogil:
    """In a forked child: close all that are owned still."""
    pbt_give_back_owned()


pbt_hear_of_forks()
