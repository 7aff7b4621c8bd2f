"""What is used of OpenSSL, as of 3.0."""

from libc.stdint cimport uint64_t

cdef extern from "openssl/ssl.h" nogil:
    ctypedef struct SSL_CTX:
        pass
    ctypedef struct SSL:
        pass
    ctypedef struct SSL_METHOD:
        pass
    const SSL_METHOD *TLS_client_method()
    SSL_CTX *SSL_CTX_new(const SSL_METHOD *method)
    void SSL_CTX_free(SSL_CTX *context)
    int SSL_CTX_set_min_proto_version(SSL_CTX *context, int version)
    uint64_t SSL_CTX_set_options(SSL_CTX *context, uint64_t options)
    long SSL_CTX_set_mode(SSL_CTX *context, long mode)
    void SSL_CTX_set_verify(SSL_CTX *context, int mode, void *callback)
    int SSL_CTX_set_alpn_protos(SSL_CTX *context, const unsigned char *protocols, unsigned int size)
    int SSL_CTX_set_default_verify_paths(SSL_CTX *context)
    X509_STORE *SSL_CTX_get_cert_store(const SSL_CTX *context)
    int SSL_CTX_use_certificate(SSL_CTX *context, X509 *certificate)
    int SSL_CTX_use_PrivateKey(SSL_CTX *context, EVP_PKEY *key)
    int SSL_CTX_check_private_key(const SSL_CTX *context)
    long SSL_CTX_add1_chain_cert(SSL_CTX *context, X509 *certificate)
    SSL *SSL_new(SSL_CTX *context)
    void SSL_free(SSL *ssl)
    void SSL_set_connect_state(SSL *ssl)
    void SSL_set_bio(SSL *ssl, BIO *read, BIO *write)
    BIO *SSL_get_rbio(const SSL *ssl)
    BIO *SSL_get_wbio(const SSL *ssl)
    int SSL_do_handshake(SSL *ssl)
    int SSL_read(SSL *ssl, void *data, int size)
    int SSL_write(SSL *ssl, const void *data, int size)
    int SSL_get_error(const SSL *ssl, int result)
    void SSL_get0_alpn_selected(const SSL *ssl, const unsigned char **protocol, unsigned int *size)
    long SSL_set_tlsext_host_name(SSL *ssl, const char *name)
    int SSL_set1_host(SSL *ssl, const char *name)
    X509_VERIFY_PARAM *SSL_get0_param(SSL *ssl)
    long SSL_get_verify_result(const SSL *ssl)
    int SSL_get_verify_mode(const SSL *ssl)
    const int TLS1_2_VERSION
    const uint64_t SSL_OP_NO_RENEGOTIATION
    const uint64_t SSL_OP_NO_COMPRESSION
    const uint64_t SSL_OP_IGNORE_UNEXPECTED_EOF
    const long SSL_MODE_RELEASE_BUFFERS
    const int SSL_VERIFY_NONE
    const int SSL_VERIFY_PEER
    const int SSL_ERROR_WANT_READ
    const int SSL_ERROR_ZERO_RETURN

cdef extern from "openssl/x509v3.h" nogil:
    ctypedef struct X509:
        pass
    ctypedef struct X509_STORE:
        pass
    ctypedef struct X509_VERIFY_PARAM:
        pass
    ctypedef struct EVP_PKEY:
        pass
    int X509_STORE_add_cert(X509_STORE *store, X509 *certificate)
    void X509_free(X509 *certificate)
    void EVP_PKEY_free(EVP_PKEY *key)
    int X509_VERIFY_PARAM_set1_ip_asc(X509_VERIFY_PARAM *parameters, const char *address)
    const char *X509_verify_cert_error_string(long error)
    const long X509_V_OK

cdef extern from "openssl/pem.h" nogil:
    X509 *PEM_read_bio_X509(BIO *bio, X509 **certificate, void *password, void *argument)
    EVP_PKEY *PEM_read_bio_PrivateKey(BIO *bio, EVP_PKEY **key, void *password, void *argument)
    const int PEM_R_NO_START_LINE
    const int ERR_LIB_PEM

cdef extern from "openssl/bio.h" nogil:
    ctypedef struct BIO_METHOD:
        pass
    ctypedef struct BIO:
        pass
    const BIO_METHOD *BIO_s_mem()
    BIO *BIO_new(const BIO_METHOD *method)
    BIO *BIO_new_mem_buf(const void *data, int size)
    int BIO_free(BIO *bio)
    int BIO_read(BIO *bio, void *data, int size)
    int BIO_write(BIO *bio, const void *data, int size)
    size_t BIO_ctrl_pending(BIO *bio)

cdef extern from "openssl/err.h" nogil:
    void ERR_clear_error()
    unsigned long ERR_peek_last_error()
    const char *ERR_reason_error_string(unsigned long error)
    int ERR_GET_LIB(unsigned long error)
    int ERR_GET_REASON(unsigned long error)
