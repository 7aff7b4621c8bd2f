"""The report for programs: ghz's keys and, beside them, all that a later comparison or merge needs."""

from __future__ import annotations

import json
from typing import Any

from tai_grpc._version import __version__
from tai_grpc.load.report.figures import Figures, late
from tai_grpc.load.report.notes import notes
from tai_grpc.load.report.options import options
from tai_grpc.load.report.text import encodable
from tai_grpc.load.result import LoadResult, rate
from tai_grpc.resilience import LatencyHistogram


def to_json(result: LoadResult) -> str:
    """Return the report on one line. Durations are nanoseconds, histogram marks seconds, as ghz has them.

    An `hdr` is a whole histogram of nanoseconds as an HdrHistogram V2 blob. What calls
    sent, their metadata and keys are not told.
    """
    return encodable(json.dumps(document(result), ensure_ascii=False, allow_nan=False)) + "\n"


def to_pretty_json(result: LoadResult) -> str:
    """Return `to_json`'s report indented."""
    return encodable(json.dumps(document(result), ensure_ascii=False, allow_nan=False, indent=2)) + "\n"


def document(result: LoadResult) -> dict[str, Any]:
    """Return what the report in JSON says."""
    plan = result.plan
    figures = Figures.of(result.latencies)
    return {
        "name": plan.name,
        "endReason": result.end_reason.value,
        "date": result.started.isoformat(),
        "options": options(plan),
        "count": result.count,
        "total": result.elapsed_ns,
        **_latencies(figures),
        "rps": result.rps,
        "errorDistribution": dict(result.errors.most_common()),
        "statusCodeDistribution": dict(result.statuses.most_common()),
        "latencyDistribution": [{"percentage": p, "latency": ns} for p, ns in figures.percentiles],
        "histogram": [
            {"mark": row.mark_ns / 1e9, "count": row.count, "frequency": row.frequency}
            for row in figures.rows
        ],
        "tags": dict(plan.tags),
        "tool": {"name": "tai-grpc", "version": __version__},
        "notes": list(notes(result)),
        "missed": result.missed,
        "abandoned": result.abandoned,
        "starved": result.starved,
        "reconnects": result.reconnects,
        "sentAgain": result.sent_again,
        "streamLimit": result.stream_limit,
        "engineCpu": result.engine_cpu,
        "messages": _traffic(result.messages_sent, result.messages_received, result.elapsed_ns),
        "bytes": _traffic(result.bytes_sent, result.bytes_received, result.elapsed_ns),
        "sendLag": None if plan.schedule is None else _send_lag(result.send_lag),
        "hosts": [
            {
                "host": host.host,
                "count": host.statuses.total(),
                **_latencies(Figures.of(host.latencies)),
                "statusCodeDistribution": dict(host.statuses.most_common()),
                "hdr": _blob(host.latencies),
            }
            for host in result.hosts
        ],
        "intervals": [
            {
                "start": interval.start_ns,
                "length": interval.length_ns,
                "statusCodeDistribution": dict(interval.statuses.most_common()),
                "messagesSent": interval.messages_sent,
                "messagesReceived": interval.messages_received,
                "hdr": _blob(interval.latencies),
            }
            for interval in result.intervals
        ],
        "hdr": _blob(result.latencies),
    }


def _latencies(figures: Figures) -> dict[str, int]:
    return {"average": figures.average_ns, "fastest": figures.fastest_ns, "slowest": figures.slowest_ns}


def _traffic(sent: int, received: int, elapsed_ns: int) -> dict[str, float]:
    return {
        "sent": sent,
        "received": received,
        "sentPerSecond": rate(sent, elapsed_ns),
        "receivedPerSecond": rate(received, elapsed_ns),
    }


def _send_lag(lag: LatencyHistogram) -> dict[str, Any]:
    figures = Figures.of(lag)
    return {
        **_latencies(figures),
        "late": late(lag),
        "distribution": [{"percentage": p, "lag": ns} for p, ns in figures.percentiles],
        "hdr": _blob(lag),
    }


def _blob(histogram: LatencyHistogram) -> str:
    return histogram.encode().decode("ascii")
