# cython: language_level=3
"""Compression of single messages. What one unpacks to is bounded: a few bytes may stand for a gigabyte."""

import zlib

from cpython.bytes cimport PyBytes_GET_SIZE

from tai_grpc._ext.http2.state cimport DEFLATE, GZIP

cdef object _compressobj = zlib.compressobj
cdef object _decompressobj = zlib.decompressobj
cdef object _error = zlib.error


class TooLargeError(ValueError):
    """A message is longer than the limit once it is decompressed."""


cdef enum:
    LEVEL = 6
    GZIP_BITS = 31  # 15 of window, 16: with gzip's header
    DEFLATE_BITS = 15


cdef inline int _bits(int encoding) except -1:
    if encoding == GZIP:
        return GZIP_BITS
    if encoding == DEFLATE:
        return DEFLATE_BITS
    raise ValueError(f"encoding {encoding} is not a compression")


cdef bytes compressed(bytes data, int encoding):
    packer = _compressobj(LEVEL, zlib.DEFLATED, _bits(encoding))
    cdef bytes packed = packer.compress(data) + packer.flush()
    return packed if PyBytes_GET_SIZE(packed) < PyBytes_GET_SIZE(data) else None


cdef bytes decompressed(bytes data, int encoding, int64_t limit):
    unpacker = _decompressobj(_bits(encoding))
    cdef bytes unpacked
    try:
        unpacked = unpacker.decompress(data, limit + 1 if limit >= 0 else 0)
    except _error as error:
        raise ValueError(f"the message is not what grpc-encoding says: {error}") from None
    if 0 <= limit < PyBytes_GET_SIZE(unpacked):
        raise TooLargeError(f"Received message larger than max ({limit + 1} or more vs. {limit})")
    if not unpacker.eof:
        raise ValueError("the message is cut off within its compressed form")
    if unpacker.unused_data:
        raise ValueError("something follows the message's compressed form")
    return unpacked
