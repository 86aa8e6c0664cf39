/* The neutral load over TLS: one thread, epoll, the OpenSSL that Python's `ssl` uses (sealing.h). It owns the client side of the questions tls_*.

   Promises, as load.c: every byte that comes back is compared; nothing is in flight when a phase begins or ends; it says when it, not the server, was the
   limit; what stands still for ten seconds is an error. What one message seals to goes to the kernel with one send, so that servers meet it whole.
   Certificates are not verified: the harness has done that once for each server, and a client's verification would only slow the load.
   It does not know: which server answers, or what anything costs there.

   Conversation: one JSON object a line on stdout, and one line read from stdin before it goes on (end of file ends it):
     echo       ready | window | done     each connection asks again when its reply is complete
     handshake  ready | window | done     connect, handshake, one message there and back, close both ways; --resume: with the last session of the same slot
     fixed      ready | window | done     messages are due at a fixed rate, whatever has come back; latency counts from when they were due (no coordinated omission)
     idle       ready (base connections open) | open N more | open | hold until stdin ends
   A reply has --reply bytes (a message's, if not said): the message's first --period bytes over and over. */

#define _GNU_SOURCE
#include "meter.h"
#include "sealing.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>

enum mode { ECHO, HANDSHAKE, FIXED, IDLE };
enum state { CLOSED, DIALLING, SHAKING, OPEN, ENDING };

struct connection {
    int fd;
    enum state state;
    void *ssl, *session;         /* session: what the last connection of this slot was given */
    unsigned in_flight, oldest;  /* replies still due; index of the oldest in `sent` */
    size_t receive_at;           /* where in the reply the next byte is */
    char *tail;                  /* sealed, and refused by the kernel */
    size_t tail_size;
    uint64_t *sent;              /* ring of `want.depth` times */
    uint64_t born;
};

static struct {
    enum mode mode;
    const char *library, *suite;
    int port, connections, base, sources, limit, version;
    bool touch, resume, meek;
    unsigned depth;
    size_t size, reply, period;
    double warmup, seconds, rate;
    uint64_t messages;           /* of a run, instead of seconds; 0 = seconds */
} want = {.mode = ECHO, .connections = 50, .limit = 300, .version = OSSL_TLS1_3, .depth = 1, .size = 100, .warmup = 0.3, .seconds = 2.0, .rate = 1000};

#include "phases.h"

static char *pattern;           /* period bytes repeated, as long as a message or a read, and a period more */
static char told[256];          /* version and suite of the last handshake, as more of a JSON object */
static uint64_t resumed;

/* --- one connection --- */

static void send_tail(struct connection *c) {
    while (c->tail_size > 0) {
        ssize_t n = send(c->fd, c->tail, c->tail_size, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) return;  /* edge-triggered: told when there is room */
        if (n < 0) die("send: %s", strerror(errno));
        c->tail_size -= (size_t)n;
        memmove(c->tail, c->tail + n, c->tail_size);
    }
    free(c->tail);
    c->tail = NULL;
}

/* What OpenSSL has written belongs to `c`. */
static void send_output(struct connection *c) {
    size_t size = output_size;
    ssize_t n = 0;
    output_size = 0;
    if (size == 0) return;
    if (c->tail_size == 0) n = send(c->fd, output, size, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) die("send: %s", strerror(errno));
    if (n < 0) n = 0;
    if ((size_t)n == size) return;
    if (!(c->tail = realloc(c->tail, c->tail_size + size - (size_t)n))) die("out of memory");
    memcpy(c->tail + c->tail_size, output + n, size - (size_t)n);
    c->tail_size += size - (size_t)n;
}

static void ask(struct connection *c, uint64_t when) {
    if (c->in_flight == want.depth) die("a connection has %u messages in flight: the server cannot keep this rate", c->in_flight);
    if (c->in_flight == 0) active++;
    c->sent[(c->oldest + c->in_flight++) % want.depth] = when;
    if (ossl.SSL_write(c->ssl, pattern, (int)want.size) != (int)want.size) die_of("SSL_write");
    send_output(c);
}

static void dial(struct connection *c) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)want.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int yes = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("socket: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    bind_source(c->fd);
    attempts++;
    c->born = clock_ns();
    c->state = DIALLING;
    c->in_flight = c->oldest = 0;
    c->receive_at = 0;
    c->ssl = seal_begin(want.resume ? c->session : NULL);
    begin_connect(c, (struct sockaddr *)&to, sizeof to);
}

static void shake(struct connection *c) {
    int rc = ossl.SSL_do_handshake(c->ssl);
    if (rc != 1 && ossl.SSL_get_error(c->ssl, rc) != OSSL_ERROR_WANT_READ) die_of("handshake");
    if (rc == 1) {
        c->state = OPEN;
        opening--;
        open_now++;
        resumed += (uint64_t)ossl.SSL_session_reused(c->ssl);
        const void *suite = ossl.SSL_get_current_cipher(c->ssl);
        snprintf(told, sizeof told, ", \"version\": \"%s\", \"suite\": \"%s\"", ossl.SSL_get_version(c->ssl), ossl.SSL_CIPHER_get_name(suite));
    }
    if (rc == 1 && want.mode == HANDSHAKE) ask(c, c->born);  /* goes out with the end of the handshake */
    else send_output(c);
}

