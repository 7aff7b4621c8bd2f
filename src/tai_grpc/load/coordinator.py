"""Has several engine processes, here or elsewhere, make the load of one plan, and adds up what they saw."""

from __future__ import annotations

import queue
import shlex
import subprocess
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from itertools import zip_longest
from typing import Any, BinaryIO, Final, Self, cast

from tai_grpc._version import __version__
from tai_grpc.checks import check_int
from tai_grpc.errors import ConfigError, TaiGrpcError
from tai_grpc.load.engine_process import GO, READY, STOP
from tai_grpc.load.engines import Part
from tai_grpc.load.errors import EngineProcessError
from tai_grpc.load.frames import read_frame, write_frame
from tai_grpc.load.gathering import bounded
from tai_grpc.load.plan import LoadPlan
from tai_grpc.load.result import EndReason, HostResult, Interval, LoadResult
from tai_grpc.load.run import Watch
from tai_grpc.load.series import merged, together

LOCAL: Final = (sys.executable, "-m", "tai_grpc.cli")
"""What runs `tai-grpc` on this machine."""

MAX_PROCESSES: Final = 256

_TICK: Final = 0.05
_END_SECONDS: Final = 10.0
"""How long a process may take to end once it has said its last."""


def commands(processes: int, via: Sequence[str]) -> list[list[str]]:
    """Return what starts each engine process: `processes` here, and one by each of `via`, like "ssh box".

    Raises:
        ConfigError: a number is out of its range, or what `via` says is no command.
    """
    check_int("processes", processes, 0 if via else 1, MAX_PROCESSES)
    here = [[*LOCAL, "load", "engine"]] * processes
    return here + [[*_words(each), "tai-grpc", "load", "engine"] for each in via]


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ConfigError("via", command, f"a command, as a shell takes it ({error})") from None
    if not words:
        raise ConfigError("via", command, "a command, like 'ssh box'")
    return words


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

    Raises:
        ConfigError: the plan's connections or calls are too few to be divided.
        EngineProcessError: one of them cannot be started, or ended without a result.
        UnreachableError: one of them cannot connect to a host.
    """
    _check(plan, len(started_by))
    with ExitStack() as stack:
        said: queue.Queue[tuple[int, Any]] = queue.Queue()
        processes = [
            stack.enter_context(_Process(command, number, said)) for number, command in enumerate(started_by)
        ]
        for index, process in enumerate(processes):
            process.tell(__version__)
            process.tell((plan, Part(index, len(processes))))
        waiting = set(range(len(processes)))
        while waiting:  # all begin when the last one is ready
            if stop is not None and stop.is_set():
                raise EngineProcessError("stopped before all engine processes were ready")
            with suppress(queue.Empty):
                index, what = said.get(timeout=_TICK)
                _expect(what == READY, index, what)
                waiting.remove(index)
        if connected is not None:
            connected()
        for process in processes:
            process.tell(GO)
        return _add_up(plan, _until_results(processes, said, watch, stop))


def _check(plan: LoadPlan, processes: int) -> None:
    threads = plan.threads * processes
    if plan.connections < threads:
        raise ConfigError("connections", plan.connections, f"at least one for each of {threads} threads")
    if plan.total is not None and plan.total < processes:
        raise ConfigError("total", plan.total, f"at least one for each of {processes} processes")


class _Process:
    """An engine process. What it says goes into the queue, beside its number; it ends with the block."""

    def __init__(self, command: Sequence[str], number: int, said: queue.Queue[tuple[int, Any]]) -> None:
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the user's own command
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is the coordinator's to answer
            )
        except OSError as error:
            raise EngineProcessError(f"cannot start {shlex.join(command)}: {error.strerror}") from None
        self._told = cast(BinaryIO, self._process.stdin)
        self._listener = threading.Thread(target=self._listen, args=(number, said), daemon=True)
        self._listener.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(BrokenPipeError):
            self._told.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join()

    def tell(self, what: object) -> None:
        with suppress(BrokenPipeError):  # then it has ended, which the queue says too
            write_frame(self._told, what)

    def _listen(self, number: int, said: queue.Queue[tuple[int, Any]]) -> None:
        with cast(BinaryIO, self._process.stdout) as pipe:
            try:
                while True:
                    said.put((number, read_frame(pipe)))
            except EOFError as error:
                said.put((number, error))


def _expect(expected: bool, index: int, what: object) -> None:
    if isinstance(what, TaiGrpcError):
        raise what
    if not expected:
        raise EngineProcessError(f"engine process {index + 1} ended without a result")


def _until_results(
    processes: Sequence[_Process],
    said: queue.Queue[tuple[int, Any]],
    watch: Watch | None,
    stop: threading.Event | None,
) -> list[LoadResult]:
    results: dict[int, LoadResult] = {}
    seen: list[deque[Interval]] = [deque() for _ in processes]
    stopped = False
    while len(results) < len(processes):
        if not stopped and stop is not None and stop.is_set():
            stopped = True
            for process in processes:
                process.tell(STOP)
        try:
            index, what = said.get(timeout=_TICK)
        except queue.Empty:
            continue
        if isinstance(what, LoadResult):
            results[index] = what
        elif isinstance(what, Interval):
            if watch is not None:
                seen[index].append(what)
        elif index not in results:
            _expect(False, index, what)
        running = [each for number, each in enumerate(seen) if number not in results]
        while watch is not None and running and all(running):
            watch(together([each.popleft() for each in seen if each]))
    return [results[index] for index in range(len(processes))]


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
        messages_sent=sum(each.messages_sent for each in results),
        messages_received=sum(each.messages_received for each in results),
        bytes_sent=sum(each.bytes_sent for each in results),
        bytes_received=sum(each.bytes_received for each in results),
        engine_cpu=max(each.engine_cpu for each in results),
        intervals=tuple(
            together([each for each in same_time if each is not None])
            for same_time in zip_longest(*(each.intervals for each in results))
        ),
        hosts=tuple(
            HostResult(
                host,
                merged(each.hosts[index].latencies for each in results),
                sum((each.hosts[index].statuses for each in results), Counter()),
            )
            for index, host in enumerate(plan.hosts)
        ),
    )
