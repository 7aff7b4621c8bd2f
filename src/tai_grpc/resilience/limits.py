"""How much may pass: see `TokenBucket`."""

from __future__ import annotations

import asyncio

from tai_grpc._ext.primitives.limiter import TokenBucket as _TokenBucket

__all__ = ["TokenBucket"]


class TokenBucket(_TokenBucket):
    __doc__ = _TokenBucket.__doc__
    __slots__ = ()

    async def acquire(self, n: int = 1) -> None:
        """Wait until `n` (1..burst) tokens are there, and take them. Who waits gets them in no set order.

        Raises:
            ConfigError: `n` is outside its range.
        """
        while not self.try_acquire(n):  # noqa: ASYNC110 - only time brings tokens, no event does
            await asyncio.sleep(self.wait_time(n))
