"""How long to wait before the next attempt: see `Backoff`. Nothing here sleeps or reads a clock."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Self

from tai_grpc.config import Jitter, RetryConfig

__all__ = ["Backoff", "backoff"]


def backoff(
    config: RetryConfig,
    retry: int,
    previous: float,
    uniform: Callable[[float, float], float] = random.uniform,
) -> float:
    """Return the seconds to wait before the `retry`-th retry, counted from 1.

    `previous` is the wait before the last one (0 for none); only DECORRELATED depends on it. The waits grow
    as v = min(initial_backoff * backoff_multiplier ** (retry - 1), max_backoff) (gRFC A6) and are spread as
    `Jitter` says; A6's spread is applied after the maximum, so it may exceed it by a fifth.
    """
    if config.jitter is Jitter.DECORRELATED:
        base = min(config.initial_backoff, config.max_backoff)
        return min(config.max_backoff, uniform(base, max(base, 3 * previous)))
    try:
        wait = min(config.initial_backoff * config.backoff_multiplier ** (retry - 1), config.max_backoff)
    except OverflowError:
        wait = config.max_backoff
    match config.jitter:
        case Jitter.NONE:
            return wait
        case Jitter.A6:
            return wait * uniform(0.8, 1.2)
        case Jitter.FULL:
            return uniform(0.0, wait)
        case Jitter.EQUAL:
            return wait / 2 + uniform(0.0, wait / 2)


class Backoff:
    """The waits between the attempts of one thing that keeps failing, in seconds, without an end.

        for wait in Backoff(RetryConfig(initial_backoff=0.05, jitter=Jitter.FULL)):
            if attempt():
                break
            time.sleep(wait)

    Only the backoff of `config` counts here, neither its codes nor `max_retries`. For one user at a time.
    """

    __slots__ = ("_config", "_previous", "_uniform", "retries")

    def __init__(
        self,
        config: RetryConfig | None = None,
        *,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._config = RetryConfig() if config is None else config
        self._uniform = uniform
        self._previous = 0.0
        self.retries = 0
        """How many waits there were since the start or the last `reset`."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> float:
        self.retries += 1
        self._previous = backoff(self._config, self.retries, self._previous, self._uniform)
        return self._previous

    def reset(self) -> None:
        """Begin anew, with the shortest wait: after a success."""
        self._previous = 0.0
        self.retries = 0
