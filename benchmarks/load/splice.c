/* A relay between two TCP connections, by read and send or by splice(2): what does the CPU's time for a MiB differ? docs/piping.md has what was found.

       cc -O2 -pthread -o /tmp/splice benchmarks/load/splice.c && /tmp/splice copy 512 && /tmp/splice splice 512

   One thread sends, one relays and is measured, one receives and counts. Both ways wait in epoll, move at most 64 KiB a call, and take at most two
   pieces for an event, as pybuntcp does. It does not know pybuntcp. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PIECE = 65536, PIECES = 2, BLOCK = 1 << 18 };

static size_t total;
static int epoll;

static void check(int fine, const char *what) {
    if (!fine) {
        perror(what);
        exit(1);
    }
}

static void connected_pair(int *client, int *server) {
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof name;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    check(bind(listener, (struct sockaddr *)&name, size) == 0 && listen(listener, 1) == 0, "listen");
    getsockname(listener, (struct sockaddr *)&name, &size);
    *client = socket(AF_INET, SOCK_STREAM, 0);
    check(connect(*client, (struct sockaddr *)&name, size) == 0, "connect");
    *server = accept(listener, NULL, NULL);
    close(listener);
}

static void *send_all(void *fd) {
    char *block = calloc(1, BLOCK);
    for (size_t left = total; left != 0;) {
        ssize_t sent = write(*(int *)fd, block, left < BLOCK ? left : BLOCK);
        check(sent > 0, "write");
        left -= sent;
    }
    shutdown(*(int *)fd, SHUT_WR);
    return NULL;
}

static void *receive_all(void *fd) {
    char *block = malloc(BLOCK);
    size_t received = 0;
    for (ssize_t size; (size = read(*(int *)fd, block, BLOCK)) > 0;)
        received += size;
    check(received == total, "bytes were lost");
    return NULL;
}

/* The kernel is full: wait until it takes more. */
static void wait_writable(int fd) {
    struct epoll_event event = {.events = EPOLLOUT, .data.fd = fd};
    int watch = epoll_create1(0);
    check(errno == EAGAIN, "send");
    epoll_ctl(watch, EPOLL_CTL_ADD, fd, &event);
    epoll_wait(watch, &event, 1, -1);
    close(watch);
}

/* One piece: bytes moved, 0 at the end, -1 if there are none now. */
static ssize_t copy_piece(int from, int to, char *memory) {
    ssize_t size = read(from, memory, PIECE);
    for (ssize_t sent = 0, more; sent < size; sent += more > 0 ? more : 0)
        if ((more = send(to, memory + sent, size - sent, MSG_NOSIGNAL)) < 0)
            wait_writable(to);
    return size;
}

static ssize_t splice_piece(int from, int to, int *through) {
    ssize_t size = splice(from, NULL, through[1], NULL, PIECE, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    for (ssize_t sent = 0, more; sent < size; sent += more > 0 ? more : 0)
        if ((more = splice(through[0], NULL, to, NULL, size - sent, SPLICE_F_MOVE | SPLICE_F_NONBLOCK)) < 0)
            wait_writable(to);
    return size;
}

static void relay(int from, int to, int by_splice) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = from};
    char *memory = malloc(PIECE);
    int through[2];
    ssize_t moved = 1;
    check(pipe2(through, O_NONBLOCK) == 0, "pipe2");
    epoll_ctl(epoll, EPOLL_CTL_ADD, from, &event);
    while (moved != 0) {
        epoll_wait(epoll, &event, 1, -1);
        moved = 1;
        for (int i = 0; i < PIECES && moved > 0; i++)
            moved = by_splice ? splice_piece(from, to, through) : copy_piece(from, to, memory);
    }
    shutdown(to, SHUT_WR);
}

int main(int count, char **words) {
    int sender, in, out, receiver;
    pthread_t sending, receiving;
    struct timespec cpu;
    check(count == 3, "usage: splice copy|splice MIB");
    total = (size_t)atol(words[2]) << 20;
    epoll = epoll_create1(0);
    connected_pair(&sender, &in);
    connected_pair(&out, &receiver);
    fcntl(in, F_SETFL, O_NONBLOCK);
    fcntl(out, F_SETFL, O_NONBLOCK);
    pthread_create(&sending, NULL, send_all, &sender);
    pthread_create(&receiving, NULL, receive_all, &receiver);
    relay(in, out, strcmp(words[1], "splice") == 0);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
    pthread_join(sending, NULL);
    pthread_join(receiving, NULL);
    printf("%s: %.0f us of CPU for a MiB\n", words[1], (cpu.tv_sec * 1e6 + cpu.tv_nsec / 1e3) / (total >> 20));
    return 0;
}
