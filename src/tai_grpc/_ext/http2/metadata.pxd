"""Metadata as Python has them, to and from fields (see buffers.pxd)."""

from libc.stdint cimport int64_t

from tai_grpc._ext.http2.buffers cimport Buffer

# A tuple of Metadatum(key, value): bytes where the key ends in -bin, str otherwise.
cdef tuple metadata_of(const Buffer *fields)
# Append them, checked as gRPC has it. Raises TypeError and ValueError that name the key.
cdef int metadata_append(object metadata, Buffer *fields) except -1
# grpc-message, decoded; what is not well-formed stays as it is.
cdef str message_text(const char *data, size_t size)
# What is said of an end that came about like this (a Why, and what else an ENDED tells); of a connection
# that was lost, `data` is the reason.
cdef str ended_text(int why, int64_t number, const char *data, size_t size)
# What an HTTP/2 error code is called.
cdef str http2_error_name(long code)
