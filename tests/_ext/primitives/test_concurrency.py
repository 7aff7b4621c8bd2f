import asyncio
from math import floor
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tai_grpc._ext.primitives.clock import FrozenClock
from tai_grpc._ext.primitives.concurrency import AdaptiveLimiter, Bulkhead
from tai_grpc.config import AdaptiveLimiterConfig
from tai_grpc.errors import ConcurrencyLimitedError, ConfigError


class PlainGradient2:
    """Gradient2Limit of Netflix's concurrency-limits in floats; latencies in ns."""

    def __init__(self, config: AdaptiveLimiterConfig) -> None:
        self.config = config
        self.limit = float(config.initial_limit)
        self.long = 0.0
        self.samples = 0

    def sample(self, latency: float, in_flight: int) -> None:
        config = self.config
        if self.samples < 10:
            self.samples += 1
            self.long = (self.long * (self.samples - 1) + latency) / self.samples
        else:
            factor = 2 / (config.long_window + 1)
            self.long = self.long * (1 - factor) + latency * factor
        long = self.long
        if long / latency > 2:
            self.long *= 0.95
        if in_flight < self.limit / 2:
            return
        gradient = max(0.5, min(1.0, config.tolerance * long / latency))
        new = self.limit * gradient + config.queue_size
        new = self.limit * (1 - config.smoothing) + new * config.smoothing
        self.limit = max(config.min_limit, min(config.max_limit, new))


@st.composite
def configs(draw: st.DrawFn) -> AdaptiveLimiterConfig:
    low, initial, high = sorted(draw(st.tuples(*[st.integers(1, 60)] * 3)))
    return AdaptiveLimiterConfig(
        initial_limit=initial,
        min_limit=low,
        max_limit=high,
        smoothing=draw(st.floats(0.01, 1.0)),
        queue_size=draw(st.integers(1, 10)),
        tolerance=draw(st.floats(1.0, 3.0)),
        long_window=draw(st.integers(10, 1000)),
    )


@given(
    config=configs(),
    calls=st.lists(
        st.tuples(st.integers(1, 60), st.one_of(st.integers(1, 100), st.integers(1, 10**8))), max_size=80
    ),
)
def test_its_limit_is_that_of_gradient2(config: AdaptiveLimiterConfig, calls: list[tuple[int, int]]) -> None:
    limiter, plain = AdaptiveLimiter(config), PlainGradient2(config)
    for inside, latency_us in calls:
        while limiter.in_flight < inside and limiter.try_enter():
            pass
        in_flight = limiter.in_flight
        assume(abs(in_flight - plain.limit / 2) > 1e-6 or plain.limit == limiter.limit)
        limiter.leave(latency_us)
        plain.sample(latency_us * 1000.0, in_flight)
        assert floor(plain.limit - 1e-6) <= limiter.limit <= floor(plain.limit + 1e-6)


def full(limiter: AdaptiveLimiter) -> None:
    while limiter.try_enter():
        pass


def test_it_grows_while_the_latency_is_steady_and_shrinks_when_calls_queue() -> None:
    limiter = AdaptiveLimiter()
    assert limiter.limit == 20
    for _ in range(1000):
        full(limiter)
        limiter.leave(1000)
    assert limiter.limit == 200
    for _ in range(20):
        full(limiter)
        limiter.leave(20_000)
    assert limiter.limit < 100


def test_it_stays_while_fewer_than_half_of_the_places_are_used() -> None:
    limiter = AdaptiveLimiter()
    for latency_us in (100, 100_000) * 50:
        assert limiter.try_enter()
        limiter.leave(latency_us)
    assert limiter.limit == 20


def test_a_call_that_says_nothing_changes_nothing() -> None:
    limiter = AdaptiveLimiter()
    full(limiter)
    for _ in range(20):
        limiter.leave()
    assert (limiter.limit, limiter.in_flight) == (20, 0)


def test_any_latency_is_borne() -> None:
    """Less than a microsecond, and the longest."""
    for latency_us in (0, 86_400_000_000 * 7):
        limiter = AdaptiveLimiter(AdaptiveLimiterConfig(min_limit=1, max_limit=1000))
        for _ in range(50):
            full(limiter)
            limiter.leave(latency_us)
        assert limiter.limit > 20


def test_blocks_measure_how_long_they_take(clock: FrozenClock) -> None:
    """Nested, and each with its own start: the outer one's latency is the sum."""
    limiter = AdaptiveLimiter(AdaptiveLimiterConfig(initial_limit=2, min_limit=1, smoothing=1.0))
    plain = PlainGradient2(AdaptiveLimiterConfig(initial_limit=2, min_limit=1, smoothing=1.0))
    for outer, inner in ((0.001, 0.001), (0.002, 0.5), (3.0, 0.001)):
        with limiter as entered:
            assert entered is limiter
            clock.advance(outer)
            with limiter:
                clock.advance(inner)
        plain.sample(inner * 1e9, 2)
        plain.sample((outer + inner) * 1e9, 1)
        assert limiter.limit == floor(plain.limit + 1e-6)
    assert limiter.in_flight == 0


