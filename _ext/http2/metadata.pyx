# cython: language_level=3, freethreading_compatible=True
"""Metadata as Python has them, to and from the fields of header blocks.

What may be sent is said in primitives/entries.pyx; the bytes of keys that end in -bin go as base64 without
padding (PROTOCOL-HTTP2.md).
"""

from typing import NamedTuple

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeLatin1, PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t
from libc.string cimport memchr

from tai_grpc._ext.http2.buffers cimport (
    Buffer, Cursor, Field, buffer_append_field, buffer_free, cursor_on, read_field,
)
from tai_grpc._ext.http2.fields cimport base64_append, base64_decode, percent_decode
from tai_grpc._ext.http2.state cimport BY_CONNECTION, BY_HTTP_STATUS, BY_RESET, BY_STATUS
from tai_grpc._ext.primitives.entries cimport entry_name, entry_value, is_binary


class Metadatum(NamedTuple):
    """One entry of the metadata received."""

    key: str
    value: str | bytes


cdef tuple _ERROR_NAMES = (
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
    "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
)


cdef tuple metadata_of(const Buffer *fields):
    cdef Cursor cursor = cursor_on(fields.data, fields.size)
    cdef Field field
    cdef list found = []
    while read_field(&cursor, &field) == 0:
        key = PyUnicode_DecodeLatin1(field.name, field.name_size, NULL)
        if is_binary(field.name, field.name_size):
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
        _append(entry, fields)
    return 0


cdef int _append(object entry, Buffer *fields) except -1:
    cdef bytes name = entry_name(entry)
    cdef bytes value
    cdef Buffer binary
    cdef int result
    if name == b"user-agent":
        return 0  # the transport says it; those who pass on what they were sent have it among theirs
    value = entry_value(entry, name)
    if is_binary(PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name)):
        binary.data = NULL
        binary.size = binary.capacity = 0
        try:
            result = base64_append(&binary, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
            if result == 0:
                result = buffer_append_field(
                    fields, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), binary.data, binary.size
                )
        finally:
            buffer_free(&binary)
    else:
        result = buffer_append_field(
            fields, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name),
            PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value),
        )
    if result != 0:
        raise MemoryError
    return 0


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
