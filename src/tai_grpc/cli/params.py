"""The kinds of values that several commands take."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from tai_grpc.config import MAX_SECONDS, check_address
from tai_grpc.errors import ConfigError
from tai_grpc.load.durations import parse_duration
from tai_grpc.load.errors import RequestError

MAX_DATA_BYTES: Final = 64 * 1024 * 1024
"""The most that is read from a file or stdin."""


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


def read_data(data: str | None) -> str | None:
    """Return what `-d` stands for: itself, the text of @FILE, or of stdin when it is "@"."""
    if data is None or not data.startswith("@"):
        return data
    return (
        read_file(data[1:]) if len(data) > 1 else _decoded(sys.stdin.buffer.read(MAX_DATA_BYTES + 1), "stdin")
    )


def read_file(name: str) -> str:
    """Return the text of a file of at most `MAX_DATA_BYTES`."""
    try:
        with Path(name).open("rb") as file:
            return _decoded(file.read(MAX_DATA_BYTES + 1), name)
    except OSError as error:
        raise click.BadParameter(f"cannot read {name}: {error.strerror}", param_hint="data") from None


def _decoded(raw: bytes, name: str) -> str:
    if len(raw) > MAX_DATA_BYTES:
        raise click.BadParameter(f"{name} is larger than {MAX_DATA_BYTES >> 20} MiB", param_hint="data")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise click.BadParameter(f"{name} is not UTF-8 text", param_hint="data") from None
