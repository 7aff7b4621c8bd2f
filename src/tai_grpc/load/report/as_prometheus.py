"""The report in Prometheus' text format, by the names that gRPC's dashboards read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import numpy as np

from tai_grpc.load.methods import Method
from tai_grpc.load.report.distribution import Distribution
from tai_grpc.load.report.figures import PERCENTAGES
from tai_grpc.load.report.text import encodable
from tai_grpc.load.result import LoadResult
from tai_grpc.resilience import LatencyHistogram

# From 50 us to 10 s; those from 5 ms on are the usual ones.
_BOUNDS_S: Final = (
    *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025),
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
_NO_LABEL: Final = re.compile(r"[^a-zA-Z0-9_]")
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_CODES: Final = {"OK": "OK", "CANCELLED": "Canceled"}
"""Those that Go does not write as the words of their names."""
_TYPES: Final = {
    "unary": "unary",
    "client streaming": "client_stream",
    "server streaming": "server_stream",
    "bidirectional streaming": "bidi_stream",
}

Sample = tuple[str, Mapping[str, str], float]
"""A suffix of the metric's name, labels, and the value."""


def to_prometheus(result: LoadResult) -> str:
    """Return the run as metrics, for a textfile collector or a push gateway.

    `grpc_client_*` are as go-grpc-middleware has them, `tai_load_*` ours. A tag NAME is the label `tag_NAME`
    of `tai_load_run_info`, with `_` for what a label's name cannot have.
    """
    return encodable("\n".join([*_lines(result), ""]))


def _lines(result: LoadResult) -> Iterator[str]:
    plan = result.plan
    call = _call(plan.method)
    yield from _metric(
        "grpc_client_started_total",
        "counter",
        "Calls that were sent, those that had not ended included.",
        [("", call, result.count + result.abandoned)],
    )
    yield from _metric(
        "grpc_client_handled_total",
        "counter",
        "Calls that ended, by status.",
        [("", {**call, "grpc_code": _code(name)}, n) for name, n in sorted(result.statuses.items())],
    )
    yield from _metric(
        "grpc_client_msg_sent_total", "counter", "Messages sent.", [("", call, result.messages_sent)]
    )
    yield from _metric(
        "grpc_client_msg_received_total",
        "counter",
        "Messages received.",
        [("", call, result.messages_received)],
    )
    yield from _metric(
        "grpc_client_handling_seconds",
        "histogram",
        "Latencies of the calls that ended with OK.",
        _buckets(result.latencies, call),
    )
    yield from _metric(
        "tai_load_latency_seconds",
        "summary",
        "Latencies of the calls that ended with OK.",
        _quantiles(result.latencies, call),
    )
    yield from _metric(
        "tai_load_requests_per_second", "gauge", "Calls that ended, a second.", [("", call, result.rps)]
    )
    yield from _metric(
        "tai_load_elapsed_seconds", "gauge", "How long was measured.", [("", call, result.elapsed_ns / 1e9)]
    )
    yield from _metric(
        "tai_load_missed_total", "counter", "Calls that were due and not sent.", [("", call, result.missed)]
    )
    yield from _metric(
        "tai_load_abandoned_total",
        "counter",
        "Calls in flight when the run ended.",
        [("", call, result.abandoned)],
    )
    yield from _metric(
        "tai_load_reconnects_total", "counter", "Connections made again.", [("", call, result.reconnects)]
    )
    yield from _metric(
        "tai_load_engine_cpu_ratio",
        "gauge",
        "The part of a core that the busiest engine thread took.",
        [("", call, result.engine_cpu)],
    )
    yield from _metric(
        "tai_load_host_handled_total",
        "counter",
        "Calls that ended, by host and status.",
        [
            ("", {**call, "host": host.host, "grpc_code": _code(name)}, n)
            for host in result.hosts
            for name, n in sorted(host.statuses.items())
        ],
    )
    about = {"name": plan.name, "end_reason": result.end_reason.value, "host": ",".join(plan.hosts)}
    yield from _metric(
        "tai_load_run_info", "gauge", "The run's name and tags.", [("", about | _tags(plan.tags), 1)]
    )
    yield from _metric(
        "tai_load_run_start_time_seconds",
        "gauge",
        "When the run began, since the epoch.",
        [("", {}, result.started.timestamp())],
    )


def _metric(name: str, kind: str, about: str, samples: Iterable[Sample]) -> Iterator[str]:
    yield f"# HELP {name} {about}"
    yield f"# TYPE {name} {kind}"
    for suffix, labels, value in samples:
        pairs = ",".join(f'{label}="{text.translate(_ESCAPES)}"' for label, text in labels.items())
        yield f"{name}{suffix}{f'{{{pairs}}}' if pairs else ''} {value!r}"


def _call(method: Method) -> dict[str, str]:
    return {
        "grpc_type": _TYPES[method.kind],
        "grpc_service": method.service,
        "grpc_method": method.name,
    }


def _code(name: str) -> str:
    """The status as Go's gRPC writes it, which the dashboards look for: "DeadlineExceeded"."""
    return _CODES.get(name) or "".join(word.capitalize() for word in name.split("_"))


def _buckets(latencies: LatencyHistogram, call: Mapping[str, str]) -> Iterator[Sample]:
    bounds = np.array([round(bound * 1e9) for bound in _BOUNDS_S], dtype=np.int64)
    counts = Distribution.of(latencies).at_most(bounds)
    for bound, count in zip(_BOUNDS_S, counts, strict=True):
        yield "_bucket", {**call, "le": f"{bound:g}"}, int(count)
    yield "_bucket", {**call, "le": "+Inf"}, latencies.count
    yield from _sum_and_count(latencies, call)


def _quantiles(latencies: LatencyHistogram, call: Mapping[str, str]) -> Iterator[Sample]:
    if latencies.count:
        for percentage, ns in zip(PERCENTAGES, latencies.percentiles(PERCENTAGES), strict=True):
            yield "", {**call, "quantile": f"{percentage / 100:g}"}, ns / 1e9
    yield from _sum_and_count(latencies, call)


def _sum_and_count(latencies: LatencyHistogram, call: Mapping[str, str]) -> Iterator[Sample]:
    yield "_sum", call, latencies.mean * latencies.count / 1e9
    yield "_count", call, latencies.count


def _tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags as labels; of two whose names become the same, the later counts."""
    return {f"tag_{_NO_LABEL.sub('_', name)}": text for name, text in tags.items()}
