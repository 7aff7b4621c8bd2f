# cython: language_level=3
"""Messages, compressed one by one as their `grpc-encoding` says: gzip (RFC 1952), deflate (RFC 1950)."""

import zlib

from tai_grpc._ext.http2.state cimport DEFLATE, GZIP, IDENTITY

cdef object _compressobj = zlib.compressobj
cdef object _decompressobj = zlib.decompressobj
cdef object _ZlibError = zlib.error

cdef int LEVEL = zlib.Z_DEFAULT_COMPRESSION
cdef int METHOD = zlib.DEFLATED


class BadCompression(ValueError):
    """What came is not what its encoding says."""


class MessageTooLarge(ValueError):
    """It is longer than the limit once it is decompressed."""


cdef int window_bits(int encoding) except -1:
    return 31 if encoding == GZIP else 15  # 16 more: with gzip's header


cdef bytes compress_message(bytes data, int encoding):
    if encoding != GZIP and encoding != DEFLATE:
        return None
    packer = _compressobj(LEVEL, METHOD, window_bits(encoding))
    cdef bytes packed = packer.compress(data) + packer.flush()
    return packed if len(packed) < len(data) else None


cdef bytes decompress_message(bytes data, int encoding, int64_t limit):
    if encoding == IDENTITY:
        raise BadCompression("the message is marked as compressed, and grpc-encoding names no compression")
    if encoding != GZIP and encoding != DEFLATE:
        raise BadCompression("grpc-encoding is none of identity, deflate, gzip")
    if limit < 0:
        limit = 0xFFFFFFFF
    unpacker = _decompressobj(window_bits(encoding))
    cdef bytes message
    try:
        message = unpacker.decompress(data, limit + 1)
    except _ZlibError as error:
        raise BadCompression(f"the message cannot be decompressed: {error}") from None
    if len(message) > limit:
        raise MessageTooLarge(f"Received message larger than max ({len(message)} or more vs. {limit})")
    if not unpacker.eof:
        raise BadCompression("the message cannot be decompressed: it is cut short")
    if unpacker.unused_data:
        raise BadCompression("the message cannot be decompressed: bytes follow its end")
    return message
