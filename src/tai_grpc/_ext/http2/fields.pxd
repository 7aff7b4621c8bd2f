"""The values of gRPC's own header fields."""

from libc.stdint cimport int64_t

from tai_grpc._ext.http2.buffers cimport Buffer

# grpc-timeout in nanoseconds; -1 when it is not at most 8 digits and one of H M S m u n.
cdef int64_t timeout_of(const char *value, size_t size) noexcept nogil
# Write it, rounded up to what 8 digits can say, into 10 bytes; returns how many.
cdef size_t timeout_text(int64_t timeout_ns, char *text) noexcept nogil
# A number of at most `digits` decimal digits; -1 otherwise.
cdef int64_t decimal_of(const char *value, size_t size, size_t digits) noexcept nogil
cdef size_t decimal_text(int64_t number, char *text) noexcept nogil  # at most 20 bytes
cdef int encoding_of(const char *value, size_t size) noexcept nogil  # an Encoding
cdef int accepted_of(const char *value, size_t size) noexcept nogil  # bits 1 << Encoding, IDENTITY always
cdef bint is_grpc(const char *content_type, size_t size) noexcept nogil
cdef int percent_append(Buffer *buffer, const char *text, size_t size) noexcept nogil  # -1: no memory
cdef int percent_decode(Buffer *buffer, const char *text, size_t size) noexcept nogil  # -1: no memory
# Without padding. -1: no memory.
cdef int base64_append(Buffer *buffer, const char *data, size_t size) noexcept nogil
# Padded or not. -1: it is not base64, or no memory.
cdef int base64_decode(Buffer *buffer, const char *text, size_t size) noexcept nogil
# The gRPC status that stands for an HTTP status without grpc-status, and for an HTTP/2 error code.
cdef int status_of_http(int http_status) noexcept nogil
cdef int status_of_reset(unsigned int error_code) noexcept nogil
