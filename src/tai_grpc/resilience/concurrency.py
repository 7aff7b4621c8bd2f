"""How many calls run at once: see `Bulkhead` and `AdaptiveLimiter`."""

from __future__ import annotations

import asyncio
import time
from typing import Self

from tai_grpc._ext.primitives.concurrency import AdaptiveLimiter
from tai_grpc._ext.primitives.concurrency import Bulkhead as _Bulkhead
from tai_grpc.checks import MAX_SECONDS, MAX_WAITERS, check_float, check_int
from tai_grpc.config import AdaptiveLimiterConfig
from tai_grpc.errors import ConcurrencyLimitedError
from tai_grpc.resilience.waiting import Line, TaskPlace, ThreadPlace

__all__ = ["AdaptiveLimiter", "AdaptiveLimiterConfig", "Bulkhead"]


class Bulkhead(_Bulkhead):
    """Lets at most `max_concurrent` calls (1..1,000,000) run at once, and `max_waiting` wait their turn.

    `async with bulkhead:` and `with bulkhead:` wait for a place, tasks and threads in one line in the order
    in which they came, for up to `max_wait` seconds (0 to a week; None: as long as it takes). The one that
    would make more than `max_waiting` (0..1,000,000) wait is refused at once; with 0, the default, nobody
    waits. `with` blocks its thread, so in a task use `async with`.

    `try_enter` never waits and does not stand in line. Safe from any number of threads and tasks.

    Raises:
        ConfigError: naming the argument and its range.
    """

    __slots__ = ("_line", "_max_wait")

    _line: Line
    _max_wait: float | None

    def __new__(cls, max_concurrent: int, *, max_waiting: int = 0, max_wait: float | None = None) -> Self:
        bulkhead = super().__new__(cls, max_concurrent)
        bulkhead._line = Line(check_int("max_waiting", max_waiting, 0, MAX_WAITERS))
        if max_wait is not None:
            max_wait = check_float("max_wait", max_wait, 0.0, MAX_SECONDS)
        bulkhead._max_wait = max_wait
        return bulkhead

    @property
    def waiting(self) -> int:
        """How many wait for a place now."""
        return len(self._line)

    def leave(self) -> None:
        """Give a place back.

        Raises:
            RuntimeError: none was taken.
        """
        super().leave()
        if self._line:
            self._line.tell_first()

    def __enter__(self) -> Self:
        if not self._line and self.try_enter():
            return self
        place = ThreadPlace()
        self._join(place)
        try:
            deadline = None if self._max_wait is None else time.monotonic() + self._max_wait
            while not self._enter_first(place):
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise self._late()
                place.wait(left)
        finally:
            self._line.leave(place)
        return self

    def __exit__(self, *error: object) -> None:
        self.leave()

    async def __aenter__(self) -> Self:
        if not self._line and self.try_enter():
            return self
        place = TaskPlace()
        self._join(place)
        try:
            async with asyncio.timeout(self._max_wait):
                while not self._enter_first(place):
                    await place.wait()
        except TimeoutError:
            raise self._late() from None
        finally:
            self._line.leave(place)
        return self

    async def __aexit__(self, *error: object) -> None:
        self.leave()

    def _join(self, place: TaskPlace | ThreadPlace) -> None:
        if not self._line.join(place):
            waiting = f", and {self._line.limit} calls wait" if self._line.limit else ""
            raise ConcurrencyLimitedError(f"{self._limit()} is reached{waiting}")

    def _enter_first(self, place: TaskPlace | ThreadPlace) -> bool:
        return self._line.is_first(place) and self.try_enter()

    def _late(self) -> ConcurrencyLimitedError:
        return ConcurrencyLimitedError(f"{self._limit()} was reached for {self._max_wait:g} s")

    def _limit(self) -> str:
        return f"the limit of concurrent calls ({self.max_concurrent})"
