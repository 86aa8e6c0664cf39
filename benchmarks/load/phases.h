/* What both loads do with their connections: open them, have each ask, turn the poller until nothing is in flight, or ask at a fixed rate.

   Included once `struct connection` and `want` are declared: needs the members `fd` and `sent`, and the wishes `connections`, `base`, `sources`, `touch`, `depth`, `rate` and `messages`.
   The program gives dial, ask, start and on_event. Promises: a load that stops moving for ten seconds is an error, never a hang; `active` and `opening` are nought when a run returns. */

#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { EVENTS = 256, STALL_MS = 10000, OPENING_AT_ONCE = 64, PORTS_PER_SOURCE = 4000, SOURCES_OF_MANY = 200, DUE_AT_MOST = 1 << 14 };

static int poller, clockwork;         /* clockwork: the timer of a fixed rate */
static struct connection *all;
static bool sending;                  /* a finished message is followed by another */
static int opening, open_now, active; /* active: connections with something in flight */
static uint64_t deadline, attempts, first_due, dues;

static void dial(struct connection *c);
static void ask(struct connection *c, uint64_t when);  /* one message more, which counts from `when` */
static void start(struct connection *c);               /* the first message, or messages, of a run */
static void on_event(struct connection *c, uint32_t events);

/* --- one connection --- */

/* A client's address has so many ports only: take turns with several. */
static void bind_source(int fd) {
    if (want.sources < 2) return;
    int yes = 1;
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)(attempts % (uint64_t)want.sources))};
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)&from, sizeof from) < 0) die("bind source address: %s", strerror(errno));
}

static void begin_connect(struct connection *c, const struct sockaddr *to, socklen_t length) {
    opening++;
    if (connect(c->fd, to, length) < 0 && errno != EINPROGRESS) die("connect: %s", strerror(errno));
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &e) < 0) die("epoll_ctl: %s", strerror(errno));
}

static void check_connected(const struct connection *c) {
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error) die("connect: %s", strerror(error));
}

/* --- the fixed rate: messages are due, whatever has come back --- */

static uint64_t due_at(uint64_t number) { return first_due + (uint64_t)((double)number * 1e9 / want.rate); }

static void ask_what_is_due(void) {
    uint64_t expired, now = clock_ns();
    if (read(clockwork, &expired, sizeof expired) < 0 && errno != EAGAIN) die("timer: %s", strerror(errno));
    for (; due_at(dues) <= now && due_at(dues) < deadline; dues++) ask(&all[dues % (uint64_t)want.connections], due_at(dues));
    uint64_t next = due_at(dues);
    sending = next < deadline;
    struct itimerspec at = {.it_value = {.tv_sec = (time_t)(next / 1000000000u), .tv_nsec = (long)(next % 1000000000u)}};
    if (sending && timerfd_settime(clockwork, TFD_TIMER_ABSTIME, &at, NULL) < 0) die("timer: %s", strerror(errno));
}

static void prepare_clockwork(void) {
    clockwork = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    if (clockwork < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, clockwork, &e) < 0) die("timer: %s", strerror(errno));
}

/* --- all of them --- */

static void turn(void) {
    struct epoll_event events[EVENTS];
    int n = epoll_wait(poller, events, EVENTS, STALL_MS);
    if (n < 0 && errno != EINTR) die("epoll_wait: %s", strerror(errno));
    if (n == 0) die("nothing moved for %d s: %d opening, %d open, %d waiting for a reply", STALL_MS / 1000, opening, open_now, active);
    for (int i = 0; i < n; i++)
        if (events[i].data.ptr) on_event(events[i].data.ptr, events[i].events);
        else ask_what_is_due();
}

static void open_range(int from, int to) {
    for (int next = from; next < to || opening > 0;) {
        while (next < to && opening < OPENING_AT_ONCE) dial(&all[next++]);
        turn();
    }
}

static void touch_range(int from, int to) {
    sending = false;
    for (int i = from; i < to; i++) {
        ask(&all[i], clock_ns());
        while (active >= OPENING_AT_ONCE) turn();
    }
    while (active > 0) turn();
}

/* A run ends with its seconds, or with so many messages exactly (each connection has one at least): what is in flight counts. */
static bool run_ended(uint64_t now) { return want.messages ? messages + (uint64_t)active >= want.messages : now >= deadline; }

static void run_closed(double seconds) {
    sending = true;
    deadline = clock_ns() + (uint64_t)(seconds * 1e9);
    for (int i = 0; i < want.connections; i++) start(&all[i]);
    while (active > 0 || opening > 0) turn();
}

static void run_at_rate(double seconds) {
    first_due = clock_ns();
    deadline = first_due + (uint64_t)(seconds * 1e9);
    dues = 0;
    ask_what_is_due();
    while (sending || active > 0) turn();
}

/* Open `base` connections, say so; open the rest, say so with what `extra` points to by then; keep them until stdin ends. */
static void hold(const char *extra) {
    open_range(0, want.base);
    if (want.touch) touch_range(0, want.base);
    printf("{\"event\": \"ready\", \"connections\": %d}\n", want.base);
    if (!wait_for_line()) return;
    open_range(want.base, want.base + want.connections);
    if (want.touch) touch_range(want.base, want.base + want.connections);
    printf("{\"event\": \"open\", \"connections\": %d%s}\n", want.base + want.connections, extra);
    while (wait_for_line()) {}
}

static void make_connections(int count) {
    all = calloc((size_t)count, sizeof *all);
    uint64_t *times = calloc((size_t)count * want.depth, sizeof *times);
    if (!all || !times) die("out of memory");
    for (int i = 0; i < count; i++) all[i].sent = times + (size_t)i * want.depth;
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0) die("epoll_create1: %s", strerror(errno));
}
