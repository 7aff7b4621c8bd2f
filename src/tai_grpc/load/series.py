"""A run's intervals, kept at a bounded number: a long run has longer ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
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


def joined(intervals: Sequence[Interval]) -> Interval:
    """Return neighbours, in their order, as one."""
    return replace(together(intervals), length_ns=sum(each.length_ns for each in intervals))


def together(intervals: Sequence[Interval]) -> Interval:
    """Return what several saw in the same time as one."""
    return Interval(
        start_ns=min(each.start_ns for each in intervals),
        length_ns=max(each.length_ns for each in intervals),
        latencies=merged(each.latencies for each in intervals),
        statuses=sum((each.statuses for each in intervals), Counter()),
        messages_sent=sum(each.messages_sent for each in intervals),
        messages_received=sum(each.messages_received for each in intervals),
    )


class Series:
    """Intervals of at least `length_ns` each, made of shorter ones in their order."""

    def __init__(self, length_ns: int) -> None:
        self._length_ns = length_ns
        self._done: list[Interval] = []
        self._open: Interval | None = None

    def add(self, interval: Interval) -> None:
        whole = interval if self._open is None else joined((self._open, interval))
        if whole.length_ns < self._length_ns:
            self._open = whole
            return
        self._open = None
        self._done.append(whole)
        if len(self._done) > MAX_INTERVALS:
            pairs = zip(self._done[::2], self._done[1::2], strict=False)
            odd = self._done[-1:] if len(self._done) % 2 else []
            self._done = [joined(pair) for pair in pairs] + odd
            self._length_ns *= 2

    def intervals(self) -> tuple[Interval, ...]:
        """Return what was added, in its order; the last one may be shorter."""
        return tuple(self._done) if self._open is None else (*self._done, self._open)
