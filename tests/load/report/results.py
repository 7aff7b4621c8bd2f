"""Results of runs that never were."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from tai_grpc import LatencyHistogram
from tai_grpc.load.methods import built_in_method
from tai_grpc.load.plan import LoadPlan, Schedule, Segment
from tai_grpc.load.requests import Request
from tai_grpc.load.result import EndReason, HostResult, Interval, LoadResult

UNARY = built_in_method("tai.v1.Governor", "HealthCheck")
STREAM = built_in_method("tai.v1.Governor", "StreamPolicies")
CONSTANT_RATE = Schedule(segments=(Segment(None, 1000.0, 1000.0),))
STARTED = datetime(2024, 1, 2, 3, 4, 5, 250_000, tzinfo=UTC)


@dataclass(frozen=True)
class Empty:
    """Requests without a byte in them."""

    fixed: Sequence[Request] | None = (Request((b"",)),)

    def render(self, number: int) -> Request:
        raise AssertionError("these are not rendered")


def plan(**changes: Any) -> LoadPlan:
    return LoadPlan(**{"hosts": ("127.0.0.1:50051",), "method": UNARY, "requests": Empty(), **changes})


def histogram(latencies_ns: Iterable[int] = ()) -> LatencyHistogram:
    """A histogram as the engine has it."""
    made = LatencyHistogram(1, 3_600_000_000_000, 3)
    made.record_many(np.array(list(latencies_ns), dtype=np.int64))
    return made


def interval(
    start: float, latencies_ns: Sequence[int], *, length: float = 1.0, failed: int = 0, messages: int = 0
) -> Interval:
    statuses = Counter({"OK": len(latencies_ns), "UNAVAILABLE": failed})
    return Interval(
        start_ns=round(start * 1e9),
        length_ns=round(length * 1e9),
        latencies=histogram(latencies_ns),
        statuses=+statuses,
        messages_sent=messages,
        messages_received=messages * 2,
    )


def result(
    intervals: Sequence[Interval] = (),
    *,
    errors: Mapping[str, int] | None = None,
    hosts: Sequence[HostResult] = (),
    of: LoadPlan | None = None,
    **changes: Any,
) -> LoadResult:
    """What `intervals` add up to, and `changes` of it."""
    whole = histogram()
    for each in intervals:
        whole.merge(each.latencies)
    fields: dict[str, Any] = {
        "plan": of or plan(),
        "started": STARTED,
        "elapsed_ns": sum(each.length_ns for each in intervals),
        "end_reason": EndReason.NORMAL,
        "latencies": whole,
        "statuses": sum((each.statuses for each in intervals), Counter()),
        "errors": Counter(errors or {}),
        "abandoned": 0,
        "missed": 0,
        "send_lag": histogram(),
        "starved": 0,
        "reconnects": 0,
        "sent_again": 0,
        "stream_limit": None,
        "messages_sent": sum(each.messages_sent for each in intervals),
        "messages_received": sum(each.messages_received for each in intervals),
        "bytes_sent": 0,
        "bytes_received": 0,
        "engine_cpu": 0.25,
        "intervals": tuple(intervals),
        "hosts": tuple(hosts),
    }
    return LoadResult(**fields | changes)


def latencies(seed: int, count: int, *, around_ms: float = 2.0) -> list[int]:
    """Nanoseconds with a long tail, as latencies have it."""
    chance = random.Random(seed)
    return [round(chance.lognormvariate(0.0, 0.5) * around_ms * 1e6) for _ in range(count)]


def ordinary(seconds: int = 10, calls: int = 500, **changes: Any) -> LoadResult:
    """A run with some failed calls, one of them in every other second."""
    intervals = [
        interval(float(i), latencies(i, calls), failed=i % 2, messages=calls) for i in range(seconds)
    ]
    failed = sum(each.statuses["UNAVAILABLE"] for each in intervals)
    return result(
        intervals, **{"errors": {"UNAVAILABLE: the server is gone": failed} if failed else {}, **changes}
    )
