"""Messages, compressed one by one as their `grpc-encoding` says."""

from libc.stdint cimport int64_t

# None: it would be no smaller, so it goes as it is. `encoding` is of http2.state.Encoding.
cdef bytes compress_message(bytes data, int encoding)
# Raises BadCompression, and MessageTooLarge once there are more than `limit` bytes (-1: 2^32-1).
cdef bytes decompress_message(bytes data, int encoding, int64_t limit)
