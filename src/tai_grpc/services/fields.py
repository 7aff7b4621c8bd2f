"""Checks of the fields of a request. The limits are those that protos/tai/v1 states."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final

from tai_grpc.services.errors import invalid, too_large

MAX_ID_BYTES: Final = 256
MAX_TEXT_BYTES: Final = 256
MAX_REASON_BYTES: Final = 4096
MAX_PAYLOAD_BYTES: Final = 1024 * 1024
MAX_RESULT_BYTES: Final = 64 * 1024
MAX_MAP_ENTRIES: Final = 256
MAX_MAP_VALUE_BYTES: Final = 16 * 1024
MAX_MAP_BYTES: Final = 1024 * 1024
MAX_FILTER_IDS: Final = 1000

_ID: Final = re.compile(rf"[\x21-\x7e]{{1,{MAX_ID_BYTES}}}")


def check_id(field: str, value: str) -> str:
    if not value:
        raise invalid(field, "must not be empty")
    if not _ID.fullmatch(value):
        raise invalid(field, f"must be 1 to {MAX_ID_BYTES} characters of printable ASCII without spaces")
    return value


def check_ids(field: str, values: Collection[str]) -> frozenset[str]:
    if len(values) > MAX_FILTER_IDS:
        raise too_large(field, f"{len(values)} ids, at most {MAX_FILTER_IDS} are accepted")
    return frozenset(check_id(field, value) for value in values)


def check_text(field: str, value: str, max_bytes: int = MAX_TEXT_BYTES, *, required: bool = False) -> str:
    if required and not value:
        raise invalid(field, "must not be empty")
    if (size := len(value.encode())) > max_bytes:
        raise too_large(field, f"{size} bytes, at most {max_bytes} are accepted")
    return value


def check_bytes(field: str, value: bytes, max_bytes: int) -> bytes:
    if len(value) > max_bytes:
        raise too_large(field, f"{len(value)} bytes, at most {max_bytes} are accepted")
    return value


def check_map(field: str, value: Mapping[str, str]) -> dict[str, str]:
    if len(value) > MAX_MAP_ENTRIES:
        raise too_large(field, f"{len(value)} entries, at most {MAX_MAP_ENTRIES} are accepted")
    for key, text in value.items():
        check_text(f"{field} key", key, required=True)
        check_text(f"{field}[{key!r}]", text, MAX_MAP_VALUE_BYTES)
    if (size := sum(len(key.encode()) + len(text.encode()) for key, text in value.items())) > MAX_MAP_BYTES:
        raise too_large(field, f"{size} bytes in all, at most {MAX_MAP_BYTES} are accepted")
    return dict(value)


def check_range(field: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise invalid(field, f"{value} is not from {low} to {high}")
    return value


def check_default(field: str, value: int, low: int, high: int, default: int) -> int:
    """Check a number whose 0 stands for `default`."""
    return default if value == 0 else check_range(field, value, low, high)


def check_priority(field: str, value: int) -> int:
    return check_range(field, value, -1000, 1000)


def check_time_ns(field: str, value: int) -> int:
    return check_range(field, value, 0, 2**62)


def check_revision(field: str, value: int) -> int:
    if value < 0:
        raise invalid(field, f"{value} is below 0")
    return value
