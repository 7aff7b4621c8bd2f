"""The intervals of a run: cut at the same times on all sides, and added by when they were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest

from tai_grpc import LatencyHistogram
from tai_grpc.load.coordinator import Together
from tai_grpc.load.result import Interval
from tai_grpc.load.series import MAX_INTERVALS, Series, aligned, summed

SECOND = 1_000_000_000
QUARTER = SECOND // 4
RATE = 100


@pytest.fixture(autouse=True)
def transport() -> None:
    """Nothing here is sent: no test runs twice."""


def seen(start_ns: int, end_ns: int) -> Interval:
    """What a side that makes 100 calls a second sees between two times."""
    count = end_ns * RATE // SECOND - start_ns * RATE // SECOND
    return Interval(
        start_ns, end_ns - start_ns, LatencyHistogram(1, 1000, 1), Counter({"OK": count}), count, count
    )


def between(cuts: Sequence[int]) -> Iterator[Interval]:
    return (seen(start, end) for start, end in pairwise(cuts))


def side(seconds: int, late_ns: int = 0, stalls: Sequence[int] = ()) -> tuple[Interval, ...]:
    """What comes of a side whose cuts are late, some by so much that the next ones are left out."""
    series = Series(SECOND)
    cuts = [at + late_ns for at in range(QUARTER, seconds * SECOND, QUARTER)]
    for stall in stalls:
        cuts = [cut for cut in cuts if not stall <= cut < stall + 3 * SECOND]
    for interval in between([0, *cuts, seconds * SECOND + late_ns]):
        series.add(interval)
    return series.intervals()


def test_a_series_begins_an_interval_each_second_however_late_it_was_read() -> None:
    starts = [each.start_ns for each in side(20, late_ns=7_000_000)]
    assert starts == [0, *(second * SECOND + 7_000_000 for second in range(1, 20))]


def test_a_long_series_has_longer_intervals_that_begin_at_multiples_of_their_length() -> None:
    intervals = side(MAX_INTERVALS + 5, late_ns=7_000_000)
    assert {each.start_ns // SECOND % 2 for each in intervals} == {0}
    assert sum(each.length_ns for each in intervals) == (MAX_INTERVALS + 5) * SECOND + 7_000_000
    assert len(intervals) <= MAX_INTERVALS


@pytest.mark.parametrize(
    "sides",
    [
        (side(30), side(30, late_ns=20_000_000), side(30, late_ns=3_000_000)),
        # One has been halved and the other has not.
        (side(MAX_INTERVALS + 2), side(MAX_INTERVALS + 2, stalls=[9 * SECOND, 90 * SECOND])),
        (side(30, stalls=[5 * SECOND, 20 * SECOND]), side(30, stalls=[7 * SECOND])),
    ],
    ids=["late", "halved", "stalled"],
)
def test_sides_are_added_by_when_it_was(sides: tuple[tuple[Interval, ...], ...]) -> None:
    """Intervals follow each other without a gap, hold every call once, and have the rate of all sides."""
    whole = aligned(sides, SECOND)
    calls = sum(sum(each.statuses.total() for each in one) for one in sides)
    assert sum(each.statuses.total() for each in whole) == calls
    assert whole[0].start_ns == 0
    for before, after in pairwise(whole):
        assert before.start_ns + before.length_ns == after.start_ns
    for each in whole:
        rate = each.statuses.total() * SECOND / each.length_ns
        assert rate == pytest.approx(len(sides) * RATE, rel=0.05)


def test_a_side_that_ends_before_the_others_cuts_them_no_more() -> None:
    whole = aligned([side(3), side(6)], SECOND)
    assert [each.start_ns // SECOND for each in whole] == [0, 1, 2, 3, 4, 5]
    assert [each.statuses.total() for each in whole] == [200, 200, 200, 100, 100, 100]
    assert [each.statuses.total() for each in aligned([(), side(1)], SECOND)] == [100]
    assert aligned([(), ()], SECOND) == ()


# --- What a watcher is shown ------------------------------------------------------------------------------


def quarters(first: int, last: int) -> Iterator[Interval]:
    return between([number * QUARTER for number in range(first, last + 1)])


def test_a_watcher_is_shown_what_all_sides_have_seen_of_the_same_time() -> None:
    shown: list[Interval] = []
    together = Together(shown.append, 2)
    for each in quarters(0, 3):
        together.add(0, each)
        together.show({0, 1})
    assert shown == []
    for each in quarters(0, 2):
        together.add(1, each)
        together.show({0, 1})
    assert [(each.start_ns, each.statuses.total()) for each in shown] == [(0, 50), (QUARTER, 50)]
    together.show({0})  # the other has ended
    assert [each.statuses.total() for each in shown] == [50, 50, 25]


def test_a_side_that_says_nothing_holds_the_others_up_no_longer_than_for_two_seconds() -> None:
    shown: list[Interval] = []
    together = Together(shown.append, 2)
    for number, each in enumerate(quarters(0, 400)):
        together.add(0, each)
        together.show({0, 1})
        assert number - len(shown) < 8
    for each in quarters(0, 400):  # and then it says all of it at once
        together.add(1, each)
        together.show({0, 1})
    together.show(set())
    assert sum(each.statuses.total() for each in shown) == 2 * 100 * RATE
    starts = [each.start_ns for each in shown]
    assert starts == sorted(starts)


def test_what_is_summed_has_the_place_it_is_given() -> None:
    whole = summed([seen(0, SECOND), seen(0, 2 * SECOND)], 5, 7)
    assert (whole.start_ns, whole.length_ns, whole.statuses["OK"], whole.messages_sent) == (5, 7, 300, 300)
