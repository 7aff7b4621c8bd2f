"""When a failed call is tried again, and after how long.

The rules are those of gRPC retries (gRFC A6): codes that may be transient, a number of attempts, a budget
that stops a storm of retries, and a server that may name the wait or forbid it (`grpc-retry-pushback-ms`).
Nothing here sleeps, reads a clock by itself or knows of a transport.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Protocol

from grpc import StatusCode

from tai_grpc.config import RetryConfig
from tai_grpc.resilience.backoff import backoff

if TYPE_CHECKING:
    from collections.abc import Container

__all__ = ["NEVER", "Budget", "Retries", "backoff", "pushback", "retryable_codes"]

NEVER: Final = math.inf
"""The wait that `pushback` returns when the server forbids another attempt."""

_PUSHBACK: Final = "grpc-retry-pushback-ms"
_MILLISECONDS: Final = re.compile(r"[0-9]{1,10}")


class Budget(Protocol):
    """What a call's retries ask of `tai_grpc.resilience.RetryBudget`."""

    def try_retry(self) -> bool: ...
    def record_success(self) -> None: ...
    def record_failure(self) -> None: ...


def pushback(trailers: Iterable[tuple[str, str | bytes]]) -> float | None:
    """Return the seconds that the server asks to wait before the next attempt.

    None when it says nothing; `NEVER` when it forbids one, which is a value that is negative, not a number
    of milliseconds, or given twice.
    """
    values = [value for key, value in trailers if key == _PUSHBACK]
    if not values:
        return None
    value = values[0]
    if len(values) > 1 or not isinstance(value, str) or not _MILLISECONDS.fullmatch(value):
        return NEVER
    return int(value) / 1000


class Retries:
    """The retries of one call: told how each attempt ended, says whether and when there is another.

    `spare` is how many other endpoints the target has. An attempt that never left the client moves on to one
    of them at once, at most `spare` times; such a move is no retry: it takes no token and needs no wait.
    `deadline` is the call's (a reading of the clock, None: no limit); no wait reaches beyond it.
    """

    __slots__ = (
        "_budget",
        "_config",
        "_deadline",
        "_in_row",
        "_previous",
        "_retryable",
        "_spare",
        "_uniform",
        "made",
    )

    def __init__(
        self,
        config: RetryConfig,
        budget: Budget,
        *,
        method: str,
        deadline: float | None,
        spare: int = 0,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._config = config
        self._budget = budget
        self._deadline = deadline
        self._spare = spare
        self._uniform = uniform
        self._retryable = retryable_codes(config, method)
        self._in_row = 0  # retries since the last pushback, which starts the backoff anew
        self._previous = 0.0
        self.made = 0
        """How many retries there were: the value of `grpc-previous-rpc-attempts`."""

    def after(
        self,
        code: StatusCode,
        trailers: Iterable[tuple[str, str | bytes]],
        *,
        sent: bool,
        committed: bool,
        now: float,
    ) -> float | None:
        """Return the seconds to wait before the next attempt; None when this one was the last.

        `sent`: the attempt may have left the client. `committed`: the response's headers have arrived, or
        requests were consumed that cannot be sent again.
        """
        if code is StatusCode.OK:
            self._budget.record_success()
            return None
        if not sent and not committed and self._spare > 0 and self._in_time(now):
            self._spare -= 1
            return 0.0
        if code.name not in self._retryable:
            return None
        self._budget.record_failure()
        if committed or self.made >= self._config.max_retries:
            return None
        wait = pushback(trailers)
        if wait is None:
            self._in_row += 1
            wait = self._previous = backoff(self._config, self._in_row, self._previous, self._uniform)
        else:
            self._in_row = 0
            self._previous = 0.0
        if wait == NEVER or not self._in_time(now + wait) or not self._budget.try_retry():
            return None
        self.made += 1
        return wait

    def _in_time(self, moment: float) -> bool:
        return self._deadline is None or moment < self._deadline


def retryable_codes(config: RetryConfig, method: str) -> Container[str | StatusCode]:
    """Return the names of the codes after which `method` ("/pkg.Service/Method") is tried again.

    An attempt that ended with DEADLINE_EXCEEDED may still be at work: it is tried again for the methods in
    `idempotent_methods`, and for no other.
    """
    late = StatusCode.DEADLINE_EXCEEDED.name
    if method.removeprefix("/") in config.idempotent_methods:
        return config.retryable_codes | {late}
    if late in config.retryable_codes:
        return config.retryable_codes - {late}
    return config.retryable_codes
