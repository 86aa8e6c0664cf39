/* The other limit: what the same echo costs when a C programmer uses libuv as its guide does. One loop, one slab to read into, `uv_try_write`, and a write request for what is left.

   Promises: the protocol of this folder (README.md, "A peer is a file"), for `echo`: prints `LISTENING <port>` when ready and serves until it is ended; loses no byte
   (reading stops until what the kernel did not take has left). The libuv is the one that pybuntcp is built with. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <uv.h>

enum { READ_SIZE = 1 << 16, BACKLOG = 4096 };

struct rest {
    uv_write_t request;  /* first: they share an address */
    char bytes[];
};

static char slab[READ_SIZE];

static void check(int code, const char *what) {
    if (code >= 0) return;
    fprintf(stderr, "%s: %s\n", what, uv_strerror(code));
    exit(1);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
    (void)handle, (void)suggested;
    *buffer = uv_buf_init(slab, READ_SIZE);
}

static void on_closed(uv_handle_t *handle) { free(handle); }

static void drop(uv_stream_t *stream) {
    if (!uv_is_closing((uv_handle_t *)stream)) uv_close((uv_handle_t *)stream, on_closed);
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer);

static void on_sent(uv_write_t *request, int status) {
    if (status == 0) uv_read_start(request->handle, on_alloc, on_read);
    else if (status != UV_ECANCELED) drop(request->handle);
    free(request);
}

static void send_later(uv_stream_t *stream, const char *bytes, size_t length) {
    struct rest *rest = malloc(sizeof *rest + length);
    if (!rest) exit(1);
    memcpy(rest->bytes, bytes, length);
    uv_buf_t buffer = uv_buf_init(rest->bytes, (unsigned)length);
    uv_read_stop(stream);
    check(uv_write(&rest->request, stream, &buffer, 1, on_sent), "write");
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer) {
    if (count == 0) return;
    if (count < 0) {
        drop(stream);
        return;
    }
    uv_buf_t echo = uv_buf_init(buffer->base, (unsigned)count);
    int taken = uv_try_write(stream, &echo, 1);
    if (taken == UV_EAGAIN) taken = 0;
    if (taken < 0) drop(stream);
    else if (taken < count) send_later(stream, buffer->base + taken, (size_t)(count - taken));
}

static void on_connection(uv_stream_t *listener, int status) {
    check(status, "connection");
    uv_tcp_t *client = malloc(sizeof *client);
    if (!client) exit(1);
    uv_tcp_init(listener->loop, client);
    check(uv_accept(listener, (uv_stream_t *)client), "accept");
    uv_tcp_nodelay(client, 1);
    uv_read_start((uv_stream_t *)client, on_alloc, on_read);
}

static const char *option(int argc, char **argv, const char *name, const char *otherwise) {
    for (int i = 1; i + 1 < argc; i++)
        if (!strcmp(argv[i], name)) return argv[i + 1];
    return otherwise;
}

int main(int argc, char **argv) {
    struct sockaddr_storage where;
    struct rlimit limit;
    int length = sizeof where;
    uv_tcp_t listener;
    if (strcmp(option(argc, argv, "--mode", "echo"), "echo")) return 2;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    check(uv_ip4_addr(option(argc, argv, "--host", "127.0.0.1"), atoi(option(argc, argv, "--port", "0")), (struct sockaddr_in *)&where), "address");
    check(uv_tcp_init(uv_default_loop(), &listener), "listener");
    check(uv_tcp_bind(&listener, (struct sockaddr *)&where, 0), "bind");
    check(uv_listen((uv_stream_t *)&listener, BACKLOG, on_connection), "listen");
    check(uv_tcp_getsockname(&listener, (struct sockaddr *)&where, &length), "getsockname");
    printf("LISTENING %d\n", ntohs(((struct sockaddr_in *)&where)->sin_port));
    fflush(stdout);
    return uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}
