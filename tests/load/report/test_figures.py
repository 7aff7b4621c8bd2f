"""The figures that all reports share, against plain lists of latencies."""

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st

from load.report.results import histogram, interval, result
from tai_grpc import LatencyHistogram
from tai_grpc.load.report.distribution import Distribution, tops
from tai_grpc.load.report.figures import LATE_NS, PERCENTAGES, ROWS, Figures, even, late
from tai_grpc.load.result import Interval

some = st.lists(st.integers(0, 3_600_000_000_000), min_size=1, max_size=200)
layouts = st.builds(
    lambda lowest, digits: LatencyHistogram(lowest, 3_600_000_000_000, digits),
    st.integers(1, 5_000),
    st.integers(1, 5),
)


@given(some, layouts)
def test_every_value_is_in_a_bucket_of_the_distribution(values: list[int], made: LatencyHistogram) -> None:
    """Whatever the layout: no bucket is empty, and the k-th value lies in the bucket of the k-th rank."""
    made.record_many(np.array(values, dtype=np.int64))
    distribution = Distribution.of(made)
    assert distribution.total == len(values)
    assert (distribution.counts > 0).all()
    assert (distribution.low[1:] > distribution.high[:-1]).all()
    low, high = (np.repeat(bound, distribution.counts) for bound in (distribution.low, distribution.high))
    assert (low <= sorted(values)).all()
    assert (np.array(sorted(values)) <= high).all()
    assert (distribution.low[0], distribution.high[-1]) == (made.min, made.max)


@settings(max_examples=20)
@given(some)
def test_mean_and_deviation_are_those_of_hdrhistogram(values: list[int]) -> None:
    theirs = HdrHistogram(1, 3_600_000_000_000, 3)
    for value in values:
        theirs.record_value(value)
    distribution = Distribution.of(histogram(values))
    mean = float(distribution.middle @ distribution.counts) / len(values)
    assert mean == pytest.approx(theirs.get_mean_value())
    # Theirs takes the middle of a bucket for the mean, and for the deviation too.
    assert distribution.deviation == pytest.approx(theirs.get_stddev(), rel=1e-6, abs=1e-3)


@given(some, st.integers(0, 3_600_000_000_000))
def test_those_at_most_a_bound_are_those_whose_bucket_ends_below_it(values: list[int], bound: int) -> None:
    made = histogram(values)
    (count,) = Distribution.of(made).at_most(np.array([bound]))
    certain = sum(1 for value in values if value <= bound * 0.999 - 1)
    assert certain <= count <= sum(1 for value in values if value <= bound)


@given(some)
def test_figures_agree_with_the_plain_list(values: list[int]) -> None:
    figures = Figures.of(histogram(values))
    ordered = sorted(values)
    assert figures.count == len(values)
    assert figures.fastest_ns == pytest.approx(ordered[0], rel=0.001, abs=1)
    assert figures.slowest_ns == pytest.approx(ordered[-1], rel=0.001, abs=1)
    assert figures.average_ns == pytest.approx(sum(ordered) / len(ordered), rel=0.001, abs=1)
    assert tuple(p for p, _ in figures.percentiles) == PERCENTAGES
    for percentage, ns in figures.percentiles:
        rank = max(int(percentage / 100 * len(ordered) + 0.5), 1)
        assert ns == pytest.approx(ordered[rank - 1], rel=0.001, abs=1)


@given(some)
def test_every_call_is_in_one_row_and_not_above_its_mark(values: list[int]) -> None:
    rows = Figures.of(histogram(values)).rows
    assert 1 <= len(rows) <= ROWS
    assert sum(row.count for row in rows) == len(values)
    assert sum(row.frequency for row in rows) == pytest.approx(1)
    below = -1.0
    for row in rows:
        # What a histogram of three digits keeps of a value.
        low, high = below * 0.999 - 1, row.mark_ns * 1.001 + 1
        assert row.count <= sum(1 for value in values if low <= value <= high)
        assert row.mark_ns > below
        below = row.mark_ns


@given(some, layouts)
def test_a_row_ends_where_a_bucket_does(values: list[int], made: LatencyHistogram) -> None:
    made.record_many(np.array(values, dtype=np.int64))
    buckets = Distribution.of(made)
    assert tops(made, buckets.low).tolist() == tops(made, buckets.high).tolist() == buckets.high.tolist()
    assert (tops(made, buckets.high + 1) > buckets.high).all()


@pytest.mark.parametrize("ns", [1, 1_234_567, 20_000_000_000])
def test_calls_that_took_equally_long_are_one_row(ns: int) -> None:
    for values in ([ns], [ns, ns, ns]):
        (row,) = Figures.of(histogram(values)).rows
        assert (row.count, row.mark_ns) == (len(values), histogram(values).max)


def test_figures_of_nothing_are_zero() -> None:
    assert Figures.of(histogram()) == Figures(0, 0, 0, 0, (), ())


@pytest.mark.parametrize("values", [[5], [5, 5, 5], [1, 2], list(range(100_000))])
def test_percentile_levels_end_at_the_greatest_value_and_at_100(values: list[int]) -> None:
    levels = list(Distribution.of(histogram(values)).levels(5))
    percentages = [percentage for percentage, _, _ in levels]
    assert percentages[0] == 0
    assert percentages[-1] == 100
    assert percentages == sorted(set(percentages))
    assert levels[-1][1] == histogram(values).max
    assert levels[-1][2] == len(values)


def test_of_an_enormous_number_of_calls_the_levels_end_too() -> None:
    """Where the share below the greatest value is 100 % to a float's precision."""
    made = histogram([1])
    for _ in range(60):
        made.merge(made)
    made.record(2)
    assert [level[0] for level in Distribution.of(made).levels(5)][-1] == 100


def test_late_calls_are_those_sent_over_a_millisecond_after_they_were_due() -> None:
    assert late(histogram([0, LATE_NS // 2, LATE_NS * 2, LATE_NS * 3])) == 2
    assert late(histogram()) == 0


def _spans(intervals: tuple[Interval, ...]) -> list[tuple[float, float, int]]:
    return [(each.start_ns / 1e9, each.length_ns / 1e9, each.latencies.count) for each in intervals]


def test_a_very_short_last_interval_joins_the_one_before() -> None:
    first, second = interval(0, [1]), interval(1, [2])
    assert _spans(even(result([first, second, interval(2, [3], length=0.1)]))) == [(0, 1, 1), (1, 1.1, 2)]
    assert _spans(even(result([first, second, interval(2, [3], length=0.5)])))[2] == (2, 0.5, 1)
    assert _spans(even(result([interval(0, [3], length=0.1)]))) == [(0, 0.1, 1)]
    assert even(result()) == ()
