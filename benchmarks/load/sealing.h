/* A TLS client between the kernel and OpenSSL: what came, and what is to go, lies in buffers that all connections share.

   Promises: OpenSSL reads `input_at..input_end` and appends to `output`; whoever calls it sends `output` before another connection is touched. It keeps nothing for a connection
   but the `SSL`. It does not know sockets, nor what is said. */

#include "openssl.h"

enum { READ_SIZE = 1 << 18 };

static char input[READ_SIZE], plain[READ_SIZE];
static const char *input_at, *input_end;
static char *output;
static size_t output_size, output_room;
static void *context, *bio_method;

static int on_read(void *bio, char *at, int size) {
    size_t left = (size_t)(input_end - input_at), count = (size_t)size < left ? (size_t)size : left;
    ossl.BIO_clear_flags(bio, OSSL_BIO_FLAGS_RETRY);
    if (count == 0) {
        ossl.BIO_set_flags(bio, OSSL_BIO_FLAGS_READ | OSSL_BIO_FLAGS_SHOULD_RETRY);
        return -1;
    }
    memcpy(at, input_at, count);
    input_at += count;
    return (int)count;
}

static int on_write(void *bio, const char *at, int size) {
    ossl.BIO_clear_flags(bio, OSSL_BIO_FLAGS_RETRY);
    if (output_room - output_size < (size_t)size) {
        output_room = output_size + (size_t)size + READ_SIZE;
        if (!(output = realloc(output, output_room))) die("out of memory");
    }
    memcpy(output + output_size, at, (size_t)size);
    output_size += (size_t)size;
    return size;
}

static long on_ctrl(void *bio, int command, long number, void *pointer) {
    (void)bio, (void)number, (void)pointer;
    return command == OSSL_BIO_CTRL_FLUSH;
}

static _Noreturn void die_of(const char *what) {
    char reason[256] = "no reason";
    unsigned long code = ossl.ERR_get_error();
    if (code) ossl.ERR_error_string_n(code, reason, sizeof reason);
    die("%s: %s", what, reason);
}

/* One version and, unless NULL, one suite. `frugal`: connections that say nothing hold no buffers. */
static void seal_prepare(const char *library, int version, const char *suite, bool frugal) {
    const char *missing = openssl_find(library);
    if (missing) die("OpenSSL cannot be used: %s", missing);
    bio_method = ossl.BIO_meth_new(ossl.BIO_get_new_index() | OSSL_BIO_SOURCE_SINK, "load");
    context = ossl.SSL_CTX_new(ossl.TLS_client_method());
    if (!bio_method || !context) die_of("SSL_CTX_new");
    ossl.BIO_meth_set_read(bio_method, on_read);
    ossl.BIO_meth_set_write(bio_method, on_write);
    ossl.BIO_meth_set_ctrl(bio_method, on_ctrl);
    ossl.SSL_CTX_ctrl(context, OSSL_CTRL_SET_MIN_VERSION, version, NULL);
    ossl.SSL_CTX_ctrl(context, OSSL_CTRL_SET_MAX_VERSION, version, NULL);
    if (frugal) ossl.SSL_CTX_ctrl(context, OSSL_CTRL_MODE, OSSL_MODE_RELEASE_BUFFERS, NULL);
    if (!suite) return;
    int taken = version == OSSL_TLS1_3 ? ossl.SSL_CTX_set_ciphersuites(context, suite) : ossl.SSL_CTX_set_cipher_list(context, suite);
    if (taken != 1) die("no such suite: %s", suite);
}

/* A client, which resumes `session` unless that is NULL. */
static void *seal_begin(void *session) {
    void *bio = ossl.BIO_new(bio_method), *ssl = ossl.SSL_new(context);
    if (!bio || !ssl) die_of("SSL_new");
    ossl.BIO_set_init(bio, 1);
    ossl.SSL_set_bio(ssl, bio, bio);
    ossl.SSL_set_connect_state(ssl);
    ossl.SSL_ctrl(ssl, OSSL_CTRL_SERVER_NAME, 0, "localhost");
    if (session && ossl.SSL_set_session(ssl, session) != 1) die_of("SSL_set_session");
    return ssl;
}
