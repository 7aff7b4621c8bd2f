"""The figures of a run that its reports share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from tai_grpc.load.report.distribution import Distribution
from tai_grpc.load.result import Interval, LoadResult
from tai_grpc.resilience import LatencyHistogram

PERCENTAGES: Final = (10, 25, 50, 75, 90, 95, 99, 99.9, 99.99)
ROWS: Final = 11
"""Of the response time histogram."""
MOST_INTERVALS: Final = 600
"""In a report that is read whole; more are merged, neighbour with neighbour."""
LATE_NS: Final = 1_000_000
"""A call that was sent this much after it was due was late."""
_SHORT: Final = 0.25


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the response time histogram: `count` calls took at most `mark_ns`, and more than the one before."""

    mark_ns: int
    count: int
    frequency: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What latencies amount to, in nanoseconds: as exact as their histogram, 0.1 % with three digits.

    All are 0, and `percentiles` and `rows` empty, when there are none.
    """

    count: int
    average_ns: int
    fastest_ns: int
    slowest_ns: int
    percentiles: tuple[tuple[float, int], ...]
    rows: tuple[Row, ...]

    @classmethod
    def of(cls, latencies: LatencyHistogram) -> Figures:
        """Work the figures out."""
        if not (count := latencies.count):
            return cls(0, 0, 0, 0, (), ())
        values = latencies.percentiles(PERCENTAGES)
        return cls(
            count=count,
            average_ns=round(latencies.mean),
            fastest_ns=latencies.min,
            slowest_ns=latencies.max,
            percentiles=tuple(zip(PERCENTAGES, values, strict=True)),
            rows=_rows(latencies),
        )


def rate(count: float, elapsed_ns: int) -> float:
    """`count` a second; 0 when no time has passed."""
    return count / (elapsed_ns / 1e9) if elapsed_ns else 0.0


def late(send_lag: LatencyHistogram) -> int:
    """How many calls were sent more than `LATE_NS` after they were due."""
    distribution = Distribution.of(send_lag)
    return distribution.total - int(distribution.at_most(np.array([LATE_NS]))[0])


def measured(result: LoadResult, most: int | None = None) -> tuple[Interval, ...]:
    """The intervals of a run after its warm-up, merged to at most `most` when given.

    Then a last one that is much shorter than the others, whose rate would say little, is merged too.
    """
    intervals = [interval for interval in result.intervals if interval.start_ns >= 0]
    if most is None or len(intervals) < 2:
        return tuple(intervals)
    size = -(-len(intervals) // most)
    groups = [intervals[i : i + size] for i in range(0, len(intervals), size)]
    if len(groups) > 1 and _length(groups[-1]) < _SHORT * _length(groups[0]):
        groups[-2:] = [groups[-2] + groups[-1]]
    return tuple(group[0] if len(group) == 1 else _merged(group) for group in groups)


def _length(group: Sequence[Interval]) -> int:
    return sum(interval.length_ns for interval in group)


def _merged(group: Sequence[Interval]) -> Interval:
    first = group[0].latencies
    latencies = LatencyHistogram(first.lowest, first.highest, first.significant_digits)
    statuses: Counter[str] = Counter()
    for interval in group:
        latencies.merge(interval.latencies)
        statuses.update(interval.statuses)
    return Interval(
        start_ns=group[0].start_ns,
        length_ns=_length(group),
        latencies=latencies,
        statuses=statuses,
        messages_sent=sum(interval.messages_sent for interval in group),
        messages_received=sum(interval.messages_received for interval in group),
    )


def _rows(latencies: LatencyHistogram) -> tuple[Row, ...]:
    """Rows at equal distances from the fastest call to the slowest; fewer than `ROWS` when these are close."""
    seen = Distribution.of(latencies)
    marks = np.unique(np.linspace(latencies.min, latencies.max, ROWS).round().astype(np.int64))
    counts = np.zeros(len(marks), dtype=np.int64)
    np.add.at(counts, np.searchsorted(marks, seen.low), seen.counts)
    total = seen.total
    return tuple(Row(int(mark), int(n), int(n) / total) for mark, n in zip(marks, counts, strict=True))
