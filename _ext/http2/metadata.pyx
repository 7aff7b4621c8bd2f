# cython: language_level=3, freethreading_compatible=True
"""Metadata as Python has them, to and from the fields of header blocks.

Keys are lower-case letters, digits, `_`, `-` and `.`; those that end in -bin have bytes as values, which go
as base64 without padding, all others printable ASCII (PROTOCOL-HTTP2.md).
"""

from typing import NamedTuple

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeLatin1, PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t
from libc.string cimport memchr, memcmp

from tai_grpc._ext.http2.buffers cimport (
    Buffer, Cursor, Field, buffer_append_field, buffer_free, cursor_on, read_field,
)
from tai_grpc._ext.http2.fields cimport base64_append, base64_decode, percent_decode
from tai_grpc._ext.http2.state cimport BY_CONNECTION, BY_HTTP_STATUS, BY_RESET, BY_STATUS

from tai_grpc.status import RESERVED_KEYS


class Metadatum(NamedTuple):
    """One entry of the metadata received."""

    key: str
    value: str | bytes


cdef frozenset _RESERVED = frozenset([name.encode() for name in RESERVED_KEYS])

cdef tuple _ERROR_NAMES = (
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
    "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
)


cdef inline bint _is_binary(const char *name, size_t size) noexcept nogil:
    return size >= 4 and memcmp(name + size - 4, <const char *>b"-bin", 4) == 0


cdef tuple metadata_of(const Buffer *fields):
    cdef Cursor cursor = cursor_on(fields.data, fields.size)
    cdef Field field
    cdef list found = []
    while read_field(&cursor, &field) == 0:
        key = PyUnicode_DecodeLatin1(field.name, field.name_size, NULL)
        if _is_binary(field.name, field.name_size):
            _append_binary(found, key, &field)
        else:
            found.append(Metadatum(key, PyUnicode_DecodeLatin1(field.value, field.value_size, NULL)))
    return tuple(found)


cdef int _append_binary(list found, str key, const Field *field) except -1:
    """A peer may join several values with commas; one that is not base64 is left out."""
    cdef const char *at = field.value
    cdef size_t left = field.value_size, size
    cdef const char *comma
    cdef Buffer decoded
    decoded.data = NULL
    decoded.size = decoded.capacity = 0
    try:
        while True:
            comma = <const char *>memchr(at, c',', left)
            size = left if comma is NULL else <size_t>(comma - at)
            decoded.size = 0
            if base64_decode(&decoded, at, size) == 0:
                found.append(Metadatum(key, PyBytes_FromStringAndSize(decoded.data, decoded.size)))
            if comma is NULL:
                return 0
            at += size + 1
            left -= size + 1
            while left != 0 and at[0] == c' ':
                at += 1
                left -= 1
    finally:
        buffer_free(&decoded)


cdef int metadata_append(object metadata, Buffer *fields) except -1:
    for entry in metadata:
        key, value = entry
        _append(key, value, fields)
    return 0


cdef int _append(object key, object value, Buffer *fields) except -1:
    cdef bytes name = _key(key)
    cdef bytes encoded
    cdef Buffer binary
    cdef int result
    if name == b"user-agent":
        return 0  # the transport says it; those who pass on what they were sent have it among theirs
    if _is_binary(PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name)):
        if not isinstance(value, bytes):
            raise TypeError(f"metadata {key!r}: the value of a -bin key is bytes, not {type(value).__name__}")
        encoded = value
        binary.data = NULL
        binary.size = binary.capacity = 0
        try:
            result = base64_append(&binary, PyBytes_AS_STRING(encoded), PyBytes_GET_SIZE(encoded))
            if result == 0:
                result = buffer_append_field(
                    fields, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), binary.data, binary.size
                )
        finally:
            buffer_free(&binary)
    else:
        encoded = _text(key, value)
        result = buffer_append_field(
            fields, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name),
            PyBytes_AS_STRING(encoded), PyBytes_GET_SIZE(encoded),
        )
    if result != 0:
        raise MemoryError
    return 0


cdef bytes _key(object key):
    cdef bytes name
    cdef unsigned char octet
    if isinstance(key, str):
        name = (<str>key).encode("utf-8", "surrogateescape")
    elif isinstance(key, bytes):
        name = key
    else:
        raise TypeError(f"metadata: a key is a str, not {type(key).__name__}")
    for octet in name:
        if not (
            c'a' <= octet <= c'z' or c'0' <= octet <= c'9' or octet == c'_' or octet == c'-' or octet == c'.'
        ):
            break
    else:
        if name in _RESERVED:
            raise ValueError(f"metadata was invalid: key {key!r} is the protocol's own")
        if name:
            return name
    raise ValueError(f"metadata was invalid: key {key!r} is not of lower-case letters, digits, '_', '-', '.'")


cdef bytes _text(object key, object value):
    cdef bytes encoded
    cdef unsigned char octet
    if isinstance(value, str):
        encoded = (<str>value).encode("utf-8", "surrogateescape")
    elif isinstance(value, bytes):
        encoded = value
    else:
        kind = type(value).__name__
        raise TypeError(f"metadata {key!r}: a value is a str, or bytes for a -bin key: not {kind}")
    for octet in encoded:
        if not 0x20 <= octet <= 0x7E:
            raise ValueError(
                f"metadata was invalid: the value of {key!r} is not printable ASCII: name it with -bin"
            )
    return encoded.strip(b" ")


cdef str message_text(const char *data, size_t size):
    cdef Buffer decoded
    if size == 0:
        return ""
    if memchr(data, c'%', size) is NULL:
        return PyUnicode_DecodeUTF8(data, size, b"replace")
    decoded.data = NULL
    decoded.size = decoded.capacity = 0
    try:
        if percent_decode(&decoded, data, size) != 0:
            raise MemoryError
        return PyUnicode_DecodeUTF8(decoded.data, decoded.size, b"replace")
    finally:
        buffer_free(&decoded)


cdef str ended_text(int why, int64_t number, const char *data, size_t size):
    cdef str text
    if why == BY_STATUS:
        return message_text(data, size)
    if why == BY_HTTP_STATUS:
        return f"Received http2 header with status: {number}"
    if why == BY_RESET:
        return f"Received RST_STREAM with error code {number} ({http2_error_name(number)})"
    text = PyUnicode_DecodeUTF8(data, size, b"replace") if size != 0 else ""
    return f"the connection was lost: {text}" if why == BY_CONNECTION else text


cdef str http2_error_name(long code):
    return _ERROR_NAMES[code] if 0 <= code < len(_ERROR_NAMES) else f"error {code}"
