"""Reads reports in JSON back: our own whole, ghz's as far as it tells."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from tai_grpc.load.errors import RequestError
from tai_grpc.load.report.distribution import Distribution, Int64s
from tai_grpc.load.report.figures import PERCENTAGES
from tai_grpc.resilience import LatencyHistogram

MAX_BYTES: Final = 256 << 20
"""A larger file is not read: ghz's with its million calls are half of it."""
MAX_INTERVALS: Final = 1_000
"""Of our reports; ghz's are cut into no more parts."""

_MOST: Final = 1 << 62
# ghz tells when each call ended: its run is cut into seconds, or a short one into twentieths.
_SLICE_NS: Final = 1_000_000_000
_SLICES: Final = 20
_LEAST_SLICE_NS: Final = 100_000_000
# Of the histograms that runs are compared in: nanoseconds up to an hour, to three digits.
_LAYOUT: Final = (1, 3_600_000_000_000, 3)


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """A part of a run: its length, the latencies of the calls that ended with OK, and how many failed."""

    length_ns: int
    latencies: Distribution
    failed: int

    @property
    def count(self) -> int:
        """Calls that ended."""
        return self.latencies.total + self.failed


@dataclass(frozen=True, slots=True, eq=False)
class SavedRun:
    """What a report tells of a run. Latencies are nanoseconds."""

    where: str
    """The file it was read from."""
    name: str
    options: Mapping[str, Any]
    count: int
    failed: int
    elapsed_ns: int
    rps: float
    average_ns: float
    percentiles: Mapping[float, int]
    slices: tuple[Slice, ...]
    """The run in its order; empty when the report does not tell it."""


def read_report(path: Path) -> SavedRun:
    """Return the report in a file.

    Raises:
        RequestError: it cannot be read, or is no report in JSON.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise RequestError(f"{path}: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise RequestError(f"{path}: not read, as it is larger than {MAX_BYTES >> 20} MiB")
    return parse_report(data, str(path))


def parse_report(data: bytes, where: str) -> SavedRun:
    """Return the report that `data` is; `where` it comes from is told in errors.

    Raises:
        RequestError: it is no report in JSON.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{where}: not JSON: {str(error).splitlines()[0]}") from None
    try:
        return _run(document, where)
    except _WrongError as error:
        raise RequestError(
            f"{where}: no load report in JSON, as tai-grpc load and ghz write with -O json: {error}"
        ) from None


class _WrongError(Exception):
    """Says what of a document is not as it must be."""


def _run(document: object, where: str) -> SavedRun:
    fields = _object(document, "the document")
    statuses = _counts(fields, "statusCodeDistribution")
    count = _natural(fields, "count")
    percentiles = _percentiles(fields)
    slices: tuple[Slice, ...] = ()
    if "intervals" in fields:
        slices = _intervals(fields)
    elif fields.get("details"):
        slices, more = _details(_array(fields, "details"))
        percentiles = more | percentiles
    options = fields.get("options")
    name = fields.get("name")
    return SavedRun(
        where=where,
        name=name if isinstance(name, str) else "",
        options=options if isinstance(options, dict) else {},
        count=count,
        failed=max(count - statuses.get("OK", 0), 0),
        elapsed_ns=_natural(fields, "total"),
        rps=_number(fields, "rps"),
        average_ns=_number(fields, "average"),
        percentiles=percentiles,
        slices=slices,
    )


def _percentiles(fields: Mapping[str, Any]) -> dict[float, int]:
    found = {}
    # ghz writes null where no call succeeded, and zeros where it had too few.
    for entry in _array(fields, "latencyDistribution", nullable=True):
        row = _object(entry, "latencyDistribution")
        percentage, latency = _number(row, "percentage"), _natural(row, "latency")
        if 0 < percentage < 100 and latency:
            found[percentage] = latency
    return found


def _intervals(fields: Mapping[str, Any]) -> tuple[Slice, ...]:
    entries = _array(fields, "intervals")
    if len(entries) > MAX_INTERVALS:
        raise _WrongError(f"over {MAX_INTERVALS} intervals")
    found = []
    for entry in entries:
        interval = _object(entry, "an interval")
        statuses = _counts(interval, "statusCodeDistribution")
        failed = sum(count for name, count in statuses.items() if name != "OK")
        found.append(Slice(_natural(interval, "length"), _histogram(interval, "hdr"), failed))
    return tuple(each for each in found if each.length_ns)


def _details(entries: Sequence[object]) -> tuple[tuple[Slice, ...], dict[float, int]]:
    """What ghz tells of each call, when it ended and how long it took, in parts; and all the percentiles."""
    calls = [_object(entry, "details") for entry in entries]
    try:
        ends = np.array([datetime.fromisoformat(call["timestamp"]).timestamp() for call in calls])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise _WrongError("details have no timestamp") from None
    latencies = np.array([_natural(call, "latency") for call in calls], dtype=np.int64)
    good = np.array([call.get("status") == "OK" for call in calls])
    since = np.round((ends - ends.min()) * 1e9).astype(np.int64)
    span = int(since.max()) + 1
    length = max(min(_SLICE_NS, span // _SLICES), _LEAST_SLICE_NS)
    number = min(max(span // length, 1), MAX_INTERVALS)
    at = (since // -(-span // number)).clip(0, number - 1)
    whole = _histogram_of(latencies[good])
    percentiles = dict(zip(PERCENTAGES, whole.percentiles(PERCENTAGES), strict=True)) if whole.count else {}
    slices = tuple(
        Slice(
            span // number,
            Distribution.of(_histogram_of(latencies[good & (at == i)])),
            int((~good & (at == i)).sum()),
        )
        for i in range(number)
    )
    return slices, percentiles


def _histogram_of(latencies: Int64s) -> LatencyHistogram:
    histogram = LatencyHistogram(*_LAYOUT)
    histogram.record_many(latencies)
    return histogram


# --- Fields ------------------------------------------------------------------------------------------------


def _object(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _WrongError(f"{what} is no object")
    return value


def _array(fields: Mapping[str, Any], name: str, *, nullable: bool = False) -> list[Any]:
    value = fields.get(name)
    if value is None and nullable:
        return []
    if not isinstance(value, list):
        raise _WrongError(f"{name} is no array")
    return value


def _number(fields: Mapping[str, Any], name: str) -> float:
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MOST:
        raise _WrongError(f"{name} is no number from 0")
    return float(value)


def _natural(fields: Mapping[str, Any], name: str) -> int:
    number = _number(fields, name)
    if not math.isfinite(number) or number != int(number):
        raise _WrongError(f"{name} is no whole number")
    return int(fields[name])


def _counts(fields: Mapping[str, Any], name: str) -> dict[str, int]:
    counts = _object(fields.get(name), name)
    return {key: _natural(counts, key) for key in counts}


def _histogram(fields: Mapping[str, Any], name: str) -> Distribution:
    """A histogram of any layout in the one that all are compared in."""
    histogram = LatencyHistogram(*_LAYOUT)
    try:
        histogram.merge(LatencyHistogram.decode(fields.get(name)))  # type: ignore[arg-type]
    except (ValueError, OverflowError) as error:
        raise _WrongError(f"{name}: {error}") from None
    return Distribution.of(histogram)
