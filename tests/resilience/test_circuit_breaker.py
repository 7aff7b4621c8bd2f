import asyncio
import inspect
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import wraps
from threading import Barrier
from typing import Any

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from tai_grpc._ext.primitives.clock import FrozenClock
from tai_grpc.errors import CircuitOpenError, ConfigError
from tai_grpc.resilience.circuit_breaker import (
    CallOutcome,
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitState,
    Window,
)
from tai_grpc.status import CallError

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


def test_a_task_that_outlives_the_block_it_was_started_in_has_no_part_in_it() -> None:
    """Each context is a task: what the child ends is its own block, and so the last one's failure counts."""
    breaker = CircuitBreaker(ONE_STRIKE)
    first, parent, last = copy_context(), copy_context(), copy_context()
    first.run(breaker.__enter__)
    breaker.reset()
    parent.run(breaker.__enter__)
    child = parent.run(copy_context)
    for task in (parent, first):
        task.run(breaker.__exit__, None, None, None)
    child.run(breaker.__enter__)
    breaker.reset()
    last.run(breaker.__enter__)
    child.run(breaker.__exit__, None, None, None)
    assert breaker.state is CLOSED
    last.run(breaker.__exit__, KeyError, KeyError(), None)
    assert breaker.state is OPEN


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


class Caller:
    async def __call__(self, error: Exception | None) -> str:
        await asyncio.sleep(0)
        if error is not None:
            raise error
        return "answer"


def passed_on(function: Callable[..., Any]) -> Callable[..., Any]:
    """What a decorator of coroutine functions that knows nothing of them makes."""

    @wraps(function)
    def passing(*args: Any) -> Any:
        return function(*args)

    return passing


@pytest.mark.parametrize("function", [Caller(), passed_on(Caller().__call__)], ids=["object", "decorated"])
async def test_a_coroutine_that_a_plain_function_returns_is_the_call(
    clock: FrozenClock, function: Callable[..., Any]
) -> None:
    """It counts when it ends, and not the function's making of it, which always succeeds."""
    breaker = half_open(clock)
    call: Callable[..., Any] = breaker(function)
    first, second, third = call(None), call(None), call(None)  # none has one of the two permits yet
    assert breaker.metrics().calls == 0
    assert (await first, await second) == ("answer", "answer")
    assert breaker.state is CLOSED
    assert await third == "answer"

    late = call(None)
    with pytest.raises(KeyError):
        await call(KeyError())
    assert breaker.state is OPEN
    with pytest.raises(CircuitOpenError):
        call(None)
    with pytest.raises(CircuitOpenError):
        await late


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


FAILURES = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DATA_LOSS,
}


def outcome_of(error: BaseException, **settings: Any) -> CallOutcome:
    """What a breaker makes of a call that ends with `error`: the probe of a HALF_OPEN one tells all three."""
    with FrozenClock() as clock:
        config = CircuitBreakerConfig(
            failure_threshold=1, open_timeout=1.0, half_open_max_calls=1, **settings
        )
        breaker = CircuitBreaker(config)
        breaker.record_failure()
        clock.advance(breaker.retry_after())
        with pytest.raises(type(error)) as caught, breaker:
            raise error
        assert caught.value is error
        said = {CLOSED: CallOutcome.SUCCESS, OPEN: CallOutcome.FAILURE, HALF_OPEN: CallOutcome.IGNORED}
        return said[breaker.state]


class Coded(Exception):  # noqa: N818 - what is tested is not its name
    """An error whose `code` is whatever it was given."""

    def __init__(self, code: object) -> None:
        self.code = code


def refuse_to_say() -> object:
    raise RuntimeError("no code")


