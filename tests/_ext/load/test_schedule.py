"""When calls are due, held against exact fractions."""

from __future__ import annotations

from bisect import bisect_left
from fractions import Fraction
from itertools import pairwise
from math import isqrt, sqrt

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tai_grpc._ext.load.schedule import arrivals, skipped
from tai_grpc.errors import ConfigError

Segments = list[tuple[float | None, float, float]]

SECOND = 1_000_000_000
rates = st.one_of(st.just(0.0), st.integers(1, 50_000).map(float), st.floats(0.01, 1e4))
segments = st.lists(st.tuples(st.floats(0.001, 100.0), rates, rates), min_size=1, max_size=6)


def calls_until(parts: Segments, time: Fraction) -> Fraction:
    """The rate's integral from the beginning."""
    begin = calls = Fraction(0)
    for seconds, start, end in parts:
        length = time - begin if seconds is None else Fraction(seconds)
        within = min(time - begin, length)
        if within <= 0:
            break
        slope = (Fraction(end) - Fraction(start)) / length
        calls += within * (Fraction(start) + slope * within / 2)
        begin += length
    return calls


def of_all(parts: Segments) -> Fraction:
    return calls_until(parts, sum((Fraction(seconds or 0) for seconds, _, _ in parts), Fraction(0)))


@example([(1.0, 0.0, 0.25)], 5e-324, 1.0)
@given(segments, st.floats(0, 10), st.floats(0.1, 7))
def test_the_rates_integral_up_to_an_arrival_is_its_number(
    parts: Segments, first: float, step: float
) -> None:
    """Within what a nanosecond and a float's last digits are at the highest rate."""
    due = arrivals(parts, 300, first=first, step=step)
    assert due == sorted(due)
    total = of_all(parts)
    fastest = max(max(start, end) for _, start, end in parts)
    for number, at in enumerate(due):
        place = Fraction(first) + number * Fraction(step)
        # Where the rate is 0 the integral is the same all the while.
        assert abs(calls_until(parts, Fraction(at, SECOND)) - place) <= 1e-6 + 3e-9 * fastest
        assert place < total + Fraction(1, 1000)
    if len(due) < 300:
        assert Fraction(first) + len(due) * Fraction(step) >= total - Fraction(1, 1000)


def test_a_constant_rate_is_due_at_equal_distances_and_its_end_is_not() -> None:
    assert arrivals([(1.0, 10.0, 10.0)], 100) == [n * SECOND // 10 for n in range(10)]


def test_a_ramp_from_nothing_is_due_at_the_roots() -> None:
    """0 to 100 a second within 10 seconds: 5 t^2 calls up to t."""
    due = arrivals([(10.0, 0.0, 100.0)], 1000)
    assert len(due) == 500
    assert all(abs(at - sqrt(number / 5) * SECOND) <= 2 for number, at in enumerate(due))


def test_a_ramp_to_nothing_ends_where_it_should() -> None:
    due = arrivals([(10.0, 100.0, 0.0)], 1000)
    assert len(due) == 500
    assert due[0] == 0
    assert 9 * SECOND < due[-1] < 10 * SECOND


def test_nothing_is_due_while_the_rate_is_nothing() -> None:
    due = arrivals([(1.0, 5.0, 5.0), (3.0, 0.0, 0.0), (None, 5.0, 5.0)], 10)
    assert due == [n * SECOND // 5 for n in range(5)] + [4 * SECOND + n * SECOND // 5 for n in range(5)]


def test_the_last_segment_may_go_on_for_ever() -> None:
    due = arrivals([(1.0, 1.0, 3.0), (None, 1000.0, 1000.0)], 100_000)
    assert len(due) == 100_000
    assert due[-1] == SECOND + (100_000 - 1 - 2) * SECOND // 1000


@given(segments, st.integers(1, 5))
def test_engines_that_share_a_schedule_make_all_of_its_calls(parts: Segments, engines: int) -> None:
    alone = arrivals(parts, 200)
    shared = sorted(
        at for first in range(engines) for at in arrivals(parts, 200, first=float(first), step=float(engines))
    )[: len(alone)]
    assert all(abs(one - other) <= 2 for one, other in zip(alone, shared, strict=True))


@given(segments, st.integers(0, 50), st.floats(0, 200), st.booleans(), st.floats(0.1, 5))
def test_what_is_skipped_is_what_was_due_before(
    parts: Segments, taken: int, end: float, poisson: bool, step: float
) -> None:
    """The count that is worked out at once equals one by one, as far as one by one goes."""
    end_ns = round(end * SECOND)
    due = arrivals(parts, 20_000, poisson=poisson, seed=7, step=step)
    if len(due) == 20_000:
        end_ns = min(end_ns, due[-1])
    left, following = skipped(parts, taken, end_ns, poisson=poisson, seed=7, step=step)
    before = bisect_left(due, end_ns)
    # Sums in another order may differ in a float's last digits, which decide of an arrival near the end.
    places = [calls_until(parts, Fraction(at, SECOND)) for at in due[max(0, before - 1) : before + 1]]
    slack = 1e-6 + 3e-9 * max(max(start, end) for _, start, end in parts)
    near = any(abs(place - calls_until(parts, Fraction(end_ns, SECOND))) < slack for place in places)
    assert abs(left - max(0, before - taken)) <= near
    if not near and taken <= before < len(due):
        assert abs(calls_until(parts, Fraction(following, SECOND)) - places[-1]) < slack


def test_a_poisson_process_has_exponential_distances_of_the_rates_mean() -> None:
    """Within five standard errors of 200,000: mean, deviation, and the third of them over ln 3 means."""
    due = arrivals([(None, 1000.0, 1000.0)], 200_000, poisson=True, seed=1)
    gaps = [(later - earlier) / 1e6 for earlier, later in pairwise(due)]
    mean = sum(gaps) / len(gaps)
    deviation = sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    error = 1 / isqrt(len(gaps))
    assert abs(mean - 1) < 5 * error
    assert abs(deviation - 1) < 10 * error
    assert abs(sum(gap > 1.0986123 for gap in gaps) / len(gaps) - 1 / 3) < 5 * error


def test_a_seed_decides_a_poisson_process() -> None:
    parts: Segments = [(None, 100.0, 100.0)]
    one = arrivals(parts, 50, poisson=True, seed=1)
    assert one == arrivals(parts, 50, poisson=True, seed=1)
    assert one != arrivals(parts, 50, poisson=True, seed=2)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "segments=.*at least one"),
        ([(1.0, -1.0, 1.0)], "rate=-1.0"),
        ([(0.0, 1.0, 1.0)], "duration=0.0"),
        ([(None, 1.0, 1.0), (1.0, 1.0, 1.0)], "without a duration the last one alone"),
        ([(None, 1.0, 2.0)], "at one rate above 0"),
        ([(None, 0.0, 0.0)], "at one rate above 0"),
    ],
)
def test_what_is_no_schedule_is_refused(parts: Segments, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        arrivals(parts, 1)
