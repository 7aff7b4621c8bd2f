import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from tai_grpc._ext.primitives.clock import FrozenClock
from tai_grpc.errors import CircuitOpenError, ConfigError
from tai_grpc.resilience.circuit_breaker import CircuitBreaker, CircuitBreakerConfig, CircuitState

CLOSED, OPEN, HALF_OPEN = CircuitState
ONE_STRIKE = CircuitBreakerConfig(failure_threshold=1, open_timeout=1.0, half_open_max_calls=2)


@pytest.fixture
def clock() -> Iterator[FrozenClock]:
    with FrozenClock() as frozen:
        yield frozen


def half_open(clock: FrozenClock) -> CircuitBreaker:
    """Open and ready to admit two probes."""
    breaker = CircuitBreaker(ONE_STRIKE)
    breaker.record_failure()
    clock.advance(breaker.retry_after())
    return breaker


def test_a_block_that_raises_is_a_failure_and_its_exception_goes_on() -> None:
    breaker = CircuitBreaker(ONE_STRIKE)
    with pytest.raises(KeyError, match="broken"), breaker:
        raise KeyError("broken")
    assert breaker.state is OPEN


def test_a_block_that_ends_is_a_success() -> None:
    breaker = CircuitBreaker(CircuitBreakerConfig(failure_threshold=2))
    for _ in range(3):
        breaker.record_failure()
        with breaker as entered:
            assert entered is breaker
    assert breaker.state is CLOSED


def test_an_open_breaker_refuses_the_block() -> None:
    breaker = CircuitBreaker(ONE_STRIKE, name="db")
    breaker.record_failure()
    entered = False
    with pytest.raises(CircuitOpenError, match="circuit breaker 'db' is OPEN"), breaker:
        entered = True
    assert not entered


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_what_stops_the_caller_says_nothing_of_the_target(
    clock: FrozenClock, kind: type[BaseException]
) -> None:
    """Neither a failure while CLOSED nor while HALF_OPEN, where the permit is given back."""
    breaker = CircuitBreaker(ONE_STRIKE)
    with pytest.raises(kind), breaker:
        raise kind
    assert breaker.state is CLOSED
    breaker = half_open(clock)
    for _ in range(10):
        with pytest.raises(kind), breaker:
            raise kind
    assert breaker.state is HALF_OPEN
    for _ in range(2):
        with breaker:
            pass
    assert breaker.state is CLOSED


def test_nested_blocks_settle_each_its_own_permit(clock: FrozenClock) -> None:
    """The outer block is of the CLOSED era: when it fails late, the probe inside it is not blamed."""
    breaker = CircuitBreaker(CircuitBreakerConfig(1, 1.0, 1))
    with pytest.raises(KeyError), breaker:
        breaker.record_failure()
        clock.advance(breaker.retry_after())
        with breaker:
            assert breaker.state is HALF_OPEN
        assert breaker.state is CLOSED
        raise KeyError
    assert breaker.state is CLOSED


def test_blocks_of_several_breakers_may_end_in_any_order(clock: FrozenClock) -> None:
    first, second = half_open(clock), half_open(clock)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(KeyError, KeyError(), None)
    assert (first.state, second.state) == (HALF_OPEN, OPEN)
    with first:
        pass
    assert first.state is CLOSED


def test_threads_settle_each_their_own_permit(clock: FrozenClock) -> None:
    breaker = half_open(clock)
    both_inside = Barrier(2)

    def probe() -> None:
        with breaker:
            both_inside.wait()

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(probe), pool.submit(probe)]:
            future.result()
    assert breaker.state is CLOSED


