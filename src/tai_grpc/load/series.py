"""A run's intervals, kept at a bounded number: a long run has longer ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from tai_grpc.load.result import Interval
from tai_grpc.resilience import LatencyHistogram

MAX_INTERVALS: Final = 600
"""More are not kept: then neighbours become one, so that a run of hours has intervals of seconds."""


def empty_like(latencies: LatencyHistogram) -> LatencyHistogram:
    """Return a histogram of the same range and precision, in which nothing was counted."""
    return LatencyHistogram(latencies.lowest, latencies.highest, latencies.significant_digits)


def joined(intervals: Iterable[Interval]) -> Interval:
    """Return neighbours, the first one first, as one."""
    first, *others = intervals
    latencies = empty_like(first.latencies)
    latencies.merge(first.latencies)
    statuses: Counter[str] = Counter(first.statuses)
    sent, received, length = first.messages_sent, first.messages_received, first.length_ns
    for other in others:
        latencies.merge(other.latencies)
        statuses += other.statuses
        sent += other.messages_sent
        received += other.messages_received
        length += other.length_ns
    return Interval(first.start_ns, length, latencies, statuses, sent, received)


class Series:
    """Intervals of at least `length_ns` each, made of shorter ones in their order."""

    def __init__(self, length_ns: int) -> None:
        self._length_ns = length_ns
        self._done: list[Interval] = []
        self._open: list[Interval] = []

    def add(self, interval: Interval) -> None:
        self._open.append(interval)
        if sum(each.length_ns for each in self._open) >= self._length_ns:
            self._close()

    def _close(self) -> None:
        self._done.append(joined(self._open))
        self._open.clear()
        if len(self._done) > MAX_INTERVALS:
            pairs = zip(self._done[::2], self._done[1::2], strict=False)
            odd = self._done[-1:] if len(self._done) % 2 else []
            self._done = [joined(pair) for pair in pairs] + odd
            self._length_ns *= 2

    def intervals(self) -> tuple[Interval, ...]:
        """Return what was added, in its order; the last one may be shorter."""
        return (*self._done, joined(self._open)) if self._open else tuple(self._done)
