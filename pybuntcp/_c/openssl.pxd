# cython: language_level=3
"""openssl: the OpenSSL that the interpreter's own `ssl` module has loaded. Used as `ossl.x`, never shipped.

No header of OpenSSL is needed and nothing is linked: the functions are looked up by name in the library that `_ssl` was
loaded with. Declared here are the functions that 1.1.1 and 3.x share and that are required (R), and optional ones (O),
which the code checks for NULL before it calls them.
"""

cdef extern from * nogil:
    """
    #include <dlfcn.h>
    #include <stdint.h>
    #include <stddef.h>

    typedef int (*pbt_choose)(void*, const unsigned char**, unsigned char*, const unsigned char*, unsigned int, void*);

    #define PBT_OPENSSL(R, O) \\
      R(const char*, OpenSSL_version, (int)) \\
      R(int, CRYPTO_get_ex_new_index, (int, long, void*, void*, void*, void*)) \\
      R(void*, SSL_get_ex_data, (const void*, int)) \\
      R(int, SSL_set_ex_data, (void*, int, void*)) \
      R(void*, SSL_get_SSL_CTX, (const void*)) \\
      R(void, SSL_set_bio, (void*, void*, void*)) \\
      R(int, SSL_read, (void*, void*, int)) \\
      R(int, SSL_write, (void*, const void*, int)) \\
      R(int, SSL_do_handshake, (void*)) \\
      R(int, SSL_pending, (const void*)) \\
      R(int, SSL_in_init, (const void*)) \\
      R(const char*, SSL_state_string, (const void*)) \\
      R(int, SSL_get_shutdown, (const void*)) \\
      R(int, SSL_shutdown, (void*)) \\
      R(long, SSL_ctrl, (void*, int, long, void*)) \\
      R(long, SSL_callback_ctrl, (void*, int, void*)) \\
      R(long, SSL_CTX_ctrl, (void*, int, long, void*)) \\
      R(uint64_t, SSL_set_options, (void*, uint64_t)) \\
      R(uint64_t, SSL_clear_options, (void*, uint64_t)) \\
      R(uint64_t, SSL_CTX_get_options, (const void*)) \\
      R(void*, BIO_new, (const void*)) \\
      R(void, BIO_set_flags, (void*, int)) \\
      R(void, BIO_clear_flags, (void*, int)) \\
      R(void, BIO_set_data, (void*, void*)) \\
      R(void*, BIO_get_data, (void*)) \\
      R(void, BIO_set_init, (void*, int)) \\
      R(int, BIO_get_new_index, (void)) \\
      R(void*, BIO_meth_new, (int, const char*)) \\
      R(int, BIO_meth_set_read, (void*, int (*)(void*, char*, int))) \\
      R(int, BIO_meth_set_write, (void*, int (*)(void*, const char*, int))) \\
      R(int, BIO_meth_set_ctrl, (void*, long (*)(void*, int, long, void*))) \\
      R(void, ERR_clear_error, (void)) \\
      R(unsigned long, ERR_get_error, (void)) \\
      R(const char*, ERR_lib_error_string, (unsigned long)) \\
      R(const char*, ERR_reason_error_string, (unsigned long)) \\
      R(void, SSL_set_verify, (void*, int, int (*)(int, void*))) \\
      R(long, SSL_get_verify_result, (const void*)) \\
      R(const char*, X509_verify_cert_error_string, (long)) \\
      R(void*, SSL_get0_param, (void*)) \\
      R(void*, SSL_CTX_get0_param, (void*)) \\
      R(int, X509_VERIFY_PARAM_set1, (void*, const void*)) \\
      R(int, X509_VERIFY_PARAM_set_inh_flags, (void*, uint32_t)) \\
      R(uint32_t, X509_VERIFY_PARAM_get_inh_flags, (const void*)) \\
      R(int, X509_VERIFY_PARAM_set1_host, (void*, const char*, size_t)) \\
      R(int, X509_VERIFY_PARAM_set1_ip_asc, (void*, const char*)) \\
      R(int, X509_VERIFY_PARAM_set1_ip, (void*, const unsigned char*, size_t)) \\
      R(unsigned int, X509_VERIFY_PARAM_get_hostflags, (const void*)) \\
      R(int, SSL_export_keying_material, \\
        (void*, unsigned char*, size_t, const char*, size_t, const unsigned char*, size_t, int)) \\
      R(size_t, SSL_get_finished, (const void*, void*, size_t)) \\
      R(size_t, SSL_get_peer_finished, (const void*, void*, size_t)) \\
      R(void*, SSL_get1_session, (void*)) \\
      R(int, SSL_set_session, (void*, void*)) \\
      R(void, SSL_SESSION_free, (void*)) \\
      R(int, i2d_SSL_SESSION, (const void*, unsigned char**)) \\
      R(void*, d2i_SSL_SESSION, (void**, const unsigned char**, long)) \\
      R(int, SSL_SESSION_is_resumable, (const void*)) \\
      R(const char*, SSL_get_servername, (const void*, int)) \\
      R(const void*, SSL_get_current_cipher, (const void*)) \\
      R(const char*, SSL_CIPHER_standard_name, (const void*)) \\
      R(void*, SSL_get_certificate, (const void*)) \\
      O(void*, SSL_get1_peer_certificate, (const void*)) \\
      O(void*, SSL_get_peer_certificate, (const void*)) \\
      R(int, X509_check_host, (void*, const char*, size_t, unsigned int, char**)) \\
      R(int, X509_check_ip_asc, (void*, const char*, unsigned int)) \\
      R(void, X509_free, (void*)) \\
      R(int, i2d_X509, (const void*, unsigned char**)) \\
      R(int, SSL_set_session_id_context, (void*, const unsigned char*, unsigned int)) \\
      R(int, SSL_CTX_set_ciphersuites, (void*, const char*)) \\
      R(void, SSL_CTX_set_alpn_select_cb, (void*, pbt_choose, void*)) \\
      R(void, SSL_CTX_set_client_hello_cb, (void*, int (*)(void*, int*, void*), void*)) \\
      R(void, SSL_SESSION_get0_ticket, (const void*, const unsigned char**, size_t*)) \\
      R(int, SSL_get_shared_sigalgs, (void*, int, int*, int*, int*, unsigned char*, unsigned char*)) \\
      R(const char*, OBJ_nid2sn, (int)) \\
      R(void, EVP_PKEY_free, (void*)) \\
      O(int, EVP_PKEY_get_id, (const void*)) \\
      O(int, EVP_PKEY_id, (const void*)) \\
      O(int, EVP_PKEY_get_bits, (const void*)) \\
      O(int, EVP_PKEY_bits, (const void*)) \\
      O(const char*, SSL_group_to_name, (void*, int))

    typedef struct pbt_openssl {
    #define PBT_MEMBER(result, name, arguments) result (*name) arguments;
      PBT_OPENSSL(PBT_MEMBER, PBT_MEMBER)
    #undef PBT_MEMBER
    } pbt_openssl;

    /* Fill the table. Returns NULL, or the name of a required function that is missing. */
    static const char* pbt_openssl_find(pbt_openssl* self, void* library) {
    #define PBT_FIND(result, name, arguments) *(void**)&self->name = dlsym(library, #name);
    #define PBT_NEED(result, name, arguments) PBT_FIND(result, name, arguments) if (self->name == NULL) return #name;
      PBT_OPENSSL(PBT_NEED, PBT_FIND)
    #undef PBT_NEED
    #undef PBT_FIND
      return NULL;
    }

    /* To get the SSL* that this thread is making: OpenSSL calls these hooks (ex_data) when it makes and frees one. */
    static _Thread_local int pbt_catching;
    static _Thread_local void* pbt_caught;
    static void pbt_on_ssl_new(void* parent, void* data, void* ad, int index, long argl, void* argp) {
        (void)data; (void)ad; (void)index; (void)argl; (void)argp;
        if (pbt_catching) pbt_caught = parent;
    }
    static void pbt_on_ssl_free(void* parent, void* data, void* ad, int index, long argl, void* argp) {
        (void)data; (void)ad; (void)index; (void)argl; (void)argp;
        if (pbt_caught == parent) pbt_caught = NULL;
    }
    static void pbt_catch_begin(void) { pbt_caught = NULL; pbt_catching = 1; }
    static void* pbt_catch_end(void) { pbt_catching = 0; return pbt_caught; }
    static int pbt_accept_any(int preverified, void* store) { (void)preverified; (void)store; return 1; }
    """
    ctypedef int (*choose "pbt_choose")(
        void*, const unsigned char**, unsigned char*, const unsigned char*, unsigned int, void*
    ) noexcept nogil

    ctypedef struct openssl "pbt_openssl":
        const char* (*OpenSSL_version)(int) noexcept nogil
        int (*CRYPTO_get_ex_new_index)(int, long, void*, void*, void*, void*) noexcept nogil
        void* (*SSL_get_ex_data)(const void*, int) noexcept nogil
        int (*SSL_set_ex_data)(void*, int, void*) noexcept nogil
        void* (*SSL_get_SSL_CTX)(const void*) noexcept nogil
        void (*SSL_set_bio)(void*, void*, void*) noexcept nogil
        int (*SSL_read)(void*, void*, int) noexcept nogil
        int (*SSL_write)(void*, const void*, int) noexcept nogil
        int (*SSL_do_handshake)(void*) noexcept nogil
        int (*SSL_pending)(const void*) noexcept nogil
        int (*SSL_in_init)(const void*) noexcept nogil
        const char* (*SSL_state_string)(const void*) noexcept nogil
        int (*SSL_get_shutdown)(const void*) noexcept nogil
        int (*SSL_shutdown)(void*) noexcept nogil
        long (*SSL_ctrl)(void*, int, long, void*) noexcept nogil
        long (*SSL_callback_ctrl)(void*, int, void*) noexcept nogil
        long (*SSL_CTX_ctrl)(void*, int, long, void*) noexcept nogil
        unsigned long (*SSL_set_options)(void*, unsigned long) noexcept nogil
        unsigned long (*SSL_clear_options)(void*, unsigned long) noexcept nogil
        unsigned long (*SSL_CTX_get_options)(const void*) noexcept nogil
        void* (*BIO_new)(const void*) noexcept nogil
        void (*BIO_set_flags)(void*, int) noexcept nogil
        void (*BIO_clear_flags)(void*, int) noexcept nogil
        void (*BIO_set_data)(void*, void*) noexcept nogil
        void* (*BIO_get_data)(void*) noexcept nogil
        void (*BIO_set_init)(void*, int) noexcept nogil
        int (*BIO_get_new_index)() noexcept nogil
        void* (*BIO_meth_new)(int, const char*) noexcept nogil
        int (*BIO_meth_set_read)(void*, int (*)(void*, char*, int) noexcept nogil) noexcept nogil
        int (*BIO_meth_set_write)(void*, int (*)(void*, const char*, int) noexcept nogil) noexcept nogil
        int (*BIO_meth_set_ctrl)(void*, long (*)(void*, int, long, void*) noexcept nogil) noexcept nogil
        void (*ERR_clear_error)() noexcept nogil
        unsigned long (*ERR_get_error)() noexcept nogil
        const char* (*ERR_lib_error_string)(unsigned long) noexcept nogil
        const char* (*ERR_reason_error_string)(unsigned long) noexcept nogil
        void (*SSL_set_verify)(void*, int, void*) noexcept nogil
        long (*SSL_get_verify_result)(const void*) noexcept nogil
        const char* (*X509_verify_cert_error_string)(long) noexcept nogil
        void* (*SSL_get0_param)(void*) noexcept nogil
        void* (*SSL_CTX_get0_param)(void*) noexcept nogil
        int (*X509_VERIFY_PARAM_set1)(void*, const void*) noexcept nogil
        int (*X509_VERIFY_PARAM_set_inh_flags)(void*, unsigned int) noexcept nogil
        unsigned int (*X509_VERIFY_PARAM_get_inh_flags)(const void*) noexcept nogil
        int (*X509_VERIFY_PARAM_set1_host)(void*, const char*, size_t) noexcept nogil
        int (*X509_VERIFY_PARAM_set1_ip_asc)(void*, const char*) noexcept nogil
        int (*X509_VERIFY_PARAM_set1_ip)(void*, const unsigned char*, size_t) noexcept nogil
        unsigned int (*X509_VERIFY_PARAM_get_hostflags)(const void*) noexcept nogil
        int (*SSL_export_keying_material)(
            void*, unsigned char*, size_t, const char*, size_t, const unsigned char*, size_t, int
        ) noexcept nogil
        size_t (*SSL_get_finished)(const void*, void*, size_t) noexcept nogil
        size_t (*SSL_get_peer_finished)(const void*, void*, size_t) noexcept nogil
        void* (*SSL_get1_session)(void*) noexcept nogil
        int (*SSL_set_session)(void*, void*) noexcept nogil
        void (*SSL_SESSION_free)(void*) noexcept nogil
        int (*i2d_SSL_SESSION)(const void*, unsigned char**) noexcept nogil
        void* (*d2i_SSL_SESSION)(void**, const unsigned char**, long) noexcept nogil
        int (*SSL_SESSION_is_resumable)(const void*) noexcept nogil
        const char* (*SSL_get_servername)(const void*, int) noexcept nogil
        const void* (*SSL_get_current_cipher)(const void*) noexcept nogil
        const char* (*SSL_CIPHER_standard_name)(const void*) noexcept nogil
        void* (*SSL_get_certificate)(const void*) noexcept nogil
        void* (*SSL_get1_peer_certificate)(const void*) noexcept nogil
        void* (*SSL_get_peer_certificate)(const void*) noexcept nogil
        int (*X509_check_host)(void*, const char*, size_t, unsigned int, char**) noexcept nogil
        int (*X509_check_ip_asc)(void*, const char*, unsigned int) noexcept nogil
        void (*X509_free)(void*) noexcept nogil
        int (*i2d_X509)(const void*, unsigned char**) noexcept nogil
        int (*SSL_set_session_id_context)(void*, const unsigned char*, unsigned int) noexcept nogil
        int (*SSL_CTX_set_ciphersuites)(void*, const char*) noexcept nogil
        void (*SSL_CTX_set_alpn_select_cb)(void*, choose, void*) noexcept nogil
        void (*SSL_CTX_set_client_hello_cb)(void*, int (*)(void*, int*, void*) noexcept, void*) noexcept nogil
        void (*SSL_SESSION_get0_ticket)(const void*, const unsigned char**, size_t*) noexcept nogil
        int (*SSL_get_shared_sigalgs)(void*, int, int*, int*, int*, unsigned char*, unsigned char*) noexcept nogil
        const char* (*OBJ_nid2sn)(int) noexcept nogil
        void (*EVP_PKEY_free)(void*) noexcept nogil
        int (*EVP_PKEY_get_id)(const void*) noexcept nogil
        int (*EVP_PKEY_id)(const void*) noexcept nogil
        int (*EVP_PKEY_get_bits)(const void*) noexcept nogil
        int (*EVP_PKEY_bits)(const void*) noexcept nogil
        const char* (*SSL_group_to_name)(void*, int) noexcept nogil

    const char* find "pbt_openssl_find"(openssl*, void*)
    void on_ssl_new "pbt_on_ssl_new"(void*, void*, void*, int, long, void*)
    void on_ssl_free "pbt_on_ssl_free"(void*, void*, void*, int, long, void*)
    void catch_begin "pbt_catch_begin"()
    void* catch_end "pbt_catch_end"()
    int accept_any "pbt_accept_any"(int, void*)

    void* dlopen(const char*, int)
    const char* dlerror()
    int RTLD_LAZY
    int RTLD_NOLOAD

    enum:
        SSL_RECEIVED_SHUTDOWN "2"
        BIO_FLAGS_READ_RETRY "0x9"
        BIO_FLAGS_RETRY "0xF"
        BIO_CTRL_PENDING "10"
        BIO_CTRL_FLUSH "11"
        BIO_TYPE_SOURCE_SINK "0x400"
        SSL_OP_NO_RENEGOTIATION "(1ul << 30)"
        SSL_VERIFY_NONE "0"
        SSL_VERIFY_PEER "1"
        SSL_VERIFY_FAIL_IF_NO_PEER_CERT "2"
        ALPN_CHOSEN "0"
        ALPN_NONE_IN_COMMON "2"
        PARAM_OVERWRITE "0x2"
        PARAM_RESET_FLAGS "0x4"
        NEVER_CHECK_SUBJECT "0x20"
        CTRL_SET_MAX_SEND_FRAGMENT "52"
        CTRL_SET_TLSEXT_HOSTNAME "55"
        CTRL_SET_TLSEXT_DEBUG_CB "56"
        CTRL_SET_GROUPS_LIST "92"
        ALERT_ILLEGAL_PARAMETER "47"
        CTRL_SET_MIN_PROTO_VERSION "123"
        CTRL_SET_MAX_PROTO_VERSION "124"
        CTRL_GET_PEER_TMP_KEY "109"
        CTRL_GET_NEGOTIATED_GROUP "134"
