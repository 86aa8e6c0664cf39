/* The part of OpenSSL's interface (1.1.1 and 3.x alike) that the load over TLS uses, declared here and looked up by name: no header of OpenSSL's is needed, nothing is linked.

   Promises: all of it is there, or `openssl_find` names what is missing. It does not know where the library is; the harness names the one Python's `ssl` uses. */

#include <dlfcn.h>
#include <stddef.h>

enum {
    OSSL_ERROR_WANT_READ = 2, OSSL_ERROR_ZERO_RETURN = 6,
    OSSL_BIO_SOURCE_SINK = 0x0400, OSSL_BIO_FLAGS_READ = 0x01, OSSL_BIO_FLAGS_SHOULD_RETRY = 0x08, OSSL_BIO_FLAGS_RETRY = 0x0f,
    OSSL_BIO_CTRL_FLUSH = 11,
    OSSL_CTRL_MODE = 33, OSSL_CTRL_SERVER_NAME = 55, OSSL_CTRL_SET_MIN_VERSION = 123, OSSL_CTRL_SET_MAX_VERSION = 124,
    OSSL_MODE_RELEASE_BUFFERS = 16, OSSL_TLS1_2 = 0x0303, OSSL_TLS1_3 = 0x0304
};

#define OPENSSL(X) \
    X(const char *, OpenSSL_version, (int)) \
    X(const void *, TLS_client_method, (void)) \
    X(void *, SSL_CTX_new, (const void *)) \
    X(long, SSL_CTX_ctrl, (void *, int, long, void *)) \
    X(int, SSL_CTX_set_ciphersuites, (void *, const char *)) \
    X(int, SSL_CTX_set_cipher_list, (void *, const char *)) \
    X(void *, SSL_new, (void *)) \
    X(void, SSL_free, (void *)) \
    X(long, SSL_ctrl, (void *, int, long, void *)) \
    X(void, SSL_set_bio, (void *, void *, void *)) \
    X(void, SSL_set_connect_state, (void *)) \
    X(int, SSL_do_handshake, (void *)) \
    X(int, SSL_read, (void *, void *, int)) \
    X(int, SSL_write, (void *, const void *, int)) \
    X(int, SSL_shutdown, (void *)) \
    X(int, SSL_get_error, (const void *, int)) \
    X(void *, SSL_get1_session, (void *)) \
    X(int, SSL_set_session, (void *, void *)) \
    X(int, SSL_session_reused, (const void *)) \
    X(int, SSL_SESSION_is_resumable, (const void *)) \
    X(void, SSL_SESSION_free, (void *)) \
    X(const char *, SSL_get_version, (const void *)) \
    X(const void *, SSL_get_current_cipher, (const void *)) \
    X(const char *, SSL_CIPHER_get_name, (const void *)) \
    X(void *, BIO_new, (const void *)) \
    X(void, BIO_set_init, (void *, int)) \
    X(void, BIO_set_flags, (void *, int)) \
    X(void, BIO_clear_flags, (void *, int)) \
    X(int, BIO_get_new_index, (void)) \
    X(void *, BIO_meth_new, (int, const char *)) \
    X(int, BIO_meth_set_read, (void *, int (*)(void *, char *, int))) \
    X(int, BIO_meth_set_write, (void *, int (*)(void *, const char *, int))) \
    X(int, BIO_meth_set_ctrl, (void *, long (*)(void *, int, long, void *))) \
    X(unsigned long, ERR_get_error, (void)) \
    X(void, ERR_error_string_n, (unsigned long, char *, size_t))

#define OPENSSL_MEMBER(result, name, arguments) result(*name) arguments;
static struct { OPENSSL(OPENSSL_MEMBER) } ossl;
#undef OPENSSL_MEMBER

/* NULL, or what is missing. */
static const char *openssl_find(const char *path) {
    void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (!library) return dlerror();
#define OPENSSL_FIND(result, name, arguments) \
    *(void **)&ossl.name = dlsym(library, #name); /* its own dependencies, libcrypto among them, are searched too */ \
    if (!ossl.name) return #name;
    OPENSSL(OPENSSL_FIND)
#undef OPENSSL_FIND
    return NULL;
}
