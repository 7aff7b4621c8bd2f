"""The kinds of values that several commands take."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

import click

from tai_grpc.checks import MAX_SECONDS, check_address
from tai_grpc.errors import ConfigError
from tai_grpc.load.durations import parse_duration
from tai_grpc.load.errors import RequestError

MAX_DATA_BYTES: Final = 64 * 1024 * 1024
"""The most that is read from a file or stdin."""

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)")
_UNITS: Final = {
    "": 1,
    "b": 1,
    **{f"{prefix}b": 1000**power for power, prefix in enumerate("kmg", 1)},
    **{f"{prefix}ib": 1024**power for power, prefix in enumerate("kmg", 1)},
}

transport: Final = click.option(
    "--transport",
    type=click.Choice(["native", "grpcio"]),
    help="What carries the calls. Default: native, which a build without nghttp2 does not have.",
)
"""The option of every command that makes or serves calls."""


def address(text: str) -> str:
    """Return `text` when it is an address that can be called or listened on."""
    try:
        return check_address("address", text)
    except ConfigError as error:
        raise click.BadParameter(f"{text!r}: expected {error.accepted}") from None


def duration(text: str) -> float:
    """Return the seconds in a text like "20s"."""
    try:
        return parse_duration(text)
    except RequestError as error:
        raise click.BadParameter(str(error)) from None


def timeout(text: str) -> float:
    """Return the seconds, above 0 and up to a week, in a text like "20s"."""
    seconds = duration(text)
    if not 0 < seconds <= MAX_SECONDS:
        raise click.BadParameter(f"{text!r}: expected more than 0, and a week (168h) at most")
    return seconds


def optional_duration(text: str) -> float | None:
    """Return the seconds, up to a week, in a text like "20s"; None for "0"."""
    seconds = duration(text)
    if seconds > MAX_SECONDS:
        raise click.BadParameter(f"{text!r}: expected a week (168h) at most")
    return seconds or None


def size(text: str) -> int:
    """Return the bytes in a text like "4MB" or "64MiB"."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or match[2].lower() not in _UNITS:
        raise click.BadParameter(f"{text!r}: expected bytes, or a size like 4MB or 64MiB")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def read_data(data: str | None) -> str | None:
    """Return what `-d` stands for: itself, the text of @FILE, or of stdin when it is "@"."""
    if data is None or not data.startswith("@"):
        return data
    return read_file(data[1:] or "-")


def read_file(name: str, what: str = "data") -> str:
    """Return the text of a file of at most `MAX_DATA_BYTES`; `what` is the option that errors name."""
    return _decoded(read_bytes(name, what), "stdin" if name == "-" else name, what)


def read_bytes(name: str, what: str = "data") -> bytes:
    """Return what a file of at most `MAX_DATA_BYTES` holds; "-" is stdin."""
    if name == "-":
        if sys.stdin is None:  # the shell has closed it
            raise click.BadParameter("stdin is closed", param_hint=what)
        return _bounded(sys.stdin.buffer.read(MAX_DATA_BYTES + 1), "stdin", what)
    try:
        with Path(name).open("rb") as file:
            return _bounded(file.read(MAX_DATA_BYTES + 1), name, what)
    except OSError as error:
        raise click.BadParameter(f"cannot read {name}: {error.strerror}", param_hint=what) from None


def _bounded(raw: bytes, name: str, what: str) -> bytes:
    if len(raw) > MAX_DATA_BYTES:
        raise click.BadParameter(f"{name} is larger than {MAX_DATA_BYTES >> 20} MiB", param_hint=what)
    return raw


def _decoded(raw: bytes, name: str, what: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise click.BadParameter(f"{name} is not UTF-8 text", param_hint=what) from None
