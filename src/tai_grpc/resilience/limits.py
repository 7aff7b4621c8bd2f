"""How much may pass: see `TokenBucket` and `KeyedTokenBucket`."""

from __future__ import annotations

import asyncio
from typing import Self

from tai_grpc._ext.primitives.keyed import KeyedTokenBucket
from tai_grpc._ext.primitives.limiter import TokenBucket as _TokenBucket
from tai_grpc._ext.primitives.limiter import refusal
from tai_grpc.checks import MAX_SECONDS, MAX_WAITERS, check_float, check_int
from tai_grpc.errors import RateLimitedError
from tai_grpc.resilience.waiting import Line, TaskPlace

__all__ = ["KeyedTokenBucket", "TokenBucket"]


class TokenBucket(_TokenBucket):
    __doc__ = f"""{_TokenBucket.__doc__}
    At most `max_waiters` (0..1,000,000) tasks wait in `acquire`.
    """
    __slots__ = ("_line",)

    _line: Line

    def __new__(cls, rate: float, burst: int, *, max_waiters: int = 1000) -> Self:
        bucket = super().__new__(cls, rate, burst)
        bucket._line = Line(check_int("max_waiters", max_waiters, 0, MAX_WAITERS))
        return bucket

    @property
    def waiting(self) -> int:
        """How many tasks of this process stand in line."""
        return len(self._line)

    async def acquire(self, n: int = 1, timeout: float | None = None) -> None:
        """Wait until `n` (1..burst) tokens are there, and take them; at most `timeout` seconds (0 to a week).

        The tasks of one process are served in the order in which they came, whatever their event loops.
        Only `try_acquire` and `check` do not stand in line, and neither do other processes. A task that is
        cancelled has taken nothing.

        Raises:
            ConfigError: an argument is outside its range.
            RateLimitedError: the tokens cannot be there in time, or the line is full. `retry_after` counts
                what all those in line want.
        """
        wait = self.wait_time(n)
        if timeout is not None:
            timeout = check_float("timeout", timeout, 0.0, MAX_SECONDS)
        if not self._line and self.try_acquire(n):
            return
        if timeout is not None and wait > timeout:
            raise self._refusal(n)
        place = TaskPlace()
        if not self._line.join(place, n):
            raise self._refusal(n)
        try:
            async with asyncio.timeout(timeout) as limit:
                while not self._line.is_first(place):
                    await place.wait()
                if await self._take(n, limit.when()):
                    return
        except TimeoutError:
            pass  # refused below, out of the line
        finally:
            self._line.leave(place)
        raise self._refusal(n)

    async def _take(self, n: int, deadline: float | None) -> bool:
        """Take `n` tokens once they are there; False when that is after `deadline`, a time of the loop."""
        loop = asyncio.get_running_loop()
        while not self.try_acquire(n):
            wait = self.wait_time(n)
            if deadline is not None and loop.time() + wait > deadline:
                return False
            await asyncio.sleep(wait)
        return True

    def _refusal(self, n: int) -> RateLimitedError:
        return refusal(self.rate, self.wait_time(n) + self._line.wanted / self.rate)
