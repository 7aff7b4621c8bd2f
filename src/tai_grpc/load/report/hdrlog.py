"""HdrHistogram's own formats: the interval log (.hlog) and the percentile table (.hgrm)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tai_grpc.load.report.distribution import Distribution
from tai_grpc.load.report.text import printable
from tai_grpc.load.result import Interval, LoadResult

_MS: Final = 1e6
"""Nanoseconds in what the maxima and the table are in: HdrHistogram's default ratio."""
_TICKS: Final = 5
"""Rows in each half of the distance to 100 %: HdrHistogram's default."""


def to_hlog(result: LoadResult) -> str:
    """Return a histogram log 1.3: an interval a line, values in nanoseconds, maxima in milliseconds.

    A run without intervals is one line.
    """
    return "\n".join([*_hlog(result), ""])


def _hlog(result: LoadResult) -> Iterator[str]:
    plan, started = result.plan, result.started
    seconds = f"{started.timestamp():.3f} (seconds since epoch)"
    called = f"{printable(plan.name)}: " if plan.name else ""
    yield f"#[{called}{plan.method.full_name} at {printable(', '.join(plan.hosts))}, in nanoseconds]"
    yield "#[Histogram log format version 1.3]"
    yield f"#[StartTime: {seconds}, {started.strftime('%a %b %d %H:%M:%S %Z %Y')}]"
    yield f"#[BaseTime: {seconds}]"
    yield '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"'
    whole = Interval(0, result.elapsed_ns, result.latencies, result.statuses, 0, 0)
    for interval in result.intervals or (whole,):
        latencies = interval.latencies
        yield (
            f"{interval.start_ns / 1e9:.3f},{interval.length_ns / 1e9:.3f},{latencies.max / _MS:.3f},"
            f"{latencies.encode().decode('ascii')}"
        )


def to_hgrm(result: LoadResult) -> str:
    """Return the percentile table that HdrHistogram's plotters read. Values are milliseconds."""
    return "\n".join([*_hgrm(result), ""])


def _hgrm(result: LoadResult) -> Iterator[str]:
    latencies = result.latencies
    distribution = Distribution.of(latencies)
    digits = latencies.significant_digits
    yield f"{'Value':>12} {'Percentile':>14} {'TotalCount':>10} {'1/(1-Percentile)':>14}"
    yield ""
    for percentage, value, count in distribution.levels(_TICKS):
        row = f"{value / _MS:12.{digits}f} {percentage / 100:2.12f} {count:10d}"
        yield row if percentage == 100 else f"{row} {1 / (1 - percentage / 100):14.2f}"
    # The table's form: as many units, each of half the sub-buckets but for the first.
    sub_buckets = 1 << (2 * 10**digits - 1).bit_length()
    buckets = len(latencies.counts) * 2 // sub_buckets - 1
    yield (
        f"#[Mean    = {latencies.mean / _MS:12.{digits}f}, "
        f"StdDeviation   = {distribution.deviation / _MS:12.{digits}f}]"
    )
    yield f"#[Max     = {latencies.max / _MS:12.{digits}f}, Total count    = {distribution.total:12d}]"
    yield f"#[Buckets = {buckets:12d}, SubBuckets     = {sub_buckets:12d}]"
