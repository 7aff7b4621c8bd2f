"""What a run must not exceed, or fall below, to be called good: `--fail-if 'p99>5ms'`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from tai_grpc.load.durations import format_duration, parse_duration
from tai_grpc.load.errors import RequestError
from tai_grpc.load.result import LoadResult
from tai_grpc.resilience import LatencyHistogram

FORMS: Final = (
    "NAME, one of > >= < <=, and a value: p50 p99.9 (any p0 to p100), avg, min (fastest), max (slowest) with "
    "a duration, as in p99>5ms; errors and missed with a number or a share, as in errors>10 or errors>0.1%; "
    "rps and count with a number, as in rps<10000"
)

_EXPRESSION: Final = re.compile(r"\s*([a-z]+)\s*([0-9.]*)\s*(>=|<=|>|<)\s*(\S+)\s*")
_NUMBER: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?|\.[0-9]+")
_COMPARE: Final[Mapping[str, Callable[[float, float], bool]]] = MappingProxyType(
    {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
)
_LATENCIES: Final = MappingProxyType(
    {"avg": "avg", "average": "avg", "min": "min", "fastest": "min", "max": "max", "slowest": "max"}
)
_COUNTS: Final = ("errors", "missed")
_NUMBERS: Final = ("rps", "count")


@dataclass(frozen=True, slots=True)
class Threshold:
    """An expression that makes a run fail when it is true of it."""

    text: str
    figure: str
    percentage: float | None
    """Of figure "p"."""
    sign: str
    limit: float
    """Nanoseconds for a latency, per cent for a share, else a number."""
    share: bool

    def breach(self, result: LoadResult) -> Breach | None:
        """Return what was measured when it makes `result` fail, else None.

        What could not be measured fails: latencies when no call succeeded, shares when no call ended.
        """
        measured, told = self._measure(result)
        if measured is None or _COMPARE[self.sign](measured, self.limit):
            return Breach(self, told)
        return None

    def _measure(self, result: LoadResult) -> tuple[float | None, str]:
        match self.figure:
            case "rps":
                return result.rps, f"it was {result.rps:.2f}"
            case "count":
                return result.count, f"it was {result.count}"
            case "errors":
                return self._part(result.failed, result.count, "call ended")
            case "missed":
                return self._part(result.missed, result.count + result.missed, "call was due")
        if not result.latencies.count:
            return None, "not known, as no call succeeded"
        ns = self._latency(result.latencies)
        return ns, f"it was {format_duration(ns)}"

    def _latency(self, latencies: LatencyHistogram) -> float:
        if self.percentage is not None:
            return latencies.percentile(self.percentage)
        match self.figure:
            case "avg":
                return latencies.mean
            case "min":
                return latencies.min
            case _:
                return latencies.max

    def _part(self, part: int, whole: int, what: str) -> tuple[float | None, str]:
        if not self.share:
            return part, f"it was {part}"
        if not whole:
            return None, f"not known, as no {what}"
        return 100 * part / whole, f"it was {100 * part / whole:.4g}% ({part} of {whole})"


@dataclass(frozen=True, slots=True)
class Breach:
    """A threshold that a run fails, and what was measured, as people read it."""

    threshold: Threshold
    measured: str

    def __str__(self) -> str:
        """As in "p99>5ms: it was 7.31 ms"."""
        return f"{self.threshold.text}: {self.measured}"


def parse_threshold(text: str) -> Threshold:
    """Return the threshold that an expression stands for.

    Raises:
        RequestError: it is none; names the accepted forms.
    """
    if not (parts := _EXPRESSION.fullmatch(text)):
        raise RequestError(f"{text!r} is not a threshold: write {FORMS}")
    name, digits, sign, value = parts.groups()
    percentage: float | None = None
    figure = _LATENCIES.get(name, name)
    if name == "p":
        if not _NUMBER.fullmatch(digits) or (percentage := float(digits)) > 100:
            raise RequestError(f"{text!r}: p is followed by a number from 0 to 100, as in p99.9>5ms")
    elif digits or name not in (*_LATENCIES, *_COUNTS, *_NUMBERS):
        raise RequestError(f"{text!r}: {name + digits!r} is no figure of a run: write {FORMS}")
    share = False
    if name == "p" or name in _LATENCIES:
        limit = _nanoseconds(text, value)
    else:
        share = name in _COUNTS and value.endswith("%")
        limit = _number(text, value.removesuffix("%") if share else value)
        if share and limit > 100:
            raise RequestError(f"{text!r}: a share is at most 100%")
    return Threshold(text.strip(), figure, percentage, sign, limit, share)


def breaches(thresholds: Iterable[Threshold], result: LoadResult) -> tuple[Breach, ...]:
    """Return those that `result` fails, in their order."""
    return tuple(found for threshold in thresholds if (found := threshold.breach(result)))


def _nanoseconds(text: str, value: str) -> float:
    if _NUMBER.fullmatch(value):
        raise RequestError(f"{text!r}: a latency is a duration with its unit, as in {value}ms")
    try:
        return parse_duration(value) * 1e9
    except RequestError as error:
        raise RequestError(f"{text!r}: {error}") from None


def _number(text: str, value: str) -> float:
    if not _NUMBER.fullmatch(value):
        raise RequestError(f"{text!r}: {value!r} is not a number: write {FORMS}")
    return float(value)
