"""Deadlines: how long a call may take, and how a handler's deadline reaches the calls it makes.

A deadline is a reading of `time.monotonic()`, in seconds. It travels in a context variable, so it holds for
the handler's own task and every task that it starts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from tai_grpc.config import MAX_SECONDS, TimeoutConfig, check_float
from tai_grpc.errors import DeadlineError

CURRENT_DEADLINE: Final[ContextVar[float | None]] = ContextVar("tai_grpc_deadline", default=None)


def current_deadline() -> float | None:
    """Return the deadline of the handler that is running, None outside of one or when it has none."""
    return CURRENT_DEADLINE.get()


@contextmanager
def deadline_scope(deadline: float | None) -> Iterator[None]:
    """Make `deadline` the current one; an earlier one that holds already stays."""
    outer = CURRENT_DEADLINE.get()
    token = CURRENT_DEADLINE.set(
        outer if deadline is None else deadline if outer is None else min(outer, deadline)
    )
    try:
        yield
    finally:
        CURRENT_DEADLINE.reset(token)


def effective_timeout(timeout: float | None, config: TimeoutConfig) -> float:
    """Return the seconds that a call may take: what was asked for, or the default, within the maximum and
    within what the current handler has left.

    Raises:
        ConfigError: `timeout` is not a number from 0 to a week.
        DeadlineError: the current handler has no time left.
    """
    wanted = config.default_timeout if timeout is None else check_float("timeout", timeout, 0.0, MAX_SECONDS)
    return within_current(min(wanted, config.max_timeout))


def within_current(timeout: float) -> float:
    """Cut `timeout` to the time that the current handler has left.

    Raises:
        DeadlineError: it has none left.
    """
    deadline = CURRENT_DEADLINE.get()
    if deadline is None:
        return timeout
    left = deadline - time.monotonic()
    if left <= 0:
        raise DeadlineError("the deadline of the handler that makes this call has passed")
    return min(timeout, left)