static void dialled(struct connection *c) {
    check_connected(c);
    c->state = SHAKING;
    shake(c);
}

static void keep_session(struct connection *c) {
    void *session = ossl.SSL_get1_session(c->ssl);
    if (session && !ossl.SSL_SESSION_is_resumable(session)) {
        ossl.SSL_SESSION_free(session);
        session = NULL;
    }
    if (!session) die("the server gave no session to resume");
    if (c->session) ossl.SSL_SESSION_free(c->session);
    c->session = session;
}

static void closed_by_server(struct connection *c) {
    if (c->state != ENDING) die("the server closed a connection early");
    uint64_t now = clock_ns();
    if (want.resume) keep_session(c);
    ossl.SSL_free(c->ssl);
    close(c->fd);
    c->state = CLOSED;
    open_now--;
    active--;
    count_message(now - c->born);
    if (run_ended(now)) sending = false;
    if (sending) dial(c);
}

static void replied(struct connection *c, uint64_t now) {
    if (want.mode == HANDSHAKE) {  /* counted when the server has closed too; stays `active` until then */
        c->state = ENDING;
        ossl.SSL_shutdown(c->ssl);
        send_output(c);
        shutdown(c->fd, SHUT_WR);
        return;
    }
    count_message(now - c->sent[c->oldest]);
    c->oldest = (c->oldest + 1) % want.depth;
    if (--c->in_flight == 0) active--;
    if (want.mode == FIXED) return;
    if (run_ended(now)) sending = false;
    if (sending) ask(c, now);
}

static void check_reply(struct connection *c, const char *bytes, size_t size) {
    while (size > 0) {
        size_t left = want.reply - c->receive_at, count = size < left ? size : left;
        if (c->in_flight == 0) die("more replies than messages");
        if (memcmp(bytes, pattern + c->receive_at % want.period, count) != 0) die("the reply is not what was sent");
        bytes += count;
        size -= count;
        c->receive_at = (c->receive_at + count) % want.reply;
        if (c->receive_at == 0) replied(c, clock_ns());
    }
}

/* Everything that is in `input`. */
static void open_input(struct connection *c) {
    if (c->state == SHAKING) shake(c);
    while (c->state == OPEN || c->state == ENDING) {
        int n = ossl.SSL_read(c->ssl, plain, READ_SIZE);
        if (n > 0) {
            check_reply(c, plain, (size_t)n);
            continue;
        }
        int error = ossl.SSL_get_error(c->ssl, n);
        if (error == OSSL_ERROR_ZERO_RETURN && c->state != ENDING) die("the server ended a connection early");
        if (error != OSSL_ERROR_WANT_READ && error != OSSL_ERROR_ZERO_RETURN) die_of("SSL_read");
        break;
    }
    send_output(c);  /* of a key update */
}

static void receive(struct connection *c) {
    for (;;) {
        ssize_t n = recv(c->fd, input, READ_SIZE, 0);
        if (n < 0 && errno == EAGAIN) return;
        if (n < 0 && c->state == ENDING && errno == ECONNRESET) n = 0;  /* it closes without reading what we said last */
        if (n < 0) die("recv: %s", strerror(errno));
        if (n == 0) {
            closed_by_server(c);
            return;
        }
        input_at = input;
        input_end = input + n;
        open_input(c);
        if (n < READ_SIZE && c->state != ENDING) return;  /* a short read empties the socket (epoll(7)); an end is waited for with one more */
    }
}

static void on_event(struct connection *c, uint32_t events) {
    if (c->state == DIALLING && events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) dialled(c);
    if (c->tail_size > 0 && events & EPOLLOUT) send_tail(c);
    if (c->state > DIALLING && events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) receive(c);
}

/* --- phases --- */

static void start(struct connection *c) {
    if (want.mode == HANDSHAKE) dial(c);
    else ask(c, clock_ns());
}

static void run_for(double seconds) {
    forget_messages();
    attempts = resumed = 0;
    (want.mode == FIXED ? run_at_rate : run_closed)(seconds);
}

static void measure(void) {
    struct rusage before;
    char extra[128];
    run_for(want.warmup);
    printf("{\"event\": \"ready\", \"connections\": %d, \"openssl\": \"%s\"%s}\n", want.connections, ossl.OpenSSL_version(0), told);
    if (!wait_for_line()) return;
    getrusage(RUSAGE_SELF, &before);
    uint64_t start = clock_ns();
    run_for(want.seconds);
    snprintf(extra, sizeof extra, ", \"attempts\": %llu, \"resumed\": %llu", (unsigned long long)attempts, (unsigned long long)resumed);
    print_done(start, &before, extra);
    wait_for_line();
}

/* --- setting up --- */