async def test_tasks_settle_each_their_own_permit(clock: FrozenClock) -> None:
    """A slow call of the CLOSED era ends while two probes are under way, each in a task of its own."""
    breaker = CircuitBreaker(ONE_STRIKE)
    inside, end_slow, end_probes = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def call(end: asyncio.Event, error: type[Exception] | None) -> None:
        async with breaker:
            inside.set()
            await end.wait()
            if error is not None:
                raise error

    slow = asyncio.create_task(call(end_slow, KeyError))
    await inside.wait()
    breaker.record_failure()
    clock.advance(breaker.retry_after())
    inside.clear()
    probes = [asyncio.create_task(call(end_probes, None)) for _ in range(2)]
    await inside.wait()
    await asyncio.sleep(0)
    assert not breaker.is_call_allowed(), "both probes are under way"
    end_slow.set()
    with pytest.raises(KeyError):
        await slow
    assert breaker.state is HALF_OPEN
    end_probes.set()
    await asyncio.gather(*probes)
    assert breaker.state is CLOSED


async def test_a_task_started_inside_a_block_has_blocks_of_its_own(clock: FrozenClock) -> None:
    breaker = half_open(clock)

    async def child() -> None:
        async with breaker:
            pass

    async with breaker:
        await asyncio.create_task(child())
        assert breaker.state is HALF_OPEN
    assert breaker.state is CLOSED


async def test_a_cancelled_call_is_no_failure() -> None:
    breaker = CircuitBreaker(ONE_STRIKE)
    inside = asyncio.Event()

    @breaker
    async def hang() -> None:
        inside.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(hang())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert breaker.state is CLOSED


async def test_a_timeout_is_a_failure() -> None:
    breaker = CircuitBreaker(ONE_STRIKE)
    with pytest.raises(TimeoutError):
        async with breaker, asyncio.timeout(0):
            await asyncio.Event().wait()
    assert breaker.state is OPEN


def test_a_block_left_in_another_context_still_counts(clock: FrozenClock) -> None:
    """A generator that is finished by another thread leaves its block where nobody entered it."""
    breaker = half_open(clock)

    def generator() -> Iterator[None]:
        with breaker:
            yield

    running = generator()
    next(running)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(list, running).result()
    with breaker:
        pass
    assert breaker.state is CLOSED


def test_a_decorated_function_goes_through_the_breaker() -> None:
    breaker = CircuitBreaker(ONE_STRIKE)

    @breaker
    def divide(dividend: int, *, divisor: int) -> float:
        """Divide."""
        return dividend / divisor

    assert divide(6, divisor=3) == 2.0
    assert (divide.__name__, divide.__doc__) == ("divide", "Divide.")
    assert not inspect.iscoroutinefunction(divide)
    with pytest.raises(ZeroDivisionError):
        divide(1, divisor=0)
    with pytest.raises(CircuitOpenError):
        divide(6, divisor=3)


async def test_a_decorated_coroutine_function_goes_through_the_breaker() -> None:
    breaker = CircuitBreaker(ONE_STRIKE)

    @breaker
    async def divide(dividend: int, *, divisor: int) -> float:
        await asyncio.sleep(0)
        return dividend / divisor

    assert inspect.iscoroutinefunction(divide)
    assert await divide(6, divisor=3) == 2.0
    with pytest.raises(ZeroDivisionError):
        await divide(1, divisor=0)
    with pytest.raises(CircuitOpenError):
        await divide(6, divisor=3)


async def test_a_coroutine_takes_its_permit_when_it_runs(clock: FrozenClock) -> None:
    """Not when it is made: one that is never awaited would keep it."""
    breaker = half_open(clock)

    @breaker
    async def call() -> None:
        await asyncio.sleep(0)

    made = [call() for _ in range(10)]
    await made[0]
    await made[1]
    assert breaker.state is CLOSED
    for coroutine in made[2:]:
        coroutine.close()


def test_a_decorated_method_is_a_method() -> None:
    breaker = CircuitBreaker()

    class Account:
        balance = 7

        @breaker
        def read(self) -> int:
            return self.balance

    assert Account().read() == 7


def numbers() -> Iterator[int]:
    yield 1


async def async_numbers() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("function", [5, None, numbers, async_numbers])
def test_only_plain_and_coroutine_functions_are_decorated(function: Callable[[], object]) -> None:
    """A generator runs after the call that made it, where the breaker would not see it fail."""
    with pytest.raises(ConfigError, match=r"function=.*a plain or coroutine function"):
        CircuitBreaker()(function)
