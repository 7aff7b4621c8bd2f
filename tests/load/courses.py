"""Runs whose rate and latency wander as a real machine's do, and the reports that they leave."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import numpy as np

from load.report.results import STARTED, interval, result
from tai_grpc.load.report.as_json import to_json
from tai_grpc.load.report.saved import SavedRun, parse_report
from tai_grpc.load.result import LoadResult

CALL = "tai.v1.Governor/HealthCheck"


def course(
    seed: int,
    *,
    seconds: int = 20,
    calls: int = 200,
    slowness: float = 1.0,
    failing: float = 0.0,
    **changes: Any,
) -> LoadResult:
    """A closed loop: in each second, which is like the one before, fewer calls the slower they are."""
    chance = np.random.default_rng(seed)
    drift, intervals = 0.0, []
    for i in range(seconds):
        drift = 0.5 * drift + chance.normal(0, 0.04)
        count = round(calls * np.exp(-drift) / slowness)
        failed = int(chance.binomial(count, failing))
        latencies = chance.lognormal(0, 0.5, count - failed) * 2e6 * slowness * np.exp(drift)
        intervals.append(interval(float(i), latencies.astype(np.int64).tolist(), failed=failed))
    return result(intervals, **changes)


def saved(made: LoadResult, where: str = "run.json") -> SavedRun:
    return parse_report(to_json(made).encode(), where)


def of_ghz(made: LoadResult, *, details: bool = True) -> dict[str, Any]:
    """The same run as ghz would have reported it, with the calls of a second spread over it."""
    document = json.loads(to_json(made))
    keys = (
        *("name", "endReason", "date", "count", "total", "average", "fastest", "slowest", "rps"),
        *("errorDistribution", "histogram", "tags"),
    )
    found = {key: document[key] for key in keys}
    names = {"OK": "OK", "UNAVAILABLE": "Unavailable"}
    found["statusCodeDistribution"] = {
        names[name]: count for name, count in document["statusCodeDistribution"].items()
    }
    found["latencyDistribution"] = [
        entry for entry in document["latencyDistribution"] if entry["percentage"] <= 99
    ]
    found["options"] = {"call": CALL, "host": "0.0.0.0:50051", "insecure": True, "concurrency": 50, "CPUs": 6}
    found["details"] = _details(made) if details else None
    return found


def _details(made: LoadResult) -> list[dict[str, Any]]:
    found = []
    for each in made.intervals:
        counts = each.latencies.counts
        values = [each.latencies.percentile(100 * (i + 0.5) / counts.sum()) for i in range(int(counts.sum()))]
        calls = [(ns, "OK") for ns in values] + [(5_000, "Unavailable")] * each.statuses["UNAVAILABLE"]
        for i, (latency, status) in enumerate(calls):
            at = STARTED + timedelta(microseconds=(each.start_ns + each.length_ns * i // len(calls)) // 1000)
            found.append(
                {
                    # With nanoseconds, as Go writes them.
                    "timestamp": at.strftime("%Y-%m-%dT%H:%M:%S.%f") + "123Z",
                    "latency": latency,
                    "error": "" if status == "OK" else "rpc error: code = Unavailable desc = gone",
                    "status": status,
                }
            )
    return found
