"""Call metadata from text."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from typing import Final

from tai_grpc.checks import RESERVED_KEYS
from tai_grpc.errors import brief
from tai_grpc.load.errors import RequestError
from tai_grpc.load.payload import parse_string_map

_KEY: Final = re.compile(r"[0-9a-z_.-]+")
_VALUE: Final = re.compile(r"[\x20-\x7e]*")
_USER_AGENT: Final = "user-agent"
"""The transport leaves it out without a word, for the sake of those who pass on what they were sent."""


def parse_metadata(entries: Iterable[str]) -> tuple[tuple[str, str | bytes], ...]:
    """Return call metadata from entries that are each "key:value" or a JSON object of strings.

    The value of a key that ends in "-bin" is base64.

    Raises:
        RequestError: an entry is neither, or is not allowed on the wire.
    """
    return tuple((key, metadata_value(key, text)) for key, text in split_metadata(entries))


def split_metadata(entries: Iterable[str]) -> list[tuple[str, str]]:
    """Return the keys and the values as they are written in the entries: see `parse_metadata`.

    Raises:
        RequestError: an entry is neither of the two, or a key is not allowed on the wire.
    """
    pairs: list[tuple[str, str]] = []
    for entry in entries:
        if entry.lstrip().startswith("{"):
            pairs += ((_key(key), value) for key, value in parse_string_map(entry, "metadata").items())
        else:
            key, colon, value = entry.partition(":")
            if not colon:
                raise RequestError(f"metadata {brief(repr(entry))}: write it like key:value")
            pairs.append((_key(key.strip()), value.strip()))
    return pairs


def metadata_value(key: str, text: str) -> str | bytes:
    """Return a value as it goes on the wire.

    Raises:
        RequestError: it is not allowed there.
    """
    if key.endswith("-bin"):
        try:
            return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except (binascii.Error, ValueError):
            raise RequestError(f"metadata {key!r}: the value of a -bin key is base64") from None
    if not _VALUE.fullmatch(text):
        raise RequestError(
            f"metadata {key!r}: the value is printable ASCII; binary data goes under a -bin key"
        )
    return text


def _key(key: str) -> str:
    key = key.lower()
    if not _KEY.fullmatch(key):
        raise RequestError(f"metadata key {brief(repr(key))}: letters, digits, '_', '-' and '.' only")
    if key.startswith("grpc-"):
        raise RequestError(f"metadata key {key!r}: keys that begin with grpc- are reserved")
    if key in RESERVED_KEYS or key == _USER_AGENT:
        raise RequestError(f"metadata key {key!r}: the protocol's own, which is sent anyway: leave it out")
    return key
