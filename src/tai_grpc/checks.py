"""Checks of arguments and settings, and the bounds that many of them share.

What is refused is a ConfigError, which names the field and what it accepts.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from tai_grpc.errors import ConfigError

MAX_SECONDS: Final = 86_400.0 * 7
"""The longest duration that any setting accepts: a week."""

MAX_WEIGHT: Final = 1_000
"""The greatest weight of an endpoint."""

RESERVED_KEYS: Final = frozenset(
    {
        *("te", "host", "content-type", "content-length"),
        *("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"),
        *("grpc-status", "grpc-message", "grpc-timeout", "grpc-encoding", "grpc-accept-encoding"),
    }
)
"""No metadata has these keys: they would be sent twice, or are not allowed in HTTP/2, so that the peer would
reset the stream."""

MAX_CONCURRENCY: Final = 100_000
"""The most calls of a load that are under way at a time."""

MAX_CONNECTIONS: Final = 10_000
"""The most connections of a load."""

MAX_RATE: Final = 10_000_000.0
"""The most calls a second of a load."""

MAX_CONCURRENT: Final = 1_000_000
"""The most calls that a limit of concurrency may let run at once."""

MAX_WAITERS: Final = 1_000_000
"""The most tasks and threads that a limit may let wait for their turn."""

_ADDRESS: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):([0-9]{1,5})")


def check_int(name: str, value: object, low: int, high: int) -> int:
    """Return `value` when it is an int within `low`..`high`.

    Raises:
        ConfigError: naming the field and the range.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(name, value, f"an int from {low} to {high}")
    return value


def check_float(name: str, value: object, low: float, high: float, *, above: bool = False) -> float:
    """Return `value` as a float when it is a finite number within `low`..`high` (`above`: not `low` itself).

    Raises:
        ConfigError: naming the field and the range.
    """
    accepted = f"a number {'above' if above else 'from'} {low:g} {'and up ' if above else ''}to {high:g}"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(name, value, accepted)
    if not low <= value <= high or (above and value == low):
        raise ConfigError(name, value, accepted)
    return float(value)


def check_member(name: str, value: object, members: type[Enum]) -> None:
    """Let `value` pass when it is one of `members`.

    Raises:
        ConfigError: naming the field and the members.
    """
    if not isinstance(value, members):
        raise ConfigError(name, value, f"one of {', '.join(map(str, members))}")


def check_type(name: str, value: object, kind: type, *, optional: bool = False) -> None:
    """Let `value` pass when it is a `kind` (`optional`: or None).

    Raises:
        ConfigError: naming the field and the type.
    """
    if not isinstance(value, kind) and not (optional and value is None):
        article = "an" if kind.__name__[0] in "AEIOUaeiou" else "a"
        raise ConfigError(name, value, f"{article} {kind.__name__}{' or None' if optional else ''}")


def check_address(name: str, value: object) -> str:
    """Return `value` when it is HOST:PORT, [IPV6]:PORT or unix:PATH.

    Raises:
        ConfigError: naming the field and the accepted forms.
    """
    accepted = "HOST:PORT (port 0 to 65535), [IPV6]:PORT or unix:PATH"
    if not isinstance(value, str):
        raise ConfigError(name, value, accepted)
    if value.startswith("unix:") and len(value) > len("unix:"):
        return value
    match = _ADDRESS.fullmatch(value)
    if match is None or int(match[1]) > 65535:
        raise ConfigError(name, value, accepted)
    return value
