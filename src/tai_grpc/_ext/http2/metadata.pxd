"""Metadata as Python has them, to and from fields (see buffers.pxd)."""

from tai_grpc._ext.http2.buffers cimport Buffer

# ((key, str or bytes), ...): bytes where the key ends in -bin.
cdef tuple metadata_of(const Buffer *fields)
# Append them. Raises TypeError and ValueError that name the key.
cdef int metadata_append(object metadata, Buffer *fields) except -1
# grpc-message, decoded; what is not well-formed stays as it is.
cdef str message_text(const char *data, size_t size)
# What a gRPC status, HTTP status or HTTP/2 error code is called.
cdef str http2_error_name(long code)