@pytest.mark.parametrize("code", grpc.StatusCode)
def test_what_a_status_says_of_the_target(code: grpc.StatusCode) -> None:
    """Of grpc's own error, and of this package's."""
    expected = CallOutcome.FAILURE if code in FAILURES else CallOutcome.SUCCESS
    if code is grpc.StatusCode.CANCELLED:
        expected = CallOutcome.IGNORED
    assert outcome_of(AioRpcError(code, Metadata(), Metadata(), "why")) is expected
    assert outcome_of(CallError(code, "why", method="a.B/C", endpoint="a:1", attempts=1)) is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (KeyError("broken"), CallOutcome.FAILURE),
        (TimeoutError(), CallOutcome.FAILURE),
        (grpc.RpcError(), CallOutcome.FAILURE),
        (asyncio.CancelledError(), CallOutcome.IGNORED),
        (KeyboardInterrupt(), CallOutcome.IGNORED),
        (SystemExit(1), CallOutcome.IGNORED),
        (GeneratorExit(), CallOutcome.IGNORED),
        (Coded(404), CallOutcome.FAILURE),
        (Coded("NOT_FOUND"), CallOutcome.FAILURE),
        (Coded(lambda: None), CallOutcome.FAILURE),
        (Coded(lambda: 5), CallOutcome.FAILURE),
        (Coded(lambda: Window.COUNT), CallOutcome.FAILURE),
        (Coded(lambda: grpc.StatusCode.NOT_FOUND), CallOutcome.SUCCESS),
    ],
    ids=repr,
)
def test_what_an_exception_says_of_the_target(error: BaseException, expected: CallOutcome) -> None:
    assert outcome_of(error) is expected


@pytest.mark.parametrize("outcome", CallOutcome)
@pytest.mark.parametrize("error", [KeyError(), KeyboardInterrupt(), Coded(lambda: grpc.StatusCode.OK)])
def test_outcome_of_decides_before_the_default(error: BaseException, outcome: CallOutcome) -> None:
    seen: list[BaseException] = []

    def say(error: BaseException) -> CallOutcome:
        seen.append(error)
        return outcome

    assert outcome_of(error, outcome_of=say) is outcome
    assert seen == [error]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (refuse_to_say, "no code"),
        (lambda: 1, "outcome_of=1: expected a function that returns a CallOutcome"),
        (lambda: None, "outcome_of=None"),
        (lambda: sys.exit(3), "3"),
    ],
)
def test_an_outcome_of_that_breaks_breaks_no_call(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[[], Any], told: str
) -> None:
    """The caller gets the error of the call, sys.unraisablehook that of the function; the default judges."""
    heard: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: heard.append(str(args.exc_value)))
    assert outcome_of(KeyError(), outcome_of=lambda error: answer()) is CallOutcome.FAILURE
    assert outcome_of(asyncio.CancelledError(), outcome_of=lambda error: answer()) is CallOutcome.IGNORED
    assert len(heard) == 2
    assert all(message.startswith(told) for message in heard)


def test_an_error_whose_code_breaks_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: heard.append(str(args.exc_value)))
    assert outcome_of(Coded(refuse_to_say)) is CallOutcome.FAILURE
    assert heard == ["no code"]


async def test_a_status_counts_in_a_decorated_coroutine_function_too() -> None:
    breaker = CircuitBreaker(ONE_STRIKE)
    code = grpc.StatusCode.NOT_FOUND

    @breaker
    async def call() -> None:
        raise AioRpcError(code, Metadata(), Metadata(), "why")

    with pytest.raises(AioRpcError):
        await call()
    assert breaker.state is CLOSED
    code = grpc.StatusCode.UNAVAILABLE
    with pytest.raises(AioRpcError):
        await call()
    assert breaker.state is OPEN


def watching() -> CircuitBreaker:
    return CircuitBreaker(
        CircuitBreakerConfig(window=Window.COUNT, slow_call_duration=1.0, slow_call_rate_threshold=0.5)
    )


def test_a_block_measures_itself(clock: FrozenClock) -> None:
    """The outer block is slow, by the time that it spends in the inner ones, of which one is slow."""
    breaker, other = watching(), watching()
    with breaker, other:
        with breaker:
            clock.advance(1.0)
        with breaker:
            clock.advance(1.001)
    assert breaker.metrics() == (3, 0, 2, 0.0, 2 / 3)
    assert other.metrics() == (1, 0, 1, 0.0, 1.0)


def test_a_failed_block_may_be_slow_too(clock: FrozenClock) -> None:
    breaker = watching()
    with pytest.raises(KeyError), breaker:
        clock.advance(2.0)
        raise KeyError
    assert breaker.metrics() == (1, 1, 1, 1.0, 1.0)


async def test_decorated_functions_measure_themselves(clock: FrozenClock) -> None:
    breaker = watching()

    @breaker
    def call(seconds: float) -> None:
        clock.advance(seconds)

    @breaker
    async def call_async(seconds: float) -> None:
        await asyncio.sleep(0)
        clock.advance(seconds)

    for seconds in (0.5, 1.5):
        call(seconds)
        await call_async(seconds)
    assert breaker.metrics() == (4, 0, 2, 0.0, 0.5)
    async with breaker:
        clock.advance(3.0)
    assert breaker.metrics().slow_calls == 3