async def test_tasks_keep_their_own_starts(clock: FrozenClock) -> None:
    config = AdaptiveLimiterConfig(initial_limit=2, min_limit=1, smoothing=1.0)
    limiter, plain = AdaptiveLimiter(config), PlainGradient2(config)
    inside = asyncio.Event()
    may_end = asyncio.Event()

    async def call() -> None:
        async with limiter:
            inside.set()
            await may_end.wait()

    long = asyncio.create_task(call())
    await inside.wait()
    clock.advance(1.0)
    async with limiter:
        clock.advance(0.5)
    plain.sample(0.5e9, 2)
    may_end.set()
    await long
    plain.sample(1.5e9, 1)
    assert limiter.limit == floor(plain.limit + 1e-6)


def test_a_block_that_fails_says_nothing_unless_it_timed_out(clock: FrozenClock) -> None:
    config = AdaptiveLimiterConfig(initial_limit=1, min_limit=1, smoothing=1.0)
    limiter = AdaptiveLimiter(config)
    for error in (ConnectionRefusedError, KeyboardInterrupt, asyncio.CancelledError):
        with pytest.raises(error), limiter:
            raise error
    assert (limiter.limit, limiter.in_flight) == (1, 0)
    with pytest.raises(TimeoutError), limiter:
        clock.advance(1.0)
        raise TimeoutError
    assert (limiter.limit, limiter.in_flight) == (5, 0)


async def test_a_full_limiter_refuses_the_block() -> None:
    limiter = AdaptiveLimiter(AdaptiveLimiterConfig(initial_limit=1, min_limit=1))
    with limiter:
        with (
            pytest.raises(
                ConcurrencyLimitedError,
                match="the limit of concurrent calls is reached: the latency allows 1",
            ),
            limiter,
        ):
            pytest.fail("it was entered")
        with pytest.raises(
            ConcurrencyLimitedError, match="the limit of concurrent calls is reached: the latency allows 1"
        ):
            async with limiter:
                pytest.fail("it was entered")
    assert limiter.in_flight == 0


def test_a_call_is_not_left_twice() -> None:
    limiter, bulkhead = AdaptiveLimiter(), Bulkhead(1)
    for each in (limiter, bulkhead):
        assert each.try_enter()
        each.leave()
        with pytest.raises(RuntimeError, match=r"goes with a try_enter\(\) that returned True"):
            each.leave()
        assert each.in_flight == 0


@pytest.mark.parametrize("latency_us", [-1, 86_400_000_000 * 7 + 1, 2**64, 1.0, True, "1"])
def test_the_latency_is_checked_before_the_call_is_left(latency_us: int) -> None:
    limiter = AdaptiveLimiter()
    assert limiter.try_enter()
    with pytest.raises(ConfigError, match=r"latency_us=.*an int from 0 to 604800000000"):
        limiter.leave(latency_us)
    assert limiter.in_flight == 1


def test_the_config_is_checked() -> None:
    with pytest.raises(ConfigError, match="config=20: expected an AdaptiveLimiterConfig"):
        AdaptiveLimiter(20)  # type: ignore[arg-type]  # what is tested


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"max_limit": 1_000_001}, r"max_limit=1000001: expected an int from 1 to 1000000"),
        ({"min_limit": 201}, r"min_limit=201: expected an int from 1 to 200"),
        ({"initial_limit": 19}, r"initial_limit=19: expected an int from 20 to 200"),
        ({"initial_limit": 201}, r"initial_limit=201: expected an int from 20 to 200"),
        ({"smoothing": 0.0}, r"smoothing=0\.0: expected a number above 0 and up to 1"),
        ({"smoothing": float("nan")}, r"smoothing=nan: expected a number above 0 and up to 1"),
        ({"queue_size": 0}, r"queue_size=0: expected an int from 1 to 10000"),
        ({"tolerance": 0.9}, r"tolerance=0\.9: expected a number from 1 to 10"),
        ({"long_window": 9}, r"long_window=9: expected an int from 10 to 1000000"),
    ],
)
def test_each_setting_is_checked(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AdaptiveLimiterConfig(**wrong)


def test_a_bulkhead_lets_its_number_in() -> None:
    bulkhead = Bulkhead(3)
    assert [bulkhead.try_enter() for _ in range(5)] == [True, True, True, False, False]
    assert (bulkhead.in_flight, bulkhead.max_concurrent) == (3, 3)
    bulkhead.leave()
    assert bulkhead.try_enter()
    assert not bulkhead.try_enter()


@pytest.mark.parametrize("number", [0, -1, 1_000_001, 2**64, 1.0, True, None, "1"])
def test_the_number_of_a_bulkhead_is_checked(number: int) -> None:
    with pytest.raises(ConfigError, match=r"max_concurrent=.*an int from 1 to 1000000"):
        Bulkhead(number)
