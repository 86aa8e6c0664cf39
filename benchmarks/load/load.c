/* The neutral load: one thread, epoll, no runtime of anybody's. It owns the client side of every question without TLS (those: tls_load.c).

   Promises: closed loop (each connection keeps `depth` messages in flight); every byte that comes back is compared with what was sent; nothing is in
   flight when a phase begins or ends, so whoever reads the server's accounts between phases reads the cost of exactly the messages counted; it says when it,
   not the server, was the limit. A load that stops moving for ten seconds is an error, never a hang.
   It does not know: which server answers, how many writes the server needed for a reply, or what anything costs there.

   Conversation: one JSON object a line on stdout, and one line read from stdin before it goes on (end of file ends it):
     echo, churn   ready | measured window | done
     fanout        the same; the first connection asks, and a message counts for each of `connections` others when it has come there; `stalled` more never read, and are full before it begins
     fixed         ready | measured window | done    messages are due at a fixed rate; latency counts from when they were due (no coordinated omission)
     idle          ready (base connections open) | open N more | open | hold until stdin ends
   Latency in a closed loop is not latency at a fixed rate: a slow reply delays the next question (coordinated omission). */

#define _GNU_SOURCE
#include "meter.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/un.h>

enum { READ_SIZE = 1 << 18, FILLING_SIZE = 1 << 15, FILLINGS = 256 };
enum mode { ECHO, CHURN, FIXED, FANOUT, IDLE };
enum state { CLOSED, OPENING, OPEN, ENDING };

struct connection {
    int fd;
    enum state state;
    unsigned in_flight, oldest;  /* replies still due; index of the oldest in `sent` */
    size_t to_send, send_at;     /* bytes owed to the kernel; where in the message they start */
    size_t receive_at;           /* where in the reply its next byte is */
    uint64_t born;
    uint64_t *sent;              /* ring of `depth` send times */
};

static struct {
    enum mode mode;
    const char *host, *path;
    int port, connections, base, sources, limit, stalled;
    bool touch;
    unsigned depth;
    size_t size, reply;  /* bytes of a message and of what answers it: as many, unless it is said */
    double warmup, seconds, rate;
    uint64_t messages;           /* of a run, instead of seconds; 0 = seconds */
} want = {.mode = ECHO, .host = "127.0.0.1", .connections = 50, .base = 0, .sources = 0, .limit = 300, .depth = 1, .size = 100, .warmup = 0.3, .seconds = 2.0, .rate = 1000};

#include "phases.h"

static char *pattern, *expected, input[READ_SIZE];
static size_t pattern_length;
static uint64_t published;  /* fanout: when the message that is on its way was sent */

/* --- one connection --- */

static void send_owed(struct connection *c) {
    while (c->to_send > 0) {
        size_t most = pattern_length - c->send_at;
        ssize_t n = send(c->fd, pattern + c->send_at, c->to_send < most ? c->to_send : most, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) return;  /* edge-triggered: told when there is room */
        if (n < 0) die("send: %s", strerror(errno));
        c->to_send -= (size_t)n;
        c->send_at = (c->send_at + (size_t)n) % want.size;
    }
}

static void ask_several(struct connection *c, unsigned count, uint64_t now) {
    if (c->in_flight + count > want.depth) die("a connection has %u messages in flight: the server cannot keep this rate", c->in_flight);
    if (c->in_flight == 0) active++;
    for (unsigned i = 0; i < count; i++) c->sent[(c->oldest + c->in_flight++) % want.depth] = now;
    c->to_send += count * want.size;
    send_owed(c);
}

static void ask(struct connection *c, uint64_t when) { ask_several(c, 1, when); }

/* In a fan-out the first asks, `connections` read, and these do not. */
static bool is_stalled(const struct connection *c) { return want.mode == FANOUT && c - all > want.connections; }

static void dial(struct connection *c) {
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    struct sockaddr_in tcp = {.sin_family = AF_INET, .sin_port = htons((uint16_t)want.port)};
    struct sockaddr *to = want.path ? (struct sockaddr *)&local : (struct sockaddr *)&tcp;
    socklen_t length = want.path ? sizeof local : sizeof tcp;
    int yes = 1;
    if (want.path) snprintf(local.sun_path, sizeof local.sun_path, "%s", want.path);
    else if (inet_pton(AF_INET, want.host, &tcp.sin_addr) != 1) die("not an IPv4 address: %s", want.host);
    c->fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("socket: %s", strerror(errno));
    if (!want.path) setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (!want.path) bind_source(c->fd);
    if (is_stalled(c)) setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &yes, sizeof yes);  /* the least there is */
    attempts++;
    c->born = clock_ns();
    c->state = OPENING;
    c->in_flight = c->oldest = 0;
    c->to_send = c->send_at = c->receive_at = 0;
    begin_connect(c, to, length);
}

