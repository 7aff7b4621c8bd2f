import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

from tai_grpc._ext.primitives.clock import FrozenClock
from tai_grpc.errors import ConfigError, RateLimitedError
from tai_grpc.resilience.limits import TokenBucket


@pytest.fixture
async def clock() -> AsyncIterator[FrozenClock]:
    with FrozenClock() as frozen:
        yield frozen


async def in_line(bucket: TokenBucket, *wanted: int) -> list[asyncio.Task[None]]:
    """Tasks that wait for so many tokens, in this order."""
    tasks = []
    for n in wanted:
        task = asyncio.create_task(bucket.acquire(n))
        tasks.append(task)
        before = bucket.waiting
        while bucket.waiting == before and not task.done():  # noqa: ASYNC110 - joining the line is no event
            await asyncio.sleep(0)
    return tasks


async def test_tokens_that_are_there_are_taken_without_a_wait(clock: FrozenClock) -> None:
    bucket = TokenBucket(rate=1.0, burst=3)
    await bucket.acquire()
    await bucket.acquire(2, timeout=0.0)
    assert bucket.wait_time() == 1.0


async def test_whoever_waits_gets_a_token_and_nobody_gets_it_early() -> None:
    bucket = TokenBucket(rate=1_000.0, burst=1)
    before = time.monotonic()
    await asyncio.gather(*(bucket.acquire() for _ in range(50)))
    assert time.monotonic() - before >= 49 / 1_000.0


async def test_whoever_came_first_is_served_first(clock: FrozenClock) -> None:
    """Though the later ones want less, and it is there long before."""
    bucket = TokenBucket(rate=1_000.0, burst=5)
    assert bucket.try_acquire(5)
    tasks = await in_line(bucket, 5, 1, 1, 3)
    for task, n in zip(tuple(tasks), (5, 1, 1, 3), strict=True):
        clock.advance(n / 1_000.0)
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        assert done == {task}
        tasks.remove(task)
        assert bucket.wait_time() == 0.001, "it took what it wanted"
    assert bucket.waiting == 0


async def test_a_later_one_does_not_overtake_those_in_line(clock: FrozenClock) -> None:
    bucket = TokenBucket(rate=1_000.0, burst=2)
    assert bucket.try_acquire(2)
    (first,) = await in_line(bucket, 2)
    clock.advance(0.001)
    with pytest.raises(RateLimitedError):
        await bucket.acquire(1, timeout=0.0)
    assert bucket.wait_time(1) == 0.0, "though a token is there"
    clock.advance(0.001)
    await first


@pytest.mark.parametrize("which", [0, 1, 2])
async def test_one_that_is_cancelled_takes_nothing_and_stops_nobody(clock: FrozenClock, which: int) -> None:
    """Neither the first in line, nor any other; also at the moment in which its tokens are there."""
    bucket = TokenBucket(rate=1_000.0, burst=3)
    assert bucket.try_acquire(3)
    tasks = await in_line(bucket, 1, 1, 1)
    clock.advance(0.002)
    gone = tasks.pop(which)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    await asyncio.gather(*tasks)
    assert (bucket.waiting, bucket.wait_time()) == (0, 0.001)


async def test_whoever_is_cancelled_whenever_no_token_is_lost(clock: FrozenClock) -> None:
    random = Random(4)
    bucket = TokenBucket(rate=10_000.0, burst=1000)
    assert bucket.try_acquire(1000)
    for _ in range(30):
        tasks = await in_line(bucket, *(random.randint(1, 5) for _ in range(20)))
        while not all(task.done() for task in tasks):
            clock.advance(random.randint(0, 5) / 10_000.0)
            random.choice(tasks).cancel()
            for _ in range(random.randint(0, 4)):
                await asyncio.sleep(0)
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(end) for end in ends} <= {type(None), asyncio.CancelledError}
        assert bucket.waiting == 0
    # Empty it, and see that a full bucket is a full bucket: nothing of it is reserved for anybody.
    clock.advance(1.0)
    await bucket.acquire(1000)


async def test_what_cannot_be_there_in_time_is_refused_at_once(clock: FrozenClock) -> None:
    bucket = TokenBucket(rate=2.0, burst=2)
    assert bucket.try_acquire(2)
    with pytest.raises(
        RateLimitedError, match=r"the limit of 2 a second .* try again in 1\.000 s"
    ) as refused:
        await bucket.acquire(2, timeout=0.999)
    assert refused.value.retry_after == 1.0
    assert (bucket.waiting, bucket.wait_time(2)) == (0, 1.0)


