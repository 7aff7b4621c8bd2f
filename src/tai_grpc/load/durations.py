"""Durations as Go programs, ghz among them, write them: "20s", "1m30s", "250ms"."""

from __future__ import annotations

import re
from typing import Final

from tai_grpc.load.errors import RequestError

_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_NUMBER: Final = re.compile(r"\d+(?:\.\d*)?|\.\d+")


def parse_duration(text: str) -> float:
    """Return the seconds that `text` stands for; a number without a unit is in seconds.

    Raises:
        RequestError: `text` is not a duration.
    """
    if _NUMBER.fullmatch(text):
        return float(text)
    seconds, position = 0.0, 0
    while match := _PART.match(text, position):
        seconds += float(match[1]) * _UNITS[match[2]]
        position = match.end()
    if position != len(text) or not text:
        raise RequestError(f"{text!r} is not a duration: write it like 20s, 1m30s or 250ms")
    return seconds


def to_ns(seconds: float) -> int:
    """Return seconds as whole nanoseconds."""
    return round(seconds * 1e9)


def format_duration(ns: float) -> str:
    """Return nanoseconds as ghz shows them: two decimals, in the largest unit that is not below 1."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if ns >= size:
            return f"{ns / size:.2f} {unit}"
    return f"{ns:.0f} ns"
