/* The limit: what the same work costs when a C programmer does nothing but the system calls. One thread (`--threads N`: N, each with its own epoll and listener), level-triggered, one read and one write an event.

   Promises: the protocol of this folder (README.md, "A peer is a file"): prints `LISTENING <port or path>` when ready and serves until it is ended; loses no byte
   when the kernel takes a write in part (the tail is kept, reading stops until it has left).
   `--mode five` makes five 20-byte system calls of a 100-byte message, as the words say; `--gather` is what a C programmer would do instead: one write for all of them. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { EVENTS = 1024, READ_SIZE = 1 << 16, PIECE = 20, BACKLOG = 4096 };

struct tail {
    char *bytes;  /* owned; NULL when nothing waits */
    size_t length;
};

static _Thread_local int poller, listener;
static _Thread_local char input[READ_SIZE], output[READ_SIZE];
static bool five, gather;
static struct tail *tails;  /* by descriptor */
static int descriptors;

static _Noreturn void die(const char *what) {
    perror(what);
    exit(1);
}

static void watch(int operation, int fd, uint32_t events) {
    struct epoll_event e = {.events = events, .data.fd = fd};
    if (epoll_ctl(poller, operation, fd, &e) < 0) die("epoll_ctl");
}

static void drop(int fd) {
    free(tails[fd].bytes);
    tails[fd] = (struct tail){0};
    close(fd);
}

static void keep(int fd, const char *bytes, size_t length) {
    struct tail *t = &tails[fd];
    if (!t->bytes) watch(EPOLL_CTL_MOD, fd, EPOLLOUT);
    t->bytes = realloc(t->bytes, t->length + length);
    if (!t->bytes) die("realloc");
    memcpy(t->bytes + t->length, bytes, length);
    t->length += length;
}

static void put(int fd, const char *bytes, size_t length) {
    ssize_t n = tails[fd].bytes ? 0 : send(fd, bytes, length, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) return;  /* the next read tells the same */
    if (n < 0) n = 0;
    if ((size_t)n < length) keep(fd, bytes + n, length - (size_t)n);
}

static void put_pieces(int fd, size_t length) {
    for (size_t at = 0; at < length; at += PIECE) put(fd, input + at, length - at < PIECE ? length - at : PIECE);
}

static void put_gathered(int fd, size_t length) {
    for (size_t at = 0; at < length; at += PIECE) memcpy(output + at, input + at, length - at < PIECE ? length - at : PIECE);
    put(fd, output, length);
}

static void on_readable(int fd) {
    ssize_t n = recv(fd, input, READ_SIZE, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) drop(fd);
    else if (!five) put(fd, input, (size_t)n);
    else if (gather) put_gathered(fd, (size_t)n);
    else put_pieces(fd, (size_t)n);
}

static void on_writable(int fd) {
    struct tail t = tails[fd];
    ssize_t n = send(fd, t.bytes, t.length, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) return;
    if (n < 0) {
        drop(fd);
        return;
    }
    tails[fd].length -= (size_t)n;
    memmove(t.bytes, t.bytes + n, tails[fd].length);
    if (tails[fd].length > 0) return;
    free(t.bytes);
    tails[fd].bytes = NULL;
    watch(EPOLL_CTL_MOD, fd, EPOLLIN);
}

static void on_connections(void) {
    int yes = 1;
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        if (fd >= descriptors) die("more connections than descriptors");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        watch(EPOLL_CTL_ADD, fd, EPOLLIN);
    }
}

static int listen_tcp(const char *host, int port, bool shared) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t length = sizeof a;
    int yes = 1;
    if (inet_pton(AF_INET, host, &a.sin_addr) != 1) die(host);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (shared) setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&a, sizeof a) < 0 || listen(listener, BACKLOG) < 0) die("listen");
    getsockname(listener, (struct sockaddr *)&a, &length);
    return ntohs(a.sin_port);
}

static void listen_unix(const char *path) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&a, sizeof a) < 0 || listen(listener, BACKLOG) < 0) die("listen");
    printf("LISTENING %s\n", path);
}

static void make_tails(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    descriptors = limit.rlim_cur < 1 << 20 ? (int)limit.rlim_cur : 1 << 20;
    tails = calloc((size_t)descriptors, sizeof *tails);
    if (!tails) die("calloc");
}

static void *serve(void *kept) {
    struct epoll_event events[EVENTS];
    poller = epoll_create1(EPOLL_CLOEXEC);
    listener = (int)(intptr_t)kept;
    watch(EPOLL_CTL_ADD, listener, EPOLLIN);
    for (;;) {
        int n = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) on_connections();
            else if (tails[fd].bytes) on_writable(fd);
            else on_readable(fd);
        }
    }
    return NULL;
}

int main(int argc, char **argv) {
    static const struct option options[] = {{"mode", 1, 0, 'm'}, {"host", 1, 0, 'h'}, {"port", 1, 0, 'p'}, {"unix", 1, 0, 'u'}, {"gather", 0, 0, 'g'}, {"threads", 1, 0, 't'}, {0, 0, 0, 0}};
    const char *host = "127.0.0.1", *path = NULL;
    int port = 0, threads = 1;
    pthread_t thread;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) switch (o) {
        case 'm': five = !strcmp(optarg, "five"); break;
        case 'h': host = optarg; break;
        case 'p': port = atoi(optarg); break;
        case 'u': path = optarg; break;
        case 'g': gather = true; break;
        case 't': threads = atoi(optarg); break;
        default: return 2;
        }
    make_tails();
    if (path) listen_unix(path);
    for (int i = 0; i < threads && !path; i++) {
        port = listen_tcp(host, port, threads > 1);
        if (i + 1 < threads) pthread_create(&thread, NULL, serve, (void *)(intptr_t)listener);
    }
    if (!path) printf("LISTENING %d\n", port);
    fflush(stdout);
    serve((void *)(intptr_t)listener);
}
