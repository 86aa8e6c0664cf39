/* The limit: what the same work costs when a C programmer does nothing but the system calls. One thread (`--threads N`: N, each with its own epoll and listener), level-triggered, one read and one write an event.

   Promises: the protocol of this folder (README.md, "A peer is a file"): prints `LISTENING <port or path>` when ready and serves until it is ended; loses no byte
   when the kernel takes a write in part (the tail is kept, reading stops until it has left).
   `--mode five` makes five 20-byte system calls of a 100-byte message, as the words say; `--gather` is what a C programmer would do instead: one write for all of them.
   `upload`, `download`, `fanout` and `http` are those of README.md. The block of a download, which belongs to no connection, is sent without a copy. */

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

enum { EVENTS = 1024, READ_SIZE = 1 << 16, PIECE = 20, BACKLOG = 4096, BLOCK = 1 << 20, UNSENT_AT_MOST = 1 << 16 };

struct connection {
    bool open;
    char *kept;         /* owned; NULL when nothing waits, or what waits is the block's */
    const char *tail;   /* what waits, inside of `kept` or of the block */
    size_t length;      /* ... so much of it */
    size_t received;    /* upload: of the message that is coming */
};

typedef void answer_t(int fd, size_t length);

static _Thread_local int poller, listener;
static _Thread_local char input[READ_SIZE], output[READ_SIZE];
static char block[BLOCK];
static answer_t *answer;
static struct connection *connections;  /* by descriptor */
static int descriptors, highest;        /* highest: the largest descriptor that was ever open */

static _Noreturn void die(const char *what) {
    perror(what);
    exit(1);
}

static void watch(int operation, int fd, uint32_t events) {
    struct epoll_event e = {.events = events, .data.fd = fd};
    if (epoll_ctl(poller, operation, fd, &e) < 0) die("epoll_ctl");
}

static void drop(int fd) {
    free(connections[fd].kept);
    connections[fd] = (struct connection){0};
    close(fd);
}

/* --- writing --- */

/* Wait until the kernel takes more. `owned`: the bytes are gone when this returns. */
static void keep(int fd, const char *bytes, size_t length, bool owned) {
    struct connection *c = &connections[fd];
    if (c->length == 0) watch(EPOLL_CTL_MOD, fd, EPOLLOUT);
    if (owned) {
        char *kept = malloc(c->length + length);
        if (!kept) die("malloc");
        if (c->length) memcpy(kept, c->tail, c->length);
        memcpy(kept + c->length, bytes, length);
        free(c->kept);
        c->kept = kept;
    }
    c->tail = owned ? c->kept : bytes;
    c->length += length;
}

static void put_some(int fd, const char *bytes, size_t length, bool owned) {
    ssize_t n = connections[fd].length ? 0 : send(fd, bytes, length, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) return;  /* the next read reports the same */
    if (n < 0) n = 0;
    if ((size_t)n < length) keep(fd, bytes + n, length - (size_t)n, owned);
}

static void put(int fd, const char *bytes, size_t length) { put_some(fd, bytes, length, true); }

/* --- the answers --- */

static void echo(int fd, size_t length) { put(fd, input, length); }

static void five(int fd, size_t length) {
    for (size_t at = 0; at < length; at += PIECE) put(fd, input + at, length - at < PIECE ? length - at : PIECE);
}

static void five_gathered(int fd, size_t length) {
    for (size_t at = 0; at < length; at += PIECE) memcpy(output + at, input + at, length - at < PIECE ? length - at : PIECE);
    put(fd, output, length);
}

static void upload(int fd, size_t length) {
    struct connection *c = &connections[fd];
    c->received += length;
    for (; c->received >= BLOCK; c->received -= BLOCK) put(fd, block, 1);
}

/* One block for each request: the load waits for it before it asks again. */
static void download(int fd, size_t length) {
    if (length == 1) put_some(fd, block, BLOCK, false);
    else drop(fd);
}

static void fanout(int from, size_t length) {
    for (int fd = 0; fd <= highest; fd++)
        if (connections[fd].open && fd != from && connections[fd].length + length <= UNSENT_AT_MOST) put(fd, input, length);
}

static void http(int fd, size_t length) {
    static const char reply[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!";
    for (const char *at = input, *end; (end = memmem(at, length - (size_t)(at - input), "\r\n\r\n", 4)); at = end + 4) put(fd, reply, sizeof reply - 1);
}

static answer_t *answer_of(const char *mode, bool gather) {
    static const struct { const char *mode; answer_t *answer; } answers[] = {
        {"echo", echo}, {"five", five}, {"upload", upload}, {"download", download}, {"fanout", fanout}, {"http", http}};
    if (gather && !strcmp(mode, "five")) return five_gathered;
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++)
        if (!strcmp(mode, answers[i].mode)) return answers[i].answer;
    fprintf(stderr, "no mode %s\n", mode);
    exit(2);
}

/* --- events --- */

static void on_readable(int fd) {
    ssize_t n = recv(fd, input, READ_SIZE, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) drop(fd);
    else answer(fd, (size_t)n);
}

static void on_writable(int fd) {
    struct connection *c = &connections[fd];
    ssize_t n = send(fd, c->tail, c->length, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) return;
    if (n < 0) {
        drop(fd);
        return;
    }
    c->tail += n;
    c->length -= (size_t)n;
    if (c->length > 0) return;
    free(c->kept);
    c->kept = NULL;
    watch(EPOLL_CTL_MOD, fd, EPOLLIN);
}

static void on_connections(void) {
    int yes = 1;
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        if (fd >= descriptors) die("more connections than descriptors");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        watch(EPOLL_CTL_ADD, fd, EPOLLIN);
        connections[fd].open = true;
        if (fd > highest) highest = fd;
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

static void make_connections(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    descriptors = limit.rlim_cur < 1 << 20 ? (int)limit.rlim_cur : 1 << 20;
    connections = calloc((size_t)descriptors, sizeof *connections);
    if (!connections) die("calloc");
    memset(block, '!', BLOCK);
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
            else if (connections[fd].length) on_writable(fd);
            else on_readable(fd);
        }
    }
    return NULL;
}

int main(int argc, char **argv) {
    static const struct option options[] = {{"mode", 1, 0, 'm'}, {"host", 1, 0, 'h'}, {"port", 1, 0, 'p'}, {"unix", 1, 0, 'u'}, {"gather", 0, 0, 'g'}, {"threads", 1, 0, 't'}, {0, 0, 0, 0}};
    const char *host = "127.0.0.1", *path = NULL, *mode = "echo";
    bool gather = false;
    int port = 0, threads = 1;
    pthread_t thread;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) switch (o) {
        case 'm': mode = optarg; break;
        case 'h': host = optarg; break;
        case 'p': port = atoi(optarg); break;
        case 'u': path = optarg; break;
        case 'g': gather = true; break;
        case 't': threads = atoi(optarg); break;
        default: return 2;
        }
    answer = answer_of(mode, gather);
    make_connections();
    if (path) listen_unix(path);
    for (int i = 0; i < threads && !path; i++) {
        port = listen_tcp(host, port, threads > 1);
        if (i + 1 < threads) pthread_create(&thread, NULL, serve, (void *)(intptr_t)listener);
    }
    if (!path) printf("LISTENING %d\n", port);
    fflush(stdout);
    serve((void *)(intptr_t)listener);
}
