import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from random import Random
from threading import Event

import pytest

from tai_grpc.errors import ConcurrencyLimitedError, ConfigError
from tai_grpc.resilience.concurrency import Bulkhead


async def in_line(bulkhead: Bulkhead, entered: list[int], number: int) -> list[asyncio.Task[None]]:
    """Tasks that wait for a place, in this order, and say when they have had it."""

    async def visit(name: int) -> None:
        async with bulkhead:
            entered.append(name)

    tasks = []
    for name in range(number):
        tasks.append(asyncio.create_task(visit(name)))
        while bulkhead.waiting == name:  # noqa: ASYNC110 - joining the line is no event
            await asyncio.sleep(0)
    return tasks


async def test_by_default_nobody_waits() -> None:
    bulkhead = Bulkhead(1)
    with bulkhead as entered:
        assert entered is bulkhead
        with (
            pytest.raises(ConcurrencyLimitedError, match=r"limit of concurrent calls \(1\) is reached$"),
            bulkhead,
        ):
            pytest.fail("it was entered")
        with pytest.raises(ConcurrencyLimitedError, match=r"limit of concurrent calls \(1\) is reached$"):
            async with bulkhead:
                pytest.fail("it was entered")
    async with bulkhead:
        assert bulkhead.in_flight == 1
    assert bulkhead.in_flight == 0


async def test_whoever_came_first_goes_in_first_and_the_line_has_an_end() -> None:
    bulkhead, entered = Bulkhead(1, max_waiting=5), list[int]()
    async with bulkhead:
        tasks = await in_line(bulkhead, entered, 5)
        with pytest.raises(ConcurrencyLimitedError, match=r"\(1\) is reached, and 5 calls wait"):
            async with bulkhead:
                pytest.fail("it was entered")
    await asyncio.gather(*tasks)
    assert entered == [0, 1, 2, 3, 4]
    assert (bulkhead.in_flight, bulkhead.waiting) == (0, 0)


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("free", [False, True])
async def test_one_that_is_cancelled_takes_no_place_and_stops_nobody(which: int, free: bool) -> None:
    """Before there is a place, or at the moment in which there is one."""
    bulkhead, entered = Bulkhead(1, max_waiting=5), list[int]()
    assert bulkhead.try_enter()
    tasks = await in_line(bulkhead, entered, 3)
    if free:
        bulkhead.leave()
    tasks[which].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks.pop(which)
    if not free:
        bulkhead.leave()
    await asyncio.gather(*tasks)
    assert entered == [name for name in range(3) if name != which]
    assert (bulkhead.in_flight, bulkhead.waiting) == (0, 0)


async def test_whoever_is_cancelled_whenever_no_place_is_lost() -> None:
    random = Random(5)
    bulkhead = Bulkhead(3, max_waiting=100)
    most = 0

    async def visit() -> None:
        nonlocal most
        async with bulkhead:
            most = max(most, bulkhead.in_flight)
            for _ in range(random.randint(0, 3)):
                await asyncio.sleep(0)

    for _ in range(50):
        tasks = [asyncio.create_task(visit()) for _ in range(30)]
        while not all(task.done() for task in tasks):
            random.choice(tasks).cancel()
            for _ in range(random.randint(1, 4)):
                await asyncio.sleep(0)
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(end) for end in ends} == {type(None), asyncio.CancelledError}
        assert (bulkhead.in_flight, bulkhead.waiting) == (0, 0)
    assert most == 3


async def test_one_that_waits_too_long_is_refused() -> None:
    bulkhead = Bulkhead(1, max_waiting=1, max_wait=0.01)
    async with bulkhead:
        with pytest.raises(ConcurrencyLimitedError, match=r"\(1\) was reached for 0\.01 s"):
            async with bulkhead:
                pytest.fail("it was entered")
        with pytest.raises(ConcurrencyLimitedError, match=r"\(1\) was reached for 0\.01 s"), bulkhead:
            pytest.fail("it was entered")
    assert (bulkhead.in_flight, bulkhead.waiting) == (0, 0)


def test_threads_and_tasks_stand_in_one_line() -> None:
    bulkhead, entered = Bulkhead(1, max_waiting=4), list[int]()

    def thread(name: int) -> None:
        with bulkhead:
            entered.append(name)

    async def task(name: int) -> None:
        async with bulkhead:
            entered.append(name)

    with ThreadPoolExecutor(4) as pool:
        futures: list[Future[None]] = []
        with bulkhead:
            for name in range(4):
                future = pool.submit(thread, name) if name % 2 else pool.submit(asyncio.run, task(name))
                futures.append(future)
                while bulkhead.waiting == name:
                    assert not future.done()
        for future in futures:
            future.result()
    assert entered == [0, 1, 2, 3]


def test_as_many_threads_as_there_are_places_run_at_once() -> None:
    bulkhead = Bulkhead(2, max_waiting=2)
    both = Event()

    def visit() -> int:
        with bulkhead:
            inside = bulkhead.in_flight
            if inside == 2:
                both.set()
            assert both.wait(60)
            return inside

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(visit) for _ in range(4)]
        assert max(future.result() for future in futures) == 2
    assert bulkhead.in_flight == 0


@pytest.mark.parametrize("max_waiting", [-1, 1_000_001, 1.0, None, True])
def test_the_length_of_the_line_is_checked(max_waiting: int) -> None:
    with pytest.raises(ConfigError, match=r"max_waiting=.*: expected an int from 0 to 1000000"):
        Bulkhead(1, max_waiting=max_waiting)


@pytest.mark.parametrize("max_wait", [-1.0, float("nan"), float("inf"), 604_801.0, "1", True])
def test_the_wait_is_checked(max_wait: float) -> None:
    with pytest.raises(ConfigError, match=r"max_wait=.*: expected a number from 0 to 604800"):
        Bulkhead(1, max_wait=max_wait)
