import asyncio
import time

import pytest

from tai_grpc._ext.primitives.clock import FrozenClock
from tai_grpc.errors import ConfigError
from tai_grpc.resilience.limits import TokenBucket


async def test_tokens_that_are_there_are_taken_without_a_wait() -> None:
    with FrozenClock():
        bucket = TokenBucket(rate=1.0, burst=3)
        await bucket.acquire()
        await bucket.acquire(2)
        assert bucket.wait_time() == 1.0


async def test_whoever_waits_gets_a_token_and_nobody_gets_it_early() -> None:
    bucket = TokenBucket(rate=1_000.0, burst=1)
    before = time.monotonic()
    await asyncio.gather(*(bucket.acquire() for _ in range(50)))
    assert time.monotonic() - before >= 49 / 1_000.0


async def test_a_wait_that_is_cancelled_takes_nothing() -> None:
    bucket = TokenBucket(rate=0.001, burst=2)
    await bucket.acquire()
    waiting = asyncio.create_task(bucket.acquire(2))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert bucket.try_acquire()


async def test_more_than_the_burst_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="n=3: expected an int from 1 to 2"):
        await TokenBucket(rate=1.0, burst=2).acquire(3)
