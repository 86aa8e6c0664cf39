/* What both loads measure with: the clock, a histogram of latencies, this process's own CPU, and the conversation on stdin and stdout.

   Promises: a percentile is right to 1.6 % (64 steps a power of two). It does not know what a message is. */

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { SUB = 64, BUCKETS = SUB * 60 };

static uint64_t messages, buckets[BUCKETS], slowest;

static _Noreturn void die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

static uint64_t clock_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static unsigned bucket_of(uint64_t ns) {
    if (ns < SUB) return (unsigned)ns;
    unsigned shift = 63u - (unsigned)__builtin_clzll(ns) - 6u;
    unsigned index = (shift + 1) * SUB + (unsigned)((ns >> shift) - SUB);
    return index < BUCKETS ? index : BUCKETS - 1;
}

static double bucket_us(unsigned index) {
    if (index < SUB) return index / 1000.0;
    unsigned shift = index / SUB - 1;
    return (double)((uint64_t)(index % SUB + SUB) << shift) / 1000.0;
}

static double percentile_us(double share) {
    uint64_t rank = (uint64_t)((double)messages * share), seen = 0;
    for (unsigned i = 0; i < BUCKETS; i++)
        if ((seen += buckets[i]) > rank) return bucket_us(i);
    return (double)slowest / 1000.0;
}

static void count_message(uint64_t took) {
    messages++;
    buckets[bucket_of(took)]++;
    if (took > slowest) slowest = took;
}

static void forget_messages(void) {
    memset(buckets, 0, sizeof buckets);
    messages = slowest = 0;
}

/* One line read; false: there is none any more. */
static bool wait_for_line(void) {
    fflush(stdout);
    int ch;
    while ((ch = getchar()) != EOF)
        if (ch == '\n') return true;
    return false;
}

static double seconds_of(struct timeval t) { return (double)t.tv_sec + (double)t.tv_usec / 1e6; }

/* The messages since `start` and the CPU since `before`, as the line `done`, to which the caller adds `extra`. */
static void print_done(uint64_t start, const struct rusage *before, const char *extra) {
    struct rusage after;
    double took = (double)(clock_ns() - start) / 1e9;
    getrusage(RUSAGE_SELF, &after);
    double user = seconds_of(after.ru_utime) - seconds_of(before->ru_utime), system = seconds_of(after.ru_stime) - seconds_of(before->ru_stime);
    double share = (user + system) / took;
    printf("{\"event\": \"done\", \"messages\": %llu, \"seconds\": %.6f, \"rate\": %.1f, \"p50_us\": %.3f, \"p99_us\": %.3f, \"p999_us\": %.3f, \"max_us\": %.3f, "
           "\"generator\": {\"user_s\": %.6f, \"system_s\": %.6f, \"share\": %.4f, \"bottleneck\": %s}%s}\n",
           (unsigned long long)messages, took, (double)messages / took, percentile_us(0.5), percentile_us(0.99), percentile_us(0.999), (double)slowest / 1000.0,
           user, system, share, share > 0.95 ? "true" : "false", extra);
}

static void raise_descriptor_limit(int count) {
    struct rlimit limit;
    rlim_t needed = (rlim_t)count + 64;
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur >= needed) return;
    limit.rlim_cur = needed;
    if (limit.rlim_max < needed) limit.rlim_max = needed;  /* works for root only */
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0) die("%d connections need %d descriptors: %s", count, (int)needed, strerror(errno));
}
