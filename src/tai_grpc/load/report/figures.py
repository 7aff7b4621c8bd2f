"""The figures of a run that its reports share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from tai_grpc.load.durations import format_duration
from tai_grpc.load.report.distribution import Distribution, tops
from tai_grpc.load.result import HostResult, Interval, LoadResult
from tai_grpc.load.series import joined
from tai_grpc.resilience import LatencyHistogram

PERCENTAGES: Final = (10, 25, 50, 75, 90, 95, 99, 99.9, 99.99)
ROWS: Final = 11
"""Of the response time histogram."""
LATE_NS: Final = 1_000_000
"""A call that was sent this much after it was due was late."""
_SHORT: Final = 0.25
_HOST_PERCENTAGES: Final = (50, 99, 99.9)
HOST_HEADS: Final = (
    "host",
    "count",
    "failed",
    "average",
    *(f"{p:g} %" for p in _HOST_PERCENTAGES),
    "slowest",
)
"""What the columns of `host_rows` are called."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the response time histogram: `count` calls took up to `mark_ns`, and more than that before."""

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


def late(send_lag: LatencyHistogram) -> int:
    """How many calls were sent more than `LATE_NS` after they were due."""
    distribution = Distribution.of(send_lag)
    return distribution.total - int(distribution.at_most(np.array([LATE_NS]))[0])


def host_rows(hosts: Iterable[HostResult]) -> Iterator[tuple[str, ...]]:
    """What each host did, as text; "-" for the latencies of one whose calls all failed."""
    for host in hosts:
        count = host.statuses.total()
        figures = Figures.of(host.latencies)
        values = host.latencies.percentiles(_HOST_PERCENTAGES)
        latencies = (figures.average_ns, *values, figures.slowest_ns)
        yield (
            host.host,
            f"{count:,}",
            f"{count - host.statuses['OK']:,}",
            *(format_duration(ns) if figures.count else "-" for ns in latencies),
        )


def even(result: LoadResult) -> tuple[Interval, ...]:
    """A run's intervals, but a last one so short that its rate says little joins the one before it."""
    intervals = result.intervals
    if len(intervals) > 1 and intervals[-1].length_ns < _SHORT * intervals[0].length_ns:
        return (*intervals[:-2], joined(intervals[-2:]))
    return intervals


def _rows(latencies: LatencyHistogram) -> tuple[Row, ...]:
    """Rows at equal distances from fastest to slowest, but none finer than the histogram's own buckets."""
    seen = Distribution.of(latencies)
    places = np.linspace(latencies.min, latencies.max, ROWS).round().astype(np.int64)
    marks = np.unique(tops(latencies, places))
    counts = np.zeros(len(marks), dtype=np.int64)
    np.add.at(counts, np.searchsorted(marks, seen.low), seen.counts)
    total = seen.total
    return tuple(Row(int(mark), int(n), int(n) / total) for mark, n in zip(marks, counts, strict=True))
