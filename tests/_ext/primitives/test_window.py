"""The windows of a breaker, to the call and to the tick. Threads are in test_parallel.py."""

from fractions import Fraction
from typing import Any

import pytest

from tai_grpc._ext.primitives.breaker import CircuitBreaker, CircuitState
from tai_grpc._ext.primitives.clock import FrozenClock
from tai_grpc.config import CircuitBreakerConfig, Window

CLOSED, OPEN, HALF_OPEN = CircuitState
TICK = 65_536e-9
TENTH = 1526 * TICK
"""A bucket of a window of one second: a tenth of it, in whole ticks."""


def breaker(window: Window, **settings: Any) -> CircuitBreaker:
    return CircuitBreaker(CircuitBreakerConfig(window=window, **settings))


def watched(window: Window, size: int) -> CircuitBreaker:
    """A breaker that counts and never opens; a call is slow over 1 s."""
    made = breaker(window, window_size=size, slow_call_duration=1.0)
    made.metrics_only()
    return made


def begun(clock: FrozenClock) -> CircuitBreaker:
    """One of 1 s, in the first tick of its era: two eras had begun in the tick before."""
    made = watched(Window.TIME, 1)
    clock.advance(TICK)
    return made


def record(breaker: CircuitBreaker, calls: str) -> None:
    """One call a letter: `.` good, `f` failed, `s` slow, `b` both."""
    for call in calls:
        duration = 2.0 if call in "sb" else 0.5
        if call in "fb":
            breaker.record_failure(duration)
        else:
            breaker.record_success(duration)


def counts(breaker: CircuitBreaker) -> tuple[int, int, int]:
    return breaker.metrics()[:3]


