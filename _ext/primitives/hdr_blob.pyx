# cython: language_level=3, freethreading_compatible=True, boundscheck=False, wraparound=False, cdivision=True
"""HdrHistogram's V2 compressed blobs: a header and the counts, deflated, behind another header, in base64.

The counts are ZigZag, then LEB128 in at most 9 bytes; a negative number is a run of zeros.
"""

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from struct import Struct
from struct import error as StructError
from zlib import compress, decompressobj
from zlib import error as ZlibError

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport free, malloc

from tai_grpc._ext.primitives.atomics cimport load
from tai_grpc._ext.primitives.hdr cimport MAX_COUNT, last_index

BLOB_ERRORS = (Base64Error, StructError, ZlibError, ValueError, TypeError)
"""What reading a blob raises when it is none."""

cdef object _OUTER = Struct(">II")
cdef object _INNER = Struct(">IIIIqqd")
cdef uint64_t COMPRESSED_COOKIE = 0x1C849314
cdef uint64_t ENCODING_COOKIE = 0x1C849313


cdef inline uint8_t *_put(uint8_t *out, int64_t number) noexcept nogil:
    cdef uint64_t rest = (<uint64_t>number << 1) ^ <uint64_t>(number >> 63)
    for _ in range(8):
        if rest < 0x80:
            break
        out[0] = <uint8_t>(rest & 0x7F) | 0x80
        out += 1
        rest >>= 7
    out[0] = <uint8_t>rest
    return out + 1


cdef Py_ssize_t _encode(const int64_t *counts, int64_t counts_len, uint8_t *out) noexcept nogil:
    """Write the counts to `out`, which has 9 bytes for each; return how many bytes they took."""
    cdef uint8_t *start = out
    cdef int64_t index = 0
    cdef int64_t count, zeros
    while index < counts_len:
        count = load(&counts[index])
        index += 1
        if count == 0:
            zeros = 1
            while index < counts_len and load(&counts[index]) == 0:
                zeros += 1
                index += 1
            count = -zeros
        out = _put(out, count)
    return out - start


cdef bint _decode(const uint8_t *data, Py_ssize_t size, int64_t *counts, int64_t counts_len) noexcept nogil:
    """Read counts from `data`; False when it is no sequence of at most `counts_len`, or they are too many."""
    cdef Py_ssize_t at = 0
    cdef int64_t room = MAX_COUNT
    cdef int64_t index = 0
    cdef int64_t number
    cdef uint64_t raw
    cdef int shift
    while at < size:
        raw = 0
        shift = 0
        while True:
            if at == size:
                return False
            if shift == 56:
                raw |= <uint64_t>data[at] << 56
                at += 1
                break
            raw |= <uint64_t>(data[at] & 0x7F) << shift
            shift += 7
            at += 1
            if data[at - 1] < 0x80:
                break
        number = <int64_t>(raw >> 1) ^ -<int64_t>(raw & 1)
        if number < 0:
            # Not `-number > ...`: the least of all numbers has no opposite.
            if number < index - counts_len:
                return False
            index -= number
        else:
            if index == counts_len or number > room:
                return False
            room -= number
            counts[index] = number
            index += 1
    return True


cdef bytes write_blob(const HistogramState *state, const int64_t *counts):
    """The counts as a blob in base64."""
    cdef int64_t counts_len = last_index(state, counts) + 1
    cdef Py_ssize_t size
    cdef bytes payload
    cdef uint8_t *out = <uint8_t *>malloc(<size_t>counts_len * 9 + 1)
    if out is NULL:
        raise MemoryError(f"cannot set aside {counts_len * 9} bytes")
    try:
        with nogil:
            size = _encode(counts, counts_len, out)
        payload = PyBytes_FromStringAndSize(<char *>out, size)
    finally:
        free(out)
    header = _INNER.pack(ENCODING_COOKIE, size, 0, state.significant_digits, state.lowest, state.highest, 1.0)
    compressed = compress(header + payload)
    return b64encode(_OUTER.pack(COMPRESSED_COOKIE, len(compressed)) + compressed)


cdef tuple read_header(object blob):
    """Of a blob (bytes or str): lowest, highest, digits, and the two arguments for `read_counts`."""
    data = b64decode(blob, validate=True)
    cookie, size = _OUTER.unpack_from(data)
    if cookie != COMPRESSED_COOKIE or size != len(data) - _OUTER.size:
        raise ValueError("its outer header is wrong")
    inflate = decompressobj()
    header = inflate.decompress(data[_OUTER.size:], _INNER.size)
    cookie, size, offset, digits, lowest, highest, ratio = _INNER.unpack(header)
    if cookie != ENCODING_COOKIE or offset != 0 or ratio != 1.0:
        raise ValueError("its inner header is wrong")
    return lowest, highest, digits, size, inflate


cdef int read_counts(object inflate, int64_t size, int64_t *counts, int64_t counts_len) except -1:
    """Read what follows the header, `size` bytes, into zeroed counts."""
    cdef bytes payload
    if size > 9 * counts_len:
        raise ValueError(f"{size} bytes are too many")
    payload = inflate.decompress(inflate.unconsumed_tail, size + 1)
    if len(payload) != size or not inflate.eof:
        raise ValueError(f"it is not followed by {size} bytes")
    if not _decode(<const uint8_t *>PyBytes_AS_STRING(payload), len(payload), counts, counts_len):
        raise ValueError("its counts are wrong")
    return 0
