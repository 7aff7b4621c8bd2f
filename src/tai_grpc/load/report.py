"""A run's report, in ghz's layouts. Latencies are those of the calls that ended with OK."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tai_grpc.load.durations import format_duration
from tai_grpc.load.engine import LoadResult
from tai_grpc.resilience import LatencyHistogram

PERCENTAGES: Final = (10, 25, 50, 75, 90, 95, 99, 99.9, 99.99)
CLOSED_LOOP_NOTE: Final = (
    "Closed loop: a worker sends its next request only after the last response, so the time that requests "
    "would have queued while the server was slow is left out of these latencies."
)
_ROWS: Final = 11
_BAR_WIDTH: Final = 40


@dataclass(frozen=True, slots=True)
class Bucket:
    """A row of the histogram: `count` calls took at most `mark_ns`, and more than the row before."""

    mark_ns: int
    count: int
    frequency: float


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of a run. All but the rate are nanoseconds, multiples of a thousand, within 0.1 %."""

    result: LoadResult
    average_ns: int
    fastest_ns: int
    slowest_ns: int
    rps: float
    percentiles: tuple[tuple[float, int], ...]
    buckets: tuple[Bucket, ...]

    @classmethod
    def of(cls, result: LoadResult) -> Report:
        """Work the figures out."""
        latencies = result.latencies
        some = latencies.count > 0
        return cls(
            result=result,
            average_ns=round(latencies.mean * 1000) if some else 0,
            fastest_ns=latencies.min * 1000 if some else 0,
            slowest_ns=latencies.max * 1000 if some else 0,
            rps=result.count / (result.elapsed_ns / 1e9),
            percentiles=tuple((p, latencies.percentile(p) * 1000) for p in PERCENTAGES) if some else (),
            buckets=_buckets(latencies) if some else (),
        )


def to_summary(report: Report) -> str:
    """Return the report for people."""
    result = report.result
    lines = ["", "Summary:"]
    if result.plan.name:
        lines.append(f"  Name:\t\t{result.plan.name}")
    lines += [
        f"  Count:\t{result.count}",
        f"  Total:\t{format_duration(result.elapsed_ns)}",
        f"  Slowest:\t{format_duration(report.slowest_ns)}",
        f"  Fastest:\t{format_duration(report.fastest_ns)}",
        f"  Average:\t{format_duration(report.average_ns)}",
        f"  Requests/sec:\t{report.rps:.2f}",
        "",
        "Response time histogram:",
        *_bars(report.buckets),
        "",
        "Latency distribution:",
        *(f"  {percentage:g} % in {format_duration(ns)}" for percentage, ns in report.percentiles),
        "",
        "Status code distribution:",
        *(f"  [{name}]\t{count} responses" for name, count in result.statuses.most_common()),
        "",
    ]
    if result.errors:
        lines += ["Error distribution:"]
        lines += [f"  [{count}]\t{message}" for message, count in result.errors.most_common()]
        lines += ["", "Failed calls are counted above and left out of the latencies."]
    if result.abandoned:
        lines += [f"Stopped with {result.abandoned} calls in flight, which are not counted."]
    return "\n".join([*lines, CLOSED_LOOP_NOTE, ""])


def to_json(report: Report) -> str:
    """Return the report for programs: ghz's keys, durations in nanoseconds, histogram marks in seconds."""
    result, plan = report.result, report.result.plan
    options: dict[str, Any] = {
        "host": plan.host,
        "call": plan.method.full_name,
        "total": plan.total,
        "concurrency": plan.concurrency,
        "connections": plan.connections,
        "timeout": round(plan.timeout * 1e9),
        "loop": "closed",
    }
    if plan.duration is not None:
        del options["total"]
        options["duration"] = round(plan.duration * 1e9)
    document = {
        "name": plan.name,
        "endReason": result.end_reason.value,
        "date": result.started.isoformat(),
        "options": options,
        "count": result.count,
        "total": result.elapsed_ns,
        "average": report.average_ns,
        "fastest": report.fastest_ns,
        "slowest": report.slowest_ns,
        "rps": report.rps,
        "abandoned": result.abandoned,
        "note": CLOSED_LOOP_NOTE,
        "errorDistribution": dict(result.errors.most_common()),
        "statusCodeDistribution": dict(result.statuses.most_common()),
        "latencyDistribution": [{"percentage": p, "latency": ns} for p, ns in report.percentiles],
        "histogram": [
            {"mark": bucket.mark_ns / 1e9, "count": bucket.count, "frequency": bucket.frequency}
            for bucket in report.buckets
        ],
        "tags": dict(plan.tags),
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _bars(buckets: tuple[Bucket, ...]) -> list[str]:
    most = max((bucket.count for bucket in buckets), default=0)
    return [
        f"  {bucket.mark_ns / 1e6:.3f} [{bucket.count}]\t|{'∎' * round(_BAR_WIDTH * bucket.count / most)}"
        for bucket in buckets
    ]


def _buckets(latencies: LatencyHistogram) -> tuple[Bucket, ...]:
    """Rows at equal distances from the fastest call to the slowest."""
    marks = np.unique(np.linspace(latencies.min, latencies.max, _ROWS))
    seen = np.flatnonzero(latencies.counts)
    rows = np.searchsorted(marks, _lowest_values(seen, latencies.significant_digits))
    counts = np.zeros(len(marks), dtype=np.int64)
    np.add.at(counts, rows, latencies.counts[seen])
    return tuple(
        Bucket(round(mark * 1000), int(count), float(count / latencies.count))
        for mark, count in zip(marks, counts, strict=True)
    )


def _lowest_values(indices: NDArray[np.intp], digits: int) -> NDArray[np.int64]:
    """The lowest value that each of these counts of a histogram from 1 up stands for.

    HdrHistogram's layout: the first 2^(h+1) counts are of one value each, then every 2^h counts are of twice
    as many values as the 2^h before; 2^(h+1) is the power of two that is at least 2 * 10^digits.
    """
    half = (2 * 10**digits - 1).bit_length() - 1
    shift = np.maximum(0, (indices >> half) - 1)
    lowest: NDArray[np.int64] = (indices - (shift << half)) << shift
    return lowest
