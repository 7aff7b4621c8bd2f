"""Deadlines: how long a call may take, and how a handler's deadline reaches the calls it makes.

A deadline is a reading of `time.monotonic()`, in seconds. It travels in a context variable, so it holds for
the handler's own task and every task that it starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

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
