"""TLS for a connection, without IO: what is encrypted comes in and goes out through memory. See tls.pyx."""

from tai_grpc._ext.http2.buffers cimport Buffer
from tai_grpc._ext.load.openssl cimport SSL, SSL_CTX

# A connection's; `name`: what the certificate is checked for, NULL: nothing. NULL: no memory.
cdef SSL *tls_new(SSL_CTX *context, const char *name) noexcept nogil
cdef void tls_free(SSL *ssl) noexcept nogil
# What the peer sent. -1: no memory.
cdef int tls_feed(SSL *ssl, const char *data, size_t size) noexcept nogil
# 1: done; 0: it waits for the peer; -1: it failed, and `problem` says why.
cdef int tls_handshake(SSL *ssl, const char **problem) noexcept nogil
cdef bint tls_is_http2(SSL *ssl) noexcept nogil  # what both sides agreed on
# Decrypt. 0: there is no more now; -1: the peer has ended it; -2: it failed, and `problem` says why.
cdef ssize_t tls_read(SSL *ssl, char *data, size_t size, const char **problem) noexcept nogil
cdef int tls_write(SSL *ssl, const char *data, size_t size) noexcept nogil  # encrypt. -1: it failed
cdef int tls_output(SSL *ssl, Buffer *buffer) noexcept nogil  # append what is to be sent. -1: no memory


cdef class TlsContext:
    cdef SSL_CTX *context
    cdef readonly bint verifies