static void make_pattern(void) {
    size_t length = (want.size > want.reply ? want.size : want.reply) + want.period;
    pattern = malloc(length);
    if (!pattern) die("out of memory");
    for (size_t i = 0; i < length; i++) pattern[i] = (char)('!' + (i % want.period) * 7 % 89);
}

/* Run only when nobody else wants this core: whoever measures latency beside this load is not kept waiting by it. */
static void be_meek(void) {
    struct sched_param none = {.sched_priority = 0};
    if (sched_setscheduler(0, SCHED_IDLE, &none) < 0) die("SCHED_IDLE: %s", strerror(errno));
}

static enum mode parse_mode(const char *word) {
    if (!strcmp(word, "echo")) return ECHO;
    if (!strcmp(word, "handshake")) return HANDSHAKE;
    if (!strcmp(word, "fixed")) return FIXED;
    if (!strcmp(word, "idle")) return IDLE;
    die("unknown mode %s", word);
}

static int parse_version(const char *word) {
    if (!strcmp(word, "1.3")) return OSSL_TLS1_3;
    if (!strcmp(word, "1.2")) return OSSL_TLS1_2;
    die("--version is 1.2 or 1.3");
}

static void complete_wishes(void) {
    if (want.reply == 0) want.reply = want.size;
    if (want.period == 0) want.period = want.size;
    want.depth = want.mode == FIXED ? DUE_AT_MOST : 1;
    if (want.sources == 0) want.sources = want.mode == HANDSHAKE ? SOURCES_OF_MANY : 1 + (want.base + want.connections) / PORTS_PER_SOURCE;
    if (want.messages && want.mode > HANDSHAKE) die("--messages is for echo and handshake");
    if (!want.library) die("--openssl is needed: the path of libssl");
    if (want.connections < 1 || want.base < 0 || want.size < 1 || want.seconds <= 0 || want.rate <= 0) die("connections, size, seconds and rate must be positive");
    if (want.port < 1 || want.port > 65535) die("--port is needed");
    if (want.period > want.size) die("--period is a part of the message");
}

static void parse(int argc, char **argv) {
    static const struct option options[] = {
        {"mode", 1, 0, 'm'}, {"openssl", 1, 0, 'o'}, {"port", 1, 0, 'p'}, {"connections", 1, 0, 'c'}, {"base", 1, 0, 'b'}, {"size", 1, 0, 's'}, {"reply", 1, 0, 'r'},
        {"period", 1, 0, 'q'}, {"rate", 1, 0, 'f'}, {"messages", 1, 0, 'n'}, {"warmup", 1, 0, 'w'}, {"seconds", 1, 0, 't'}, {"limit", 1, 0, 'l'}, {"suite", 1, 0, 'x'}, {"version", 1, 0, 'v'},
        {"touch", 0, 0, 'T'}, {"resume", 0, 0, 'R'}, {"meek", 0, 0, 'M'}, {0, 0, 0, 0}};
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) switch (o) {
        case 'm': want.mode = parse_mode(optarg); break;
        case 'o': want.library = optarg; break;
        case 'p': want.port = atoi(optarg); break;
        case 'c': want.connections = atoi(optarg); break;
        case 'b': want.base = atoi(optarg); break;
        case 's': want.size = strtoul(optarg, NULL, 10); break;
        case 'r': want.reply = strtoul(optarg, NULL, 10); break;
        case 'q': want.period = strtoul(optarg, NULL, 10); break;
        case 'f': want.rate = atof(optarg); break;
        case 'n': want.messages = strtoull(optarg, NULL, 10); break;
        case 'w': want.warmup = atof(optarg); break;
        case 't': want.seconds = atof(optarg); break;
        case 'l': want.limit = atoi(optarg); break;
        case 'x': want.suite = optarg; break;
        case 'v': want.version = parse_version(optarg); break;
        case 'T': want.touch = true; break;
        case 'R': want.resume = true; break;
        case 'M': want.meek = true; break;
        default: die("usage: tls_load --mode echo|handshake|fixed|idle --openssl LIBSSL --port P --connections N --size BYTES --warmup S --seconds S "
                     "[--reply BYTES] [--period BYTES] [--rate MESSAGES] [--messages N] [--base N] [--touch] [--resume] [--suite NAME] [--version 1.2|1.3] [--meek] [--limit S]");
        }
    complete_wishes();
}

int main(int argc, char **argv) {
    parse(argc, argv);
    alarm((unsigned)want.limit);  /* whatever happens, this process ends */
    signal(SIGPIPE, SIG_IGN);
    raise_descriptor_limit(want.base + want.connections);
    seal_prepare(want.library, want.version, want.suite, want.mode == IDLE);
    make_pattern();
    make_connections(want.base + want.connections);
    if (want.meek) be_meek();
    if (want.mode == FIXED) prepare_clockwork();
    if (want.mode == ECHO || want.mode == FIXED) open_range(0, want.connections);
    if (want.mode == IDLE) hold(told);
    else measure();
    return 0;
}