static void opened(struct connection *c) {
    check_connected(c);
    c->state = OPEN;
    opening--;
    open_now++;
    if (want.mode == CHURN) ask(c, c->born);
}

static void closed_by_server(struct connection *c) {
    if (want.mode != CHURN || c->state != ENDING) die("the server closed a connection early");
    uint64_t now = clock_ns();
    close(c->fd);
    c->state = CLOSED;
    open_now--;
    active--;
    count_message(now - c->born);
    if (run_ended(now)) sending = false;
    if (sending) dial(c);
}

static void check_reply(const struct connection *c, const char *bytes, size_t length) {
    if (memcmp(bytes, expected + c->receive_at, length) != 0) die("the reply is not what was sent");
}

/* To all of them, by way of the first connection. */
static void publish(uint64_t now) {
    published = now;
    active = want.connections;
    all[0].to_send = want.size;
    send_owed(&all[0]);
}

static void delivered(const struct connection *c, unsigned count, uint64_t now) {
    if (c == all || count > 1 || active == 0) die("a message came that was not sent to this connection");
    count_message(now - published);
    if (run_ended(now)) sending = false;
    if (--active == 0 && sending) publish(now);
}

static void replied(struct connection *c, unsigned count, uint64_t now) {
    if (want.mode == FANOUT) {
        delivered(c, count, now);
        return;
    }
    if (count > c->in_flight) die("more replies than messages");
    if (want.mode == CHURN) {  /* counted when the server has closed too; stays `active` until then */
        c->state = ENDING;
        shutdown(c->fd, SHUT_WR);
        return;
    }
    for (unsigned i = 0; i < count; i++) count_message(now - c->sent[(c->oldest + i) % want.depth]);
    c->oldest = (c->oldest + count) % want.depth;
    c->in_flight -= count;
    if (c->in_flight == 0) active--;
    if (want.mode == FIXED) return;
    if (run_ended(now)) sending = false;
    if (sending) ask_several(c, count, now);
}

static void receive(struct connection *c) {
    for (;;) {
        ssize_t n = recv(c->fd, input, READ_SIZE, 0);
        if (n < 0 && errno == EAGAIN) return;
        if (n < 0) die("recv: %s", strerror(errno));
        if (n == 0) {
            closed_by_server(c);
            return;
        }
        check_reply(c, input, (size_t)n);
        size_t reached = c->receive_at + (size_t)n;
        c->receive_at = reached % want.reply;
        if (reached >= want.reply) replied(c, (unsigned)(reached / want.reply), clock_ns());
        if (n < READ_SIZE && c->state != ENDING) return;  /* a short read empties the socket (epoll(7)); an end is waited for with one more */
    }
}

static void on_event(struct connection *c, uint32_t events) {
    if (c->state == OPENING && events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) opened(c);
    if (c->to_send > 0 && events & EPOLLOUT) send_owed(c);
    if (is_stalled(c) && !(events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))) return;
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) receive(c);
}

/* --- phases --- */

static void start(struct connection *c) {
    if (want.mode == FANOUT) {
        if (c == all) publish(clock_ns());
    } else if (want.mode == CHURN) dial(c);
    else ask_several(c, want.depth, clock_ns());
}

static void run_for(double seconds) {
    forget_messages();
    (want.mode == FIXED ? run_at_rate : run_closed)(seconds);
}

static void measure(void) {
    struct rusage before;
    run_for(want.warmup);
    printf("{\"event\": \"ready\", \"connections\": %d}\n", want.connections);
    if (!wait_for_line()) return;
    getrusage(RUSAGE_SELF, &before);
    uint64_t start = clock_ns();
    run_for(want.seconds);
    print_done(start, &before, "");
    wait_for_line();
}

/* --- setting up --- */

/* `expected`: a reply is the message cut, or repeated, to its length. */
static void make_patterns(void) {
    free(pattern), free(expected);
    size_t repeats = (want.size + READ_SIZE) / want.size + 1, most = want.reply + READ_SIZE;
    pattern_length = repeats * want.size;
    pattern = malloc(pattern_length);
    expected = malloc(most);
    if (!pattern || !expected) die("out of memory");
    for (size_t i = 0; i < pattern_length; i++) pattern[i] = (char)('!' + (i % want.size) * 7 % 89);
    for (size_t i = 0; i < most; i++) expected[i] = pattern[i % want.reply % want.size];
}

