# cython: language_level=3, freethreading_compatible=True
"""What may be sent as metadata: pairs of a key and a value, held to the same rules on every transport.

Keys are lower-case letters, digits, `_`, `-` and `.`; those that end in -bin have bytes as values, all others
printable ASCII (PROTOCOL-HTTP2.md). An error names the key and never the value, which may be a secret.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.string cimport memcmp

from tai_grpc.checks import RESERVED_KEYS

cdef frozenset _RESERVED = frozenset([name.encode() for name in RESERVED_KEYS])


cdef bint is_binary(const char *name, size_t size) noexcept nogil:
    return size >= 4 and memcmp(name + size - 4, <const char *>b"-bin", 4) == 0


cdef tuple entries_of(object metadata):
    if metadata is None:
        return ()
    if isinstance(metadata, tuple):
        return <tuple>metadata
    try:
        return tuple(metadata)
    except TypeError:
        raise _no_pair(metadata) from None


cdef int check_entries(tuple entries) except -1:
    for entry in entries:
        entry_value(entry, entry_name(entry))
    return 0


cdef object _no_pair(object found):
    return TypeError(
        f"metadata: expected (key, value) pairs, as a dict's items() are: got {type(found).__name__}"
    )


cdef bytes entry_name(object entry):
    cdef object key
    cdef bytes name
    cdef unsigned char octet
    if not isinstance(entry, (tuple, list)) or len(entry) != 2:
        raise _no_pair(entry)
    key = entry[0]
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


cdef bytes entry_value(object entry, bytes name):
    cdef object value = entry[1]
    cdef bytes encoded
    cdef unsigned char octet
    if is_binary(PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name)):
        if not isinstance(value, bytes):
            kind = type(value).__name__
            raise TypeError(f"metadata {entry[0]!r}: the value of a -bin key is bytes, not {kind}")
        return value
    if isinstance(value, str):
        encoded = (<str>value).encode("utf-8", "surrogateescape")
    elif isinstance(value, bytes):
        encoded = value
    else:
        kind = type(value).__name__
        raise TypeError(f"metadata {entry[0]!r}: a value is a str, or bytes for a -bin key: not {kind}")
    for octet in encoded:
        if not 0x20 <= octet <= 0x7E:
            raise ValueError(
                f"metadata was invalid: the value of {entry[0]!r} is not printable ASCII: name it with -bin"
            )
    return encoded.strip(b" ")