async def test_one_that_waits_too_long_is_refused_and_the_next_moves_up(clock: FrozenClock) -> None:
    bucket = TokenBucket(rate=100.0, burst=4)
    assert bucket.try_acquire(4)
    (first,) = await in_line(bucket, 4)
    late = asyncio.create_task(bucket.acquire(1, timeout=0.01))
    (last,) = await in_line(bucket, 1)
    with pytest.raises(RateLimitedError) as refused:
        await late
    assert refused.value.retry_after == pytest.approx(0.01 + (4 + 1) / 100.0), "five are wanted before"
    first.cancel()
    clock.advance(0.01)
    await last


async def test_the_line_has_an_end(clock: FrozenClock) -> None:
    bucket = TokenBucket(rate=1.0, burst=2, max_waiters=2)
    assert bucket.try_acquire(2)
    tasks = await in_line(bucket, 2, 1)
    with pytest.raises(RateLimitedError) as refused:
        await bucket.acquire(1)
    assert refused.value.retry_after == 1.0 + 3.0
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    nobody = TokenBucket(rate=1.0, burst=1, max_waiters=0)
    await nobody.acquire()
    with pytest.raises(RateLimitedError):
        await nobody.acquire()


def test_tasks_of_other_event_loops_stand_in_the_same_line() -> None:
    """Four threads, each with a loop of its own; they come one after the other and are served so."""
    with FrozenClock() as clock, ThreadPoolExecutor(4) as pool:
        bucket = TokenBucket(rate=1_000.0, burst=4)
        assert bucket.try_acquire(4)
        served: list[int] = []

        async def wait(name: int) -> None:
            await bucket.acquire(4 - name)
            served.append(name)

        futures = []
        for name in range(4):
            futures.append(pool.submit(asyncio.run, wait(name)))
            while bucket.waiting == name:
                assert not futures[-1].done()
        for name, future in enumerate(futures):
            clock.advance((4 - name) / 1_000.0)
            future.result()
        assert served == [0, 1, 2, 3]


def test_a_loop_that_is_closed_while_its_task_waits_stops_nobody() -> None:
    with FrozenClock() as clock:
        bucket = TokenBucket(rate=1_000.0, burst=1)
        assert bucket.try_acquire()
        loop = asyncio.new_event_loop()
        tasks = loop.run_until_complete(in_line(bucket, 1, 1))
        loop.close()

        async def wait() -> None:
            (last,) = await in_line(bucket, 1)
            # The first two are gone for good; only their coroutines are still to be closed.
            for task in tasks:
                task.get_coro().close()
            clock.advance(0.001)
            await last

        asyncio.run(wait())
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio's own switch for this
        assert bucket.waiting == 0


async def test_a_refusal_of_check_carries_the_wait(clock: FrozenClock) -> None:
    bucket = TokenBucket(rate=4.0, burst=2)
    bucket.check(2)
    with pytest.raises(RateLimitedError, match=r"the limit of 4 a second is reached") as refused:
        bucket.check(2)
    assert refused.value.retry_after == 0.5
    clock.advance(0.5)
    bucket.check(2)


@pytest.mark.parametrize("n", [0, 3, True, None, 1.0])
async def test_tokens_that_could_never_be_there_are_refused_at_once(n: int) -> None:
    bucket = TokenBucket(rate=1.0, burst=2)
    with pytest.raises(ConfigError, match=r"n=.*: expected an int from 1 to 2"):
        await bucket.acquire(n)
    with pytest.raises(ConfigError, match=r"n=.*: expected an int from 1 to 2"):
        bucket.check(n)


@pytest.mark.parametrize("timeout", [-1.0, float("nan"), float("inf"), 604_801.0, "1", True])
async def test_the_timeout_is_checked(timeout: float) -> None:
    with pytest.raises(ConfigError, match=r"timeout=.*: expected a number from 0 to 604800"):
        await TokenBucket(rate=1.0, burst=2).acquire(1, timeout)


@pytest.mark.parametrize("max_waiters", [-1, 1_000_001, 1.0, None, True])
def test_the_length_of_the_line_is_checked(max_waiters: int) -> None:
    with pytest.raises(ConfigError, match=r"max_waiters=.*: expected an int from 0 to 1000000"):
        TokenBucket(rate=1.0, burst=1, max_waiters=max_waiters)