static enum mode parse_mode(const char *word) {
    if (!strcmp(word, "echo") || !strcmp(word, "five")) return ECHO;  /* five: the reply is as long as the message; only the server's writes differ */
    if (!strcmp(word, "churn")) return CHURN;
    if (!strcmp(word, "fixed")) return FIXED;
    if (!strcmp(word, "fanout")) return FANOUT;
    if (!strcmp(word, "idle")) return IDLE;
    die("unknown mode %s", word);
}

static void parse(int argc, char **argv) {
    static const struct option options[] = {
        {"mode", 1, 0, 'm'}, {"host", 1, 0, 'h'}, {"port", 1, 0, 'p'}, {"unix", 1, 0, 'u'}, {"connections", 1, 0, 'c'}, {"base", 1, 0, 'b'}, {"size", 1, 0, 's'},
        {"depth", 1, 0, 'd'}, {"warmup", 1, 0, 'w'}, {"seconds", 1, 0, 't'}, {"sources", 1, 0, 'a'}, {"limit", 1, 0, 'l'}, {"rate", 1, 0, 'f'}, {"messages", 1, 0, 'n'}, {"touch", 0, 0, 'T'}, {"reply", 1, 0, 'r'}, {"stalled", 1, 0, 'S'}, {0, 0, 0, 0}};
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) switch (o) {
        case 'm': want.mode = parse_mode(optarg); break;
        case 'h': want.host = optarg; break;
        case 'p': want.port = atoi(optarg); break;
        case 'u': want.path = optarg; break;
        case 'c': want.connections = atoi(optarg); break;
        case 'b': want.base = atoi(optarg); break;
        case 's': want.size = strtoul(optarg, NULL, 10); break;
        case 'd': want.depth = (unsigned)atoi(optarg); break;
        case 'w': want.warmup = atof(optarg); break;
        case 't': want.seconds = atof(optarg); break;
        case 'a': want.sources = atoi(optarg); break;
        case 'l': want.limit = atoi(optarg); break;
        case 'f': want.rate = atof(optarg); break;
        case 'n': want.messages = strtoull(optarg, NULL, 10); break;
        case 'T': want.touch = true; break;
        case 'r': want.reply = strtoul(optarg, NULL, 10); break;
        case 'S': want.stalled = atoi(optarg); break;
        default: die("usage: load --mode echo|churn|fixed|fanout|idle (--host H --port P | --unix PATH) --connections N --size BYTES --depth N --warmup S --seconds S "
                     "[--rate MESSAGES] [--messages N] [--reply BYTES] [--stalled N] [--base N] [--touch] [--sources N] [--limit S]");
        }
    if (want.connections < 1 || want.base < 0 || want.size < 1 || want.depth < 1 || want.seconds <= 0 || want.rate <= 0) die("connections, size, depth, seconds and rate must be positive");
    if (!want.path && (want.port < 1 || want.port > 65535)) die("--port or --unix is needed");
    if (want.mode == CHURN) want.depth = 1;
    if (want.stalled && want.mode != FANOUT) die("--stalled is for fanout");
    if (want.messages && (want.depth > 1 || want.mode > CHURN)) die("--messages is for echo and churn with one message in flight");
    if (want.mode == FIXED) want.depth = DUE_AT_MOST;
    if (want.reply == 0) want.reply = want.size;
    if (want.sources == 0) want.sources = want.mode == CHURN ? SOURCES_OF_MANY : 1 + (want.base + want.connections) / PORTS_PER_SOURCE;
    if (want.sources > 250) want.sources = 250;
    if (strncmp(want.host, "127.", 4)) die("loopback only");
}

/* Publish until whoever does not read is full: 8 MiB, twice what Linux keeps for one connection. */
static void fill_stalled(void) {
    size_t size = want.size, reply = want.reply;
    want.size = want.reply = FILLING_SIZE;
    want.messages = (uint64_t)FILLINGS * (uint64_t)want.connections;
    make_patterns();
    run_for(0);
    want.size = size, want.reply = reply, want.messages = 0;
    make_patterns();
}

/* The first of a fan-out comes last: what it asks finds all others with the server. */
static void open_all(int count) {
    if (want.mode == FANOUT) open_range(1, count);
    open_range(0, want.mode == FANOUT ? 1 : want.connections);
}

int main(int argc, char **argv) {
    parse(argc, argv);
    int count = want.base + want.connections + (want.mode == FANOUT ? 1 + want.stalled : 0);
    alarm((unsigned)want.limit);  /* whatever happens, this process ends */
    raise_descriptor_limit(count);
    make_patterns();
    make_connections(count);
    if (want.mode == FIXED) prepare_clockwork();
    if (want.mode == ECHO || want.mode == FIXED || want.mode == FANOUT) open_all(count);
    if (want.stalled) fill_stalled();
    if (want.mode == IDLE) hold("");
    else measure();
    return 0;
}