@pytest.mark.parametrize("size", [1, 2, 11, 12, 13, 24, 100, 9_999, 10_000])
def test_a_window_of_calls_knows_the_last_of_them(size: int) -> None:
    """At every point of several rounds, for sizes at and beside the edges of its words."""
    window = watched(Window.COUNT, size)
    calls = [".fsb.f"[i * i % 6] for i in range(min(5 * size + 3, 25_000))]
    for n, call in enumerate(calls, start=1):
        record(window, call)
        if n % max(1, size // 50) == 0:
            last = calls[max(0, n - size) : n]
            failures, slow = sum(call in "fb" for call in last), sum(call in "sb" for call in last)
            assert counts(window) == (len(last), failures, slow)


@pytest.mark.parametrize("window", [Window.COUNT, Window.TIME])
def test_it_is_judged_from_the_minimum_of_calls_on(clock: FrozenClock, window: Window) -> None:
    """Even when the call that makes the minimum is a good one."""
    judged = breaker(window, window_size=20, minimum_calls=10, failure_rate_threshold=0.5)
    record(judged, "fffffffff")
    assert judged.state is CLOSED
    record(judged, ".")
    assert judged.state is OPEN


@pytest.mark.parametrize("window", [Window.COUNT, Window.TIME])
@pytest.mark.parametrize(
    ("kind", "rate"), [("f", "failure_rate_threshold"), ("s", "slow_call_rate_threshold")]
)
@pytest.mark.parametrize("calls", [1, 3, 7, 10, 30, 100])
def test_a_rate_opens_when_it_is_reached_exactly(
    clock: FrozenClock, window: Window, kind: str, rate: str, calls: int
) -> None:
    """For every share of so many calls: one bad call fewer leaves it closed."""
    for bad in range(1, calls + 1):
        settings: dict[str, Any] = {"minimum_calls": calls, "failure_rate_threshold": 1.0, rate: bad / calls}
        judged = breaker(window, window_size=100, slow_call_duration=1.0, **settings)
        record(judged, kind * (bad - 1) + "." * (calls - bad + 1))
        assert judged.state is CLOSED, Fraction(bad, calls)
        judged.reset()
        record(judged, "." * (calls - bad) + kind * bad)
        assert judged.state is OPEN, Fraction(bad, calls)


def test_the_minimum_of_a_small_window_is_its_size() -> None:
    judged = breaker(Window.COUNT, window_size=10)
    record(judged, "fffffffff")
    assert judged.state is CLOSED
    record(judged, "f")
    assert judged.state is OPEN


@pytest.mark.parametrize(
    ("window", "settings"), [(Window.COUNT, {"window_size": 10_000}), (Window.TIME, {"window_size": 3600})]
)
def test_the_minimum_is_100_by_default(clock: FrozenClock, window: Window, settings: dict[str, Any]) -> None:
    judged = breaker(window, **settings)
    record(judged, "f" * 99)
    assert judged.state is CLOSED
    record(judged, "f")
    assert judged.state is OPEN


def test_old_calls_leave_a_window_of_seconds_by_tenths(clock: FrozenClock) -> None:
    window = begun(clock)
    for n in range(1, 31):
        record(window, ".fsb"[n % 4])
        known = [".fsb"[i % 4] for i in range(max(1, n - 9), n + 1)]
        assert counts(window) == (
            len(known),
            sum(call in "fb" for call in known),
            sum(call in "sb" for call in known),
        )
        clock.advance(TENTH)


def test_a_call_is_known_for_nine_to_ten_tenths_of_the_window(clock: FrozenClock) -> None:
    window = begun(clock)
    record(window, "f")
    clock.advance(TENTH - TICK)
    record(window, "b")
    clock.advance(9 * TENTH)
    assert counts(window) == (2, 2, 1)
    clock.advance(TICK)
    assert counts(window) == (0, 0, 0)


@pytest.mark.parametrize("tenths", [0, 1, 9, 10, 11, 100, 1_000_000])
def test_a_window_that_nobody_used_for_long_is_used_again(clock: FrozenClock, tenths: int) -> None:
    window = begun(clock)
    record(window, "fsb" * 10)
    clock.advance(tenths * TENTH)
    record(window, ".f")
    assert counts(window) == ((32, 21, 20) if tenths < 10 else (2, 1, 0))


def test_a_good_call_opens_it_when_better_ones_have_left_the_window(clock: FrozenClock) -> None:
    judged = breaker(Window.TIME, window_size=1, minimum_calls=5)
    record(judged, "." * 20)
    clock.advance(5 * TENTH)
    record(judged, "f" * 10)
    assert judged.state is CLOSED
    clock.advance(5 * TENTH)
    record(judged, ".")
    assert judged.state is OPEN


@pytest.mark.parametrize("window", [Window.COUNT, Window.TIME])
@pytest.mark.parametrize("seconds", [0.0, TICK, 2 * TICK, 1.0, 200_000.0, 604_800.0])
def test_every_era_begins_empty(clock: FrozenClock, window: Window, seconds: float) -> None:
    """However close or far the eras are: more than 2^31 ticks too, where halves of their names are alike."""
    watching = watched(window, 12)
    for _ in range(3):
        record(watching, "fsb." * 20)
        assert watching.metrics().calls >= 12
        clock.advance(seconds)
        watching.metrics_only()
        assert counts(watching) == (0, 0, 0)
        record(watching, ".f")
        assert counts(watching) == (2, 1, 0)


def test_eras_in_quick_succession_share_no_bucket(clock: FrozenClock) -> None:
    """Their names are a tick apart, and those of the first buckets of one era follow each other likewise."""
    watching = watched(Window.TIME, 1)
    for _ in range(50):
        for _ in range(12):
            record(watching, "b")
            clock.advance(TENTH)
        for _ in range(15):
            watching.metrics_only()
            assert counts(watching) == (0, 0, 0)
            record(watching, "b")
            assert counts(watching) == (1, 1, 1)


@pytest.mark.parametrize("window", [Window.COUNT, Window.TIME])
def test_a_closed_breaker_judges_only_what_came_after_its_probes(clock: FrozenClock, window: Window) -> None:
    judged = CircuitBreaker(
        CircuitBreakerConfig(
            window=window, window_size=100, minimum_calls=4, open_timeout=0.001, half_open_max_calls=1
        )
    )
    record(judged, "...fff")
    assert judged.state is OPEN
    assert counts(judged) == (0, 0, 0)
    clock.advance(judged.retry_after())
    judged.check()
    record(judged, ".")
    assert (judged.state, *counts(judged)) == (CLOSED, 0, 0, 0)
    record(judged, "fff")
    assert judged.state is CLOSED
    record(judged, "f")
    assert judged.state is OPEN


def test_an_era_may_be_named_ahead_of_the_clock(clock: FrozenClock) -> None:
    """By more than a bucket, when thousands began within a tick: the first lasts until the clock is there."""
    watching = watched(Window.TIME, 1)
    for _ in range(20_000):
        watching.metrics_only()
    for _ in range(5):
        record(watching, ".f")
        clock.advance(2 * TENTH)
    assert counts(watching) == (10, 5, 0)
