# cython: language_level=3, freethreading_compatible=True
"""TLS for a connection, by OpenSSL, without IO: what is encrypted comes in and goes out through memory.

Clients only: TLS 1.2 and up, HTTP/2 by ALPN, the host's name by SNI and in the certificate.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from tai_grpc._ext.http2.buffers cimport buffer_reserve
from tai_grpc._ext.load.openssl cimport *

from tai_grpc.errors import ConfigError

cdef extern from *:
    """
    static const unsigned char tai_h2[] = {2, 'h', '2'};

    /* No terminal is asked for a key's password. */
    static int tai_no_password(char *buffer, int size, int writing, void *argument) {
        (void)buffer, (void)size, (void)writing, (void)argument;
        return -1;
    }
    """
    const unsigned char *H2 "tai_h2"
    void *NO_PASSWORD "(void *)tai_no_password"

cdef enum:
    H2_SIZE = 3
    MAX_PEM = 16 << 20

cdef const char *UNEXPLAINED = b"it failed"


# --- A connection ---------------------------------------------------------------------------------------


cdef SSL *tls_new(SSL_CTX *context, const char *name) noexcept nogil:
    cdef SSL *ssl = SSL_new(context)
    cdef BIO *received
    cdef BIO *sent
    if ssl is NULL:
        return NULL
    received = BIO_new(BIO_s_mem())
    sent = BIO_new(BIO_s_mem())
    if received is NULL or sent is NULL:
        BIO_free(received)
        BIO_free(sent)
        SSL_free(ssl)
        return NULL
    SSL_set_bio(ssl, received, sent)
    SSL_set_connect_state(ssl)
    if name is not NULL:
        # An address is looked for among the certificate's addresses, and is no name for SNI.
        if X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) != 1 and (
            SSL_set1_host(ssl, name) != 1 or SSL_set_tlsext_host_name(ssl, name) != 1
        ):
            SSL_free(ssl)
            return NULL
    return ssl


cdef void tls_free(SSL *ssl) noexcept nogil:
    SSL_free(ssl)


cdef int tls_feed(SSL *ssl, const char *data, size_t size) noexcept nogil:
    return 0 if BIO_write(SSL_get_rbio(ssl), data, <int>size) == <int>size else -1


cdef const char *_problem(SSL *ssl) noexcept nogil:
    cdef long verified = SSL_get_verify_result(ssl)
    cdef const char *reason
    if verified != X509_V_OK and SSL_get_verify_mode(ssl) != SSL_VERIFY_NONE:
        return X509_verify_cert_error_string(verified)
    reason = ERR_reason_error_string(ERR_peek_last_error())
    return reason if reason is not NULL else UNEXPLAINED


cdef int tls_handshake(SSL *ssl, const char **problem) noexcept nogil:
    cdef int result
    ERR_clear_error()
    result = SSL_do_handshake(ssl)
    if result == 1:
        return 1
    if SSL_get_error(ssl, result) == SSL_ERROR_WANT_READ:
        return 0
    problem[0] = _problem(ssl)
    return -1


cdef bint tls_is_http2(SSL *ssl) noexcept nogil:
    cdef const unsigned char *protocol = NULL
    cdef unsigned int size = 0
    SSL_get0_alpn_selected(ssl, &protocol, &size)
    return size == 2 and protocol[0] == c'h' and protocol[1] == c'2'


cdef ssize_t tls_read(SSL *ssl, char *data, size_t size, const char **problem) noexcept nogil:
    cdef int result, error
    ERR_clear_error()
    result = SSL_read(ssl, data, <int>size)
    if result > 0:
        return result
    error = SSL_get_error(ssl, result)
    if error == SSL_ERROR_WANT_READ:
        return 0
    if error == SSL_ERROR_ZERO_RETURN:
        return -1
    problem[0] = _problem(ssl)
    return -2


cdef int tls_write(SSL *ssl, const char *data, size_t size) noexcept nogil:
    ERR_clear_error()
    return 0 if size == 0 or SSL_write(ssl, data, <int>size) == <int>size else -1


cdef int tls_output(SSL *ssl, Buffer *buffer) noexcept nogil:
    cdef BIO *sent = SSL_get_wbio(ssl)
    cdef size_t size = BIO_ctrl_pending(sent)
    cdef int taken
    if size == 0:
        return 0
    if buffer_reserve(buffer, size) != 0:
        return -1
    taken = BIO_read(sent, buffer.data + buffer.size, <int>size)
    if taken > 0:
        buffer.size += <size_t>taken
    return 0 if taken == <int>size else -1


# --- What connections have in common --------------------------------------------------------------------


cdef class TlsContext:
    """How a client speaks TLS: version 1.2 and up, HTTP/2 by ALPN.

    `ca`: the authorities that are trusted, PEM; None: those that OpenSSL finds on this machine.
    `certificate`, with what leads to its authority, and `key` show the client to the server, PEM.
    `verify` False: any certificate of the server will do, whoever issued it and for what name.

    Raises:
        ConfigError: `ca`, `certificate` or `key` is not what it should be, or one of the last two is missing.
    """

    def __cinit__(self, *, bytes ca=None, bytes certificate=None, bytes key=None, bint verify=True):
        self.context = SSL_CTX_new(TLS_client_method())
        if self.context is NULL:
            raise MemoryError
        self.verifies = verify
        SSL_CTX_set_min_proto_version(self.context, TLS1_2_VERSION)
        SSL_CTX_set_options(
            self.context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF
        )
        SSL_CTX_set_mode(self.context, SSL_MODE_RELEASE_BUFFERS)
        SSL_CTX_set_verify(self.context, SSL_VERIFY_PEER if verify else SSL_VERIFY_NONE, NULL)
        if SSL_CTX_set_alpn_protos(self.context, H2, H2_SIZE) != 0:
            raise MemoryError
        if ca is not None:
            _each_certificate("ca", ca, self.context, &_trust)
        elif verify:
            SSL_CTX_set_default_verify_paths(self.context)
        if (certificate is None) != (key is None):
            missing = "key" if key is None else "certificate"
            raise ConfigError(missing, None, "PEM, as certificate and key go together")
        if certificate is not None:
            _each_certificate("certificate", certificate, self.context, &_show)
            _use_key(key, self.context)

    def __dealloc__(self):
        SSL_CTX_free(self.context)


cdef BIO *_bio(str field, bytes pem) except NULL:
    cdef BIO *bio = NULL
    if PyBytes_GET_SIZE(pem) <= MAX_PEM:
        bio = BIO_new_mem_buf(PyBytes_AS_STRING(pem), <int>PyBytes_GET_SIZE(pem))
    if bio is NULL:
        raise ConfigError(field, f"{PyBytes_GET_SIZE(pem)} bytes", "PEM of at most 16 MiB")
    return bio


cdef str _said():
    cdef const char *reason = ERR_reason_error_string(ERR_peek_last_error())
    ERR_clear_error()
    return "" if reason is NULL else f" ({reason.decode()})"


ctypedef bint (*Use)(SSL_CTX *context, X509 *certificate, int number) noexcept


cdef bint _trust(SSL_CTX *context, X509 *certificate, int _number) noexcept:
    return X509_STORE_add_cert(SSL_CTX_get_cert_store(context), certificate) == 1


cdef bint _show(SSL_CTX *context, X509 *certificate, int number) noexcept:
    if number == 0:
        return SSL_CTX_use_certificate(context, certificate) == 1
    return SSL_CTX_add1_chain_cert(context, certificate) == 1


cdef int _each_certificate(str field, bytes pem, SSL_CTX *context, Use use) except -1:
    """Use each certificate of a PEM text, at least one."""
    cdef BIO *bio = _bio(field, pem)
    cdef X509 *certificate
    cdef int number = 0
    cdef bint used = True
    cdef unsigned long error
    try:
        ERR_clear_error()
        while used:
            certificate = PEM_read_bio_X509(bio, NULL, NO_PASSWORD, NULL)
            if certificate is NULL:
                break
            used = use(context, certificate, number)
            X509_free(certificate)
            number += 1
        error = ERR_peek_last_error()
        at_end = ERR_GET_LIB(error) == ERR_LIB_PEM and ERR_GET_REASON(error) == PEM_R_NO_START_LINE
        if number == 0 or not used or not at_end:
            raise ConfigError(field, f"{len(pem)} bytes", f"certificates in PEM{'' if at_end else _said()}")
        ERR_clear_error()
    finally:
        BIO_free(bio)
    return 0


cdef int _use_key(bytes pem, SSL_CTX *context) except -1:
    cdef BIO *bio = _bio("key", pem)
    cdef EVP_PKEY *key = NULL
    try:
        ERR_clear_error()
        key = PEM_read_bio_PrivateKey(bio, NULL, NO_PASSWORD, NULL)
        if key is NULL:
            accepted = f"a private key in PEM, without a password{_said()}"
            raise ConfigError("key", f"{len(pem)} bytes", accepted)
        if SSL_CTX_use_PrivateKey(context, key) != 1 or SSL_CTX_check_private_key(context) != 1:
            raise ConfigError("key", f"{len(pem)} bytes", f"the certificate's private key{_said()}")
    finally:
        EVP_PKEY_free(key)
        BIO_free(bio)
    return 0
