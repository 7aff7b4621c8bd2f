"""Has several engine processes, here or elsewhere, make the load of one plan, and adds up what they saw."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Final

from tai_grpc._version import __version__
from tai_grpc.errors import ConfigError, TaiGrpcError
from tai_grpc.load.engine_process import GO, READY, STOP
from tai_grpc.load.engines import Part
from tai_grpc.load.errors import EngineProcessError
from tai_grpc.load.gathering import INTERVAL_NS, bounded, least
from tai_grpc.load.plan import LoadPlan
from tai_grpc.load.processes import EngineProcess, Said
from tai_grpc.load.result import EndReason, HostResult, Interval, LoadResult
from tai_grpc.load.run import WATCH_NS, Watch
from tai_grpc.load.series import aligned, merged, summed

_TICK: Final = 0.05
_LONGEST_TICK: Final = 0.5
START_SECONDS: Final = 30.0
"""How long a process may take to start, beside what it takes to connect."""
SILENCE_SECONDS: Final = 20.0
"""How long a process may say nothing while it runs: it says something every `WATCH_NS`."""
STOP_SECONDS: Final = 10.0
"""The same once it was told to stop."""
_LATE: Final = 8
"""How many intervals a process may be behind before the watcher is shown the others' without its own."""


def coordinate(
    plan: LoadPlan,
    started_by: Sequence[Sequence[str]],
    *,
    watch: Watch | None = None,
    stop: threading.Event | None = None,
    connected: Callable[[], object] | None = None,
) -> LoadResult:
    """Run a plan in processes, one started by each command, and return what all of them saw.

    Each makes its part: connections, concurrency, calls and rate are divided among them. Their histograms are
    added count by count, so that the result is what one process that made all calls would have recorded.
    `watch`, `stop` and `connected` are as of `run.run_plan`.

    When one of them is lost in the run, as it ends or says nothing for `SILENCE_SECONDS`, the others are
    stopped, and the result is theirs; its `failure` says why.

    Raises:
        ConfigError: the plan's connections or calls are too few to be divided.
        EngineProcessError: one of them cannot be started, or is not ready in time, or all were lost.
        UnreachableError: one of them cannot connect to a host.
    """
    _check(plan, len(started_by))
    with ExitStack() as stack:
        said: Said = queue.Queue()
        processes = [
            stack.enter_context(EngineProcess(command, number, said))
            for number, command in enumerate(started_by)
        ]
        for index, process in enumerate(processes):
            process.tell(__version__)
            process.tell((plan, Part(index, len(processes))))
        _until_ready(plan, processes, said, stop)
        if connected is not None:
            connected()
        for process in processes:
            process.tell(GO)
        results, lost = _until_results(processes, said, watch, stop)
    if not results:
        raise EngineProcessError(lost)
    added = _add_up(plan, [results[index] for index in sorted(results)])
    return replace(added, failure=f"{lost}; the report is of the others") if lost else added


def _check(plan: LoadPlan, processes: int) -> None:
    threads = plan.threads * processes
    if plan.connections < threads:
        raise ConfigError("connections", plan.connections, f"at least one for each of {threads} threads")
    if plan.total is not None and plan.total < processes:
        raise ConfigError("total", plan.total, f"at least one for each of {processes} processes")


class _Silence:
    """Who has said nothing for how long, of the time in which this process was there to hear it."""

    def __init__(self, processes: Sequence[EngineProcess]) -> None:
        self._processes = processes
        self._seconds = [0.0] * len(processes)
        self._looked = time.monotonic()

    def longer_than(self, seconds: float) -> list[int]:
        """Return the numbers of those that have been silent for longer; to be asked again and again."""
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, _LONGEST_TICK), now
        for index, process in enumerate(self._processes):
            self._seconds[index] = 0.0 if process.heard else self._seconds[index] + passed
            process.heard = False
        return [index for index, silent in enumerate(self._seconds) if silent > seconds]

    def begin_anew(self) -> None:
        """Nobody has been silent until now."""
        self._seconds = [0.0] * len(self._processes)


def _next(said: Said) -> tuple[int, Any] | None:
    try:
        return said.get(timeout=_TICK)
    except queue.Empty:
        return None


def _until_ready(
    plan: LoadPlan, processes: Sequence[EngineProcess], said: Said, stop: threading.Event | None
) -> None:
    """Wait until all can begin."""
    silence, limit = _Silence(processes), START_SECONDS + plan.connect_timeout
    waiting = set(range(len(processes)))
    while waiting:
        if stop is not None and stop.is_set():
            raise EngineProcessError("stopped before all engine processes were ready")
        if late := waiting.intersection(silence.longer_than(limit)):
            for index in late:
                processes[index].kill()
            raise EngineProcessError(f"{processes[min(late)]} was not ready after {limit:g} s")
        if (heard := _next(said)) is None:
            continue
        index, what = heard
        if isinstance(what, TaiGrpcError):
            raise what
        if what != READY:
            raise EngineProcessError(f"{processes[index]} {processes[index].how_it_ended(what)}")
        waiting.remove(index)


