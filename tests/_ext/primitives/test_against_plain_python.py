"""State machines: buckets, budget, bulkhead, counter and histogram against the same in plain Python.

The breaker's is in test_breaker_rules.py, the balancer's in test_balancer_model.py.
"""

from __future__ import annotations

from collections import Counter as Tally
from fractions import Fraction

import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tai_grpc._ext.primitives.clock import FrozenClock
from tai_grpc._ext.primitives.concurrency import Bulkhead
from tai_grpc._ext.primitives.counter import Counter
from tai_grpc._ext.primitives.histogram import LatencyHistogram
from tai_grpc._ext.primitives.keyed import KeyedTokenBucket
from tai_grpc._ext.primitives.limiter import TokenBucket
from tai_grpc._ext.primitives.retry import RetryBudget
from tai_grpc.errors import ConfigError

KEYS = 3


class Limits(RuleBasedStateMachine):
    """A bucket and one of each key: a plain level that rises with time, and a log of what was taken when."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FrozenClock()
        self.clock.__enter__()

    def teardown(self) -> None:
        self.clock.__exit__(None, None, None)

    @initialize(interval_ns=st.integers(1, 10**9), burst=st.integers(1, 10))
    def begin(self, interval_ns: int, burst: int) -> None:
        self.interval_ns, self.burst = interval_ns, burst
        rate = 1e9 / interval_ns
        self.bucket = TokenBucket(rate, burst)
        self.table = KeyedTokenBucket(rate, burst, 100)
        self.began_ns = self.now_ns = self.clock.now_ns
        self.log: dict[int | None, list[tuple[int, int]]] = {key: [] for key in [None, *range(KEYS)]}

    @rule(nanoseconds=st.integers(0, 3 * 10**9))
    def time_goes_by(self, nanoseconds: int) -> None:
        self.clock.advance(nanoseconds * 1e-9)
        self.now_ns = self.clock.now_ns

    @rule(key=st.one_of(st.none(), st.integers(0, KEYS - 1)), n=st.integers(1, 10))
    def take(self, key: int | None, n: int) -> None:
        n = min(n, self.burst)
        wait = self.bucket.wait_time(n) if key is None else self.table.wait_time(key, n)
        taken = self.bucket.try_acquire(n) if key is None else self.table.try_acquire(key, n)
        assert taken == (wait == 0.0)
        level = self.level(key)
        # The interval is rounded up to 1/16 ns: the bucket may lag behind by that for each token.
        slack = Fraction(len(self.log[key]) + self.burst + 1, 8 * self.interval_ns)
        if taken:
            assert n <= level
            self.log[key].append((self.now_ns, n))
        else:
            assert level < n + slack
            assert wait * 1e9 <= (n - level + slack) * self.interval_ns + 2

    def level(self, key: int | None) -> Fraction:
        """The tokens that are there: what a bucket is by its definition."""
        level, last_ns = Fraction(self.burst), self.began_ns
        for at_ns, n in [*self.log[key], (self.now_ns, 0)]:
            level = min(level + Fraction(at_ns - last_ns, self.interval_ns), Fraction(self.burst)) - n
            last_ns = at_ns
        return level


class Counts(RuleBasedStateMachine):
    """A counter, a budget and a bulkhead beside ints."""

    @initialize(max_tokens=st.integers(1, 5), thousandths=st.integers(1, 3000), places=st.integers(1, 3))
    def begin(self, max_tokens: int, thousandths: int, places: int) -> None:
        self.counter, self.count = Counter(), 0
        self.budget = RetryBudget(max_tokens, thousandths / 1000)
        self.tokens = self.max_tokens = max_tokens * 1000
        self.ratio = thousandths
        self.bulkhead, self.places, self.inside = Bulkhead(places), places, 0

    @rule(n=st.integers(1, 2**56))
    def counts(self, n: int) -> None:
        self.counter.add(n)
        self.count += n

    @rule()
    def succeeds(self) -> None:
        self.budget.record_success()
        self.tokens = min(self.tokens + self.ratio, self.max_tokens)

    @rule()
    def fails(self) -> None:
        self.budget.record_failure()
        self.tokens = max(self.tokens - 1000, 0)

    @rule()
    def enters(self) -> None:
        assert self.bulkhead.try_enter() == (self.inside < self.places)
        self.inside = min(self.inside + 1, self.places)

    @rule()
    def leaves(self) -> None:
        if self.inside > 0:
            self.bulkhead.leave()
            self.inside -= 1
        else:
            with pytest.raises(RuntimeError, match="without a place"):
                self.bulkhead.leave()

    @invariant()
    def all_know_the_same(self) -> None:
        assert self.counter.value == self.count
        assert self.budget.tokens == self.tokens / 1000
        assert self.budget.try_retry() == (2 * self.tokens > self.max_tokens)
        assert self.bulkhead.in_flight == self.inside


class Histograms(RuleBasedStateMachine):
    """A histogram, another one that is merged and taken away, and the hdrhistogram package."""

    HIGHEST = 100_000

    @initialize(digits=st.integers(1, 4))
    def begin(self, digits: int) -> None:
        self.layout = (1, self.HIGHEST, digits)
        self.histogram, self.other = LatencyHistogram(*self.layout), LatencyHistogram(*self.layout)
        self.values: Tally[int] = Tally()
        self.others: Tally[int] = Tally()

    @rule(value=st.integers(0, HIGHEST))
    def records(self, value: int) -> None:
        self.histogram.record(value)
        self.values[value] += 1

    @rule(values=st.lists(st.integers(0, HIGHEST), max_size=20))
    def records_many(self, values: list[int]) -> None:
        self.histogram.record_many(values)
        self.values.update(values)

    @rule(value=st.integers(0, HIGHEST))
    def other_records(self, value: int) -> None:
        self.other.record(value)
        self.others[value] += 1

    @rule()
    def merges(self) -> None:
        self.histogram.merge(self.other)
        self.values += self.others

    @rule()
    def subtracts(self) -> None:
        ours, theirs = self.buckets(self.values), self.buckets(self.others)
        if all(ours[bucket] >= count for bucket, count in theirs.items()):
            self.histogram.subtract(self.other)
            # Values of one bucket are alike: which of them is left does not show.
            for value, count in self.others.items():
                alike = [each for each in self.values if self.bucket(each) == self.bucket(value)]
                for each in alike:
                    taken = min(count, self.values[each])
                    self.values[each] -= taken
                    count -= taken  # noqa: PLW2901 - what is left to be taken
            self.values = +self.values
        else:
            with pytest.raises(ConfigError, match="at most what this one counts"):
                self.histogram.subtract(self.other)

    @rule()
    def interval(self) -> None:
        interval = self.histogram.interval_histogram()
        assert interval.count == self.values.total()
        assert self.histogram.count == 0
        self.histogram = interval

    @rule()
    def is_stored_and_read(self) -> None:
        self.histogram = LatencyHistogram.decode(self.histogram.encode())

    @precondition(lambda self: self.values.total() > 30)
    @rule()
    def is_reset(self) -> None:
        self.histogram.reset()
        self.values.clear()

    def oracle(self, values: Tally[int]) -> HdrHistogram:
        oracle = HdrHistogram(*self.layout)
        for value, count in values.items():
            assert oracle.record_value(value, count)
        return oracle

    def bucket(self, value: int) -> int:
        return int(HdrHistogram(*self.layout).get_lowest_equivalent_value(value))

    def buckets(self, values: Tally[int]) -> Tally[int]:
        found: Tally[int] = Tally()
        for value, count in values.items():
            found[self.bucket(value)] += count
        return found

    @invariant()
    def matches(self) -> None:
        if not hasattr(self, "histogram"):
            return
        oracle = self.oracle(self.values)
        assert self.histogram.count == oracle.get_total_count() == self.values.total()
        for percentile in (0.0, 50.0, 90.0, 99.9, 100.0):
            assert self.histogram.percentile(percentile) == oracle.get_value_at_percentile(percentile)


TestLimits = Limits.TestCase
TestCounts = Counts.TestCase
TestHistograms = Histograms.TestCase
TestLimits.settings = TestCounts.settings = settings(max_examples=60, stateful_step_count=50)
TestHistograms.settings = settings(max_examples=40, stateful_step_count=20)
