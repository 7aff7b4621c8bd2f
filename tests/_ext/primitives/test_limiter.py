import time
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tai_grpc._ext.primitives.clock import FrozenClock
from tai_grpc._ext.primitives.limiter import TokenBucket
from tai_grpc.errors import ConfigError

STEPS = st.lists(
    st.tuples(st.one_of(st.just(0), st.integers(1, 3_000_000), st.integers(1, 10**10)), st.integers(1, 20)),
    max_size=60,
)


class PlainBucket:
    """A token bucket as it is drawn: tokens that flow in one by one interval, in exact arithmetic."""

    def __init__(self, interval: Fraction, burst: int) -> None:
        self.interval, self.burst, self.tokens = interval, burst, Fraction(burst)

    def wait(self, nanoseconds: int) -> None:
        self.tokens = min(self.tokens + nanoseconds / self.interval, Fraction(self.burst))

    def take(self, n: int) -> bool:
        if self.tokens < n:
            return False
        self.tokens -= n
        return True


@given(rate=st.floats(0.01, 1e6), burst=st.integers(1, 20), steps=STEPS)
@example(rate=0.3333333333333333, burst=1, steps=[(0, 1), (0, 1)])
def test_it_admits_what_an_exact_bucket_admits(rate: float, burst: int, steps: list[tuple[int, int]]) -> None:
    """The interval is that of the rate, rounded up to 1/16 ns; beside that there is no difference."""
    interval = Fraction(-(-Fraction(16 * 10**9) // Fraction(rate)), 16)
    with FrozenClock() as clock:
        bucket, plain = TokenBucket(rate, burst), PlainBucket(interval, burst)
        for nanoseconds, n in steps:
            clock.advance(nanoseconds * 1e-9)
            plain.wait(nanoseconds)
            if n > burst:
                continue
            missing = max(n - plain.tokens, Fraction(0)) * interval
            assert round(bucket.wait_time(n) * 1e9) == -(-missing // 1)
            assert bucket.try_acquire(n) is plain.take(n)


@given(rate=st.floats(0.1, 1e6), burst=st.integers(1, 20), steps=STEPS)
def test_no_window_sees_more_than_its_burst_and_rate(
    rate: float, burst: int, steps: list[tuple[int, int]]
) -> None:
    admitted: list[tuple[int, int]] = []
    with FrozenClock() as clock:
        start = clock.now_ns
        bucket = TokenBucket(rate, burst)
        for nanoseconds, n in steps:
            clock.advance(nanoseconds * 1e-9)
            if n <= burst and bucket.try_acquire(n):
                admitted.append((clock.now_ns - start, n))
    for first in range(len(admitted)):
        total = 0
        for at, n in admitted[first:]:
            total += n
            assert total <= burst + Fraction(rate) * (at - admitted[first][0]) / 10**9


def test_asking_often_loses_no_refill(clock: FrozenClock) -> None:
    """1,000 tokens a second, asked for 100,000 times in that second: all 1,000 come."""
    bucket = TokenBucket(rate=1000.0, burst=1)
    assert bucket.try_acquire()
    taken = 0
    for _ in range(100_000):
        clock.advance(1e-5)
        taken += bucket.try_acquire()
    assert taken == 1000


def test_the_wait_is_exact_and_takes_nothing(clock: FrozenClock) -> None:
    bucket = TokenBucket(rate=10.0, burst=5)
    assert bucket.wait_time(5) == 0.0
    assert bucket.try_acquire(5)
    assert bucket.wait_time(2) == bucket.wait_time(2) == 0.2
    clock.advance(0.2 - 1e-9)
    assert not bucket.try_acquire(2)
    assert bucket.wait_time(2) == 1e-9
    clock.advance(1e-9)
    assert bucket.try_acquire(2)


def test_eight_threads_get_the_burst_and_no_more(
    clock: FrozenClock, hammer: Callable[[Callable[[], int]], list[int]]
) -> None:
    bucket = TokenBucket(rate=1.0, burst=10_000)
    assert sum(hammer(lambda: sum(bucket.try_acquire() for _ in range(5_000)))) == 10_000


def test_eight_threads_over_running_time_are_not_over_admitted(
    hammer: Callable[[Callable[[], int]], list[int]],
) -> None:
    bucket = TokenBucket(rate=50_000.0, burst=100)
    before = time.monotonic_ns()
    taken = sum(hammer(lambda: sum(bucket.try_acquire() for _ in range(20_000))))
    elapsed = (time.monotonic_ns() - before) / 1e9
    assert 100 <= taken <= 100 + 50_000 * elapsed


def test_it_says_what_it_is() -> None:
    bucket = TokenBucket(rate=2.5, burst=7)
    assert (bucket.rate, bucket.burst) == (2.5, 7)


@pytest.mark.parametrize("rate", [0, -1.0, 1e10, float("nan"), float("inf"), True, None, "1"])
def test_the_rate_is_checked(rate: float) -> None:
    with pytest.raises(ConfigError, match=r"rate=.*a number above 0 and up to 1e"):
        TokenBucket(rate, 1)


@pytest.mark.parametrize("burst", [0, -1, 2**31, 1.0, True, None, "1"])
def test_the_burst_is_checked(burst: int) -> None:
    with pytest.raises(ConfigError, match=r"burst=.*an int from 1 to 2147483647"):
        TokenBucket(1.0, burst)


def test_a_bucket_that_would_fill_for_years_is_refused() -> None:
    """Beyond that its times would not fit into 64 bits."""
    TokenBucket(rate=1 / 31_536_000, burst=1)
    with pytest.raises(ConfigError, match=r"burst=2: .*a year of rate="):
        TokenBucket(rate=1 / 31_536_000, burst=2)


@pytest.mark.parametrize("n", [0, -1, 11, 2**64, 1.0, True, None, "1"])
def test_tokens_that_could_never_be_there_are_refused(n: int) -> None:
    bucket = TokenBucket(rate=1.0, burst=10)
    with pytest.raises(ConfigError, match=r"n=.*an int from 1 to 10"):
        bucket.try_acquire(n)
    with pytest.raises(ConfigError, match=r"n=.*an int from 1 to 10"):
        bucket.wait_time(n)
    assert bucket.try_acquire(10)
