"""Reads what engines count while they run, and adds it up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from grpc import StatusCode

from tai_grpc._ext.load.engine import ERROR_KINDS
from tai_grpc.load.engines import Engines
from tai_grpc.load.plan import LoadPlan
from tai_grpc.load.result import EndReason, HostResult, Interval, LoadResult
from tai_grpc.load.series import Series, empty_like, merged

INTERVAL_NS: Final = 1_000_000_000
"""How long the intervals of a result are at least: from multiples of it on."""
OTHER_ERRORS: Final = "other errors"
"""What errors of further kinds than the first `ERROR_KINDS` are called, after their code."""

_CODES: Final = {code.value[0]: code.name for code in StatusCode}


class Gathering:
    """The figures of one process's engines. No call is lost or counted twice: it empties their histograms."""

    def __init__(self, plan: LoadPlan, engines: Engines, measure_ns: int) -> None:
        self._plan = plan
        self._engines = engines
        self._measure_ns = measure_ns
        self._taken_ns = measure_ns - round(plan.warmup * 1e9)
        self._series = Series(INTERVAL_NS)
        self._statuses: Counter[str] = Counter()
        self._sent = self._received = 0
        empty = empty_like(engines.targets[0].latencies)
        self._latencies = {host: empty_like(empty) for host in plan.hosts}

    def take(self, now_ns: int) -> Interval:
        """Return what happened since the last time; one that the warm-up ends in begins with measuring."""
        engines = self._engines
        start_ns = self._taken_ns
        if now_ns > self._measure_ns:
            start_ns = max(start_ns, self._measure_ns)
        latencies = empty_like(engines.targets[0].latencies)
        for target in engines.targets:
            taken = target.latencies.interval_histogram()
            latencies.merge(taken)
            self._latencies[target.name].merge(taken)
        statuses = sum(self._by_host().values(), Counter())
        sent = sum(each.messages_sent for each in engines.engines)
        received = sum(each.messages_received for each in engines.engines)
        interval = Interval(
            start_ns=start_ns - self._measure_ns,
            length_ns=now_ns - start_ns,
            latencies=latencies,
            statuses=statuses - self._statuses,
            messages_sent=sent - self._sent,
            messages_received=received - self._received,
        )
        self._taken_ns, self._statuses, self._sent, self._received = now_ns, statuses, sent, received
        # What is over before measuring begins saw nothing.
        if now_ns > self._measure_ns:
            self._series.add(interval)
        return interval

    def _by_host(self) -> dict[str, Counter[str]]:
        found: dict[str, Counter[str]] = {host: Counter() for host in self._plan.hosts}
        for target in self._engines.targets:
            for code, count in enumerate(target.statuses()):
                if count:
                    found[target.name][_CODES[code]] += count
        return found

    def result(self, started: datetime, end_reason: EndReason, failure: str) -> LoadResult:
        """Return what all of it adds up to, once the engines have ended and the last interval was taken."""
        engines = self._engines.engines
        last_ns = max(each.last_end_ns for each in engines)
        if end_reason is EndReason.CANCEL or last_ns <= self._measure_ns:
            last_ns = self._taken_ns
        if end_reason is EndReason.TIMEOUT and self._plan.duration is not None:
            # Time in which nothing ended any more counts as well.
            last_ns = max(last_ns, self._measure_ns + round(self._plan.duration * 1e9))
        elapsed_ns = max(0, last_ns - self._measure_ns)
        by_host = self._by_host()
        return LoadResult(
            plan=self._plan,
            started=started,
            elapsed_ns=elapsed_ns,
            end_reason=end_reason,
            latencies=merged(self._latencies.values()),
            statuses=sum(by_host.values(), Counter()),
            errors=self._errors(),
            abandoned=sum(each.abandoned for each in engines),
            missed=sum(each.missed for each in engines),
            send_lag=merged(each.send_lag for each in engines),
            starved=self._engines.source.starved,
            reconnects=sum(each.reconnects for each in engines),
            sent_again=sum(each.sent_again for each in engines),
            stream_limit=least(each.stream_limit for each in engines),
            messages_sent=self._sent,
            messages_received=self._received,
            bytes_sent=sum(each.bytes_sent for each in engines),
            bytes_received=sum(each.bytes_received for each in engines),
            engine_cpu=min(1.0, max(each.cpu_ns for each in engines) / max(elapsed_ns, 1)),
            intervals=self._series.intervals(),
            hosts=tuple(HostResult(host, self._latencies[host], by_host[host]) for host in by_host),
            failure=failure,
        )

    def _errors(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for engine in self._engines.engines:
            for code, details, count in engine.errors():
                said = OTHER_ERRORS if details is None else details or "no details given"
                found[f"{_CODES[code]}: {said}"] += count
        return bounded(found)


def bounded(errors: Counter[str]) -> Counter[str]:
    """Return the commonest errors by themselves, and all others as one of each code."""
    kept: Counter[str] = Counter()
    kinds = 0
    for text, count in errors.most_common():
        others = f"{text.partition(':')[0]}: {OTHER_ERRORS}"
        kinds += text != others
        kept[text if kinds <= ERROR_KINDS else others] += count
    return kept


def least(limits: Iterable[int | None]) -> int | None:
    """Return the least of those that are not None, if any is."""
    return min((each for each in limits if each is not None), default=None)
