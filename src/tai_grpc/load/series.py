"""A run's intervals, kept at a bounded number: a long run has longer ones."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Final

from tai_grpc.load.result import Interval
from tai_grpc.resilience import LatencyHistogram

MAX_INTERVALS: Final = 600
"""More are not kept: then neighbours become one, so that a run of hours has intervals of seconds."""


def empty_like(latencies: LatencyHistogram) -> LatencyHistogram:
    """Return a histogram of the same range and precision, in which nothing was counted."""
    return LatencyHistogram(latencies.lowest, latencies.highest, latencies.significant_digits)


def merged(histograms: Iterable[LatencyHistogram]) -> LatencyHistogram:
    """Return a histogram of what all of them counted; there is at least one, and all are of one range."""
    first, *others = histograms
    result = empty_like(first)
    for each in (first, *others):
        result.merge(each)
    return result


def summed(intervals: Sequence[Interval], start_ns: int, length_ns: int) -> Interval:
    """Return all that is in `intervals` as one of this place."""
    return Interval(
        start_ns=start_ns,
        length_ns=length_ns,
        latencies=merged(each.latencies for each in intervals),
        statuses=sum((each.statuses for each in intervals), Counter()),
        messages_sent=sum(each.messages_sent for each in intervals),
        messages_received=sum(each.messages_received for each in intervals),
    )


def joined(intervals: Sequence[Interval]) -> Interval:
    """Return neighbours, in their order, as one."""
    return summed(intervals, intervals[0].start_ns, sum(each.length_ns for each in intervals))


def aligned(sides: Sequence[Sequence[Interval]], slot_ns: int) -> tuple[Interval, ...]:
    """Return what several saw in the same time as one, from the beginning to the last one's end.

    Each side's intervals are neighbours in their order, and begin at multiples of `slot_ns` or, as far as the
    side was late, after them. Where a side that goes on has not begun an interval the others' are joined.
    """
    starts = [{each.start_ns // slot_ns for each in side} for side in sides]
    ends_ns = [max((each.start_ns + each.length_ns for each in side), default=0) for side in sides]
    cuts = sorted(
        slot
        for slot in set().union(*starts)
        if all(slot in own or slot * slot_ns >= end_ns for own, end_ns in zip(starts, ends_ns, strict=True))
    )
    groups: list[list[Interval]] = [[] for _ in cuts]
    for side in sides:
        for each in side:
            groups[bisect_right(cuts, each.start_ns // slot_ns) - 1].append(each)
    # Sides are late by more or less: the middle is where the sum's intervals meet.
    begins = [
        round(fmean(each.start_ns for each in group if each.start_ns // slot_ns == cut))
        for cut, group in zip(cuts, groups, strict=True)
    ]
    ends = [*begins[1:], *(max(each.start_ns + each.length_ns for each in group) for group in groups[-1:])]
    return tuple(
        summed(group, begin, end - begin) for group, begin, end in zip(groups, begins, ends, strict=True)
    )


class Series:
    """Intervals of `length_ns` each, from multiples of that on, made of shorter ones in their order."""

    def __init__(self, length_ns: int) -> None:
        self._length_ns = length_ns
        self._intervals: list[Interval] = []

    def add(self, interval: Interval) -> None:
        self._append(interval)
        if len(self._intervals) > MAX_INTERVALS:
            self._length_ns *= 2
            halves, self._intervals = self._intervals, []
            for each in halves:
                self._append(each)

    def _append(self, interval: Interval) -> None:
        slot = interval.start_ns // self._length_ns
        if self._intervals and self._intervals[-1].start_ns // self._length_ns == slot:
            interval = joined((self._intervals.pop(), interval))
        self._intervals.append(interval)

    def intervals(self) -> tuple[Interval, ...]:
        """Return what was added, in its order; the last one may be shorter."""
        return tuple(self._intervals)
