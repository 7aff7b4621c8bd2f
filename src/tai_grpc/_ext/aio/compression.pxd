"""Messages compressed with deflate (zlib's form) or gzip. See compression.pyx."""

from libc.stdint cimport int64_t

# What is smaller compressed, else None: then it is better sent as it is.
cdef bytes compressed(bytes data, int encoding)
# At most `limit` bytes (-1: without limit). Raises TooLargeError: it would be more; ValueError: it is not
# well-formed.
cdef bytes decompressed(bytes data, int encoding, int64_t limit)