def _until_results(
    processes: Sequence[EngineProcess], said: Said, watch: Watch | None, stop: threading.Event | None
) -> tuple[Mapping[int, LoadResult], str]:
    """Return what each saw that was not lost, and why one was; "" when none was."""
    results: dict[int, LoadResult] = {}
    running = set(range(len(processes)))
    silence, limit = _Silence(processes), SILENCE_SECONDS
    together = None if watch is None else Together(watch, len(processes))
    lost = ""
    stopped = False
    while running:
        if not stopped and (lost or (stop is not None and stop.is_set())):
            stopped, limit = True, STOP_SECONDS
            silence.begin_anew()
            for process in processes:
                process.tell(STOP)
        ended = set()
        for index in running.intersection(silence.longer_than(limit)):
            ended.add(index)
            processes[index].kill()
            lost = lost or f"{processes[index]} said nothing for {limit:g} s"
        if (heard := _next(said)) is not None and heard[0] in running:
            index, what = heard
            if isinstance(what, Interval):
                if together is not None:
                    together.add(index, what)
            else:
                ended.add(index)
                if isinstance(what, LoadResult):
                    results[index] = what
                elif isinstance(what, TaiGrpcError):
                    lost = lost or f"{processes[index]}: {what}"
                else:
                    lost = lost or f"{processes[index]} {processes[index].how_it_ended(what)}"
        running -= ended
        if together is not None:
            together.show(running)
    return results, lost


class Together:
    """Shows a watcher the intervals of several processes, those of the same time as one."""

    def __init__(self, watch: Watch, sides: int) -> None:
        self._watch = watch
        self._newest: list[int | None] = [None] * sides
        self._waiting: dict[int, list[Interval]] = {}
        self._shown: int | None = None

    def add(self, index: int, interval: Interval) -> None:
        slot = interval.start_ns // WATCH_NS
        self._newest[index] = slot
        if self._shown is not None:
            slot = max(slot, self._shown + 1)  # too late for its own
        self._waiting.setdefault(slot, []).append(interval)

    def show(self, running: set[int]) -> None:
        """Show those that all who run have got to, and those for which the others have waited too long."""
        while self._waiting:
            slot, last = min(self._waiting), max(self._waiting)
            waits = any((newest := self._newest[index]) is None or newest < slot for index in running)
            if waits and last - slot < _LATE:
                return
            parts = self._waiting.pop(slot)
            self._shown = slot
            self._watch(
                summed(parts, max(each.start_ns for each in parts), max(each.length_ns for each in parts))
            )


def _add_up(plan: LoadPlan, results: Sequence[LoadResult]) -> LoadResult:
    reasons = {each.end_reason for each in results}
    return LoadResult(
        plan=plan,
        failure=next((each.failure for each in results if each.failure), ""),
        started=min(each.started for each in results),
        elapsed_ns=max(each.elapsed_ns for each in results),
        end_reason=next(
            reason for reason in (EndReason.CANCEL, EndReason.TIMEOUT, EndReason.NORMAL) if reason in reasons
        ),
        latencies=merged(each.latencies for each in results),
        statuses=sum((each.statuses for each in results), Counter()),
        errors=bounded(sum((each.errors for each in results), Counter())),
        abandoned=sum(each.abandoned for each in results),
        missed=sum(each.missed for each in results),
        send_lag=merged(each.send_lag for each in results),
        starved=sum(each.starved for each in results),
        reconnects=sum(each.reconnects for each in results),
        sent_again=sum(each.sent_again for each in results),
        stream_limit=least(each.stream_limit for each in results),
        messages_sent=sum(each.messages_sent for each in results),
        messages_received=sum(each.messages_received for each in results),
        bytes_sent=sum(each.bytes_sent for each in results),
        bytes_received=sum(each.bytes_received for each in results),
        engine_cpu=max(each.engine_cpu for each in results),
        intervals=aligned([each.intervals for each in results], INTERVAL_NS),
        hosts=tuple(
            HostResult(
                host,
                merged(each.latencies for each in same),
                sum((each.statuses for each in same), Counter()),
            )
            for host, same in _by_name(results).items()
        ),
    )


def _by_name(results: Sequence[LoadResult]) -> Mapping[str, Sequence[HostResult]]:
    found: dict[str, list[HostResult]] = {}
    for result in results:
        for each in result.hosts:
            found.setdefault(each.host, []).append(each)
    return found
