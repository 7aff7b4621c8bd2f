"""Serialized messages in a file."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from tai_grpc.load.errors import RequestError
from tai_grpc.load.methods import Method


def split_binary(method: Method, data: bytes) -> list[bytes]:
    """Return the serialized requests in `data`: several, each after its length as a varint, or else one.

    Raises:
        RequestError: it is neither, for the method's request type.
    """
    several = _delimited(data)
    if several and all(_fits(method, each) for each in several):
        return several
    if _fits(method, data):
        return [data]
    raise RequestError(
        f"the binary data is neither a serialized {method.request_type.DESCRIPTOR.full_name} nor several, "
        "each after its length as a varint"
    )


def _delimited(data: bytes) -> list[bytes] | None:
    """Return what follows each length; None when the last one goes beyond the end."""
    found: list[bytes] = []
    position = 0
    while position < len(data):
        length = shift = 0
        while True:
            if position == len(data) or shift > 28:
                return None
            byte = data[position]
            position += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if length > len(data) - position:
            return None
        found.append(data[position : position + length])
        position += length
    return found


def _fits(method: Method, data: bytes) -> bool:
    try:
        method.request_type.FromString(data)
    except DecodeError:
        return False
    return True
