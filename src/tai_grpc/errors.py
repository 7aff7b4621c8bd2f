"""The one family of errors. A failed call's error is `status.CallError`, which is also a `grpc.RpcError`."""

from __future__ import annotations

from typing import Final

_MOST_OF_A_VALUE: Final = 200  # a path fits


def brief(text: str, most: int = 80) -> str:
    """Return `text`, or its beginning where it is longer than `most` characters."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


class TaiGrpcError(Exception):
    """Everything that this package raises on purpose.

    By itself it says that something was used at the wrong time or place: before it was started, once it was
    closed, for a second time, in another thread or event loop.
    """


class ConfigError(TaiGrpcError, ValueError):
    """A setting is outside its range. Names the field, what it was given and what it accepts."""

    def __init__(self, field: str, value: object, accepted: str) -> None:
        self.field = field
        self.value = value
        self.accepted = accepted
        super().__init__(f"{field}={brief(repr(value), _MOST_OF_A_VALUE)}: expected {accepted}")

    def __reduce__(self) -> tuple[type[ConfigError], tuple[str, object, str]]:
        return type(self), (self.field, self.value, self.accepted)


class ArenaError(TaiGrpcError):
    """An arena cannot be used as asked. Names the arena and the entry, and what differs."""


class CircuitOpenError(TaiGrpcError):
    """A breaker refused the call. `retry_after` is the wait in seconds until it may admit one again."""

    def __init__(self, message: str, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(message)

    def __reduce__(self) -> tuple[type[CircuitOpenError], tuple[str, float]]:
        return type(self), (str(self), self.retry_after)


class RateLimitedError(TaiGrpcError):
    """A limiter refused the call. `retry_after` is the wait in seconds until the same request would pass."""

    def __init__(self, message: str, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(message)

    def __reduce__(self) -> tuple[type[RateLimitedError], tuple[str, float]]:
        return type(self), (str(self), self.retry_after)


class ConcurrencyLimitedError(TaiGrpcError):
    """The limit of calls that run at once is reached. When one ends, another may begin."""


class DeadlineError(TaiGrpcError, TimeoutError):
    """The time allowed for the work is over."""


class StoreUnavailableError(TaiGrpcError):
    """The store is closed or cannot be reached."""


class StoreFullError(TaiGrpcError):
    """A limit of the store is reached, and nothing that is finished can make room."""
