"""Runs a plan: engines in threads without the GIL, requests fed to them, and what they see read meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from typing import Final

from tai_grpc._ext.load.engine import Engine
from tai_grpc._ext.load.source import Source
from tai_grpc.load.engines import WHOLE, Engines, Part, open_engines, shares
from tai_grpc.load.errors import RequestError, UnreachableError
from tai_grpc.load.gathering import Gathering
from tai_grpc.load.plan import LoadPlan
from tai_grpc.load.result import EndReason, Interval, LoadResult

WATCH_NS: Final = 250_000_000
"""How long the intervals are that a watcher is shown."""

_TICK: Final = 0.05
"""Seconds after which, at the latest, a stop is obeyed."""
_BEGIN_NS: Final = 2_000_000
"""How long the engines' threads have to start."""
_FEED_WAIT: Final = 0.5
_AHEAD: Final = 0.25
"""Seconds that the calls wait until as many requests are rendered as may be."""

Watch = Callable[[Interval], None]


def run_plan(
    plan: LoadPlan,
    *,
    watch: Watch | None = None,
    stop: threading.Event | None = None,
    connected: Callable[[], object] | None = None,
) -> LoadResult:
    """Run a plan in this process and return what was seen.

    `connected` is called when all connections stand and the calls are about to begin.
    `watch` is called about every quarter of a second with what happened in it; `stop`, once set, ends the run
    with what was seen so far.

    Raises:
        UnreachableError: a host cannot be connected to within the plan's `connect_timeout`.
        ConfigError: the plan's TLS texts cannot be used.
    """
    with open_run(plan) as run:
        if connected is not None:
            connected()
        return run.run(watch, stop)


@contextmanager
def open_run(plan: LoadPlan, part: Part = WHOLE) -> Iterator[Run]:
    """Connect what makes a process's part of the load, and have the first requests ready.

    Raises: as `run_plan`.
    """
    with open_engines(plan, part) as engines, ThreadPoolExecutor(plan.threads + 1, "load") as pool:
        ahead, over = threading.Event(), threading.Event()
        try:
            feeding = pool.submit(_feed, plan, part, engines.source, ahead, over)
            # An engine that waits for a request hears that there will be none.
            feeding.add_done_callback(lambda _: engines.source.close())
            feeding.add_done_callback(lambda _: ahead.set())
            for connected in [pool.submit(_connect, each, plan.connect_timeout) for each in engines.engines]:
                connected.result()
            ahead.wait(_AHEAD)
            yield Run(plan, engines, pool, feeding)
        finally:
            over.set()
            engines.source.close()
            for engine in engines.engines:
                engine.stop()  # an error is no reason to wait for those that connect or run


def _connect(engine: Engine, timeout: float) -> None:
    try:
        engine.connect(timeout)
    except ConnectionError as error:
        raise UnreachableError(str(error)) from None


def _feed(plan: LoadPlan, part: Part, source: Source, ahead: threading.Event, over: threading.Event) -> None:
    """Render requests whenever there is room for them, until it is `over`. `ahead`: there is none for now."""
    if plan.requests.fixed is not None:
        return
    # How many a warm-up takes nobody knows.
    most = None if plan.total is None or plan.warmup else shares(plan.total, part.count)[part.index]
    for number in islice(count(part.index, part.count), most):
        request = plan.requests.render(number)
        while not source.feed(request.messages, request.metadata):
            ahead.set()
            if over.is_set():
                return
            source.wait_for_room(_FEED_WAIT)


class Run:
    """Engines that are connected and have not begun. To be run once."""

    def __init__(
        self, plan: LoadPlan, engines: Engines, pool: ThreadPoolExecutor, feeding: Future[None]
    ) -> None:
        self._plan = plan
        self._engines = engines
        self._pool = pool
        self._feeding = feeding

    def run(self, watch: Watch | None = None, stop: threading.Event | None = None) -> LoadResult:
        """Make the calls, until the plan is done or `stop` is set."""
        started = datetime.now(UTC) + timedelta(seconds=self._plan.warmup)
        begin_ns = time.monotonic_ns() + _BEGIN_NS
        measure_ns = begin_ns + round(self._plan.warmup * 1e9)
        duration = self._plan.duration
        end_ns = None if duration is None else measure_ns + round(duration * 1e9)
        gathering = Gathering(self._plan, self._engines, measure_ns)
        running = {
            self._pool.submit(each.run, begin_ns=begin_ns, measure_ns=measure_ns, end_ns=end_ns)
            for each in self._engines.engines
        }
        stopped, cut_ns = False, _cut_after(begin_ns, measure_ns)
        while wait(running, _until(cut_ns), FIRST_EXCEPTION).not_done:
            failed = any(each.done() and each.exception() for each in (*running, self._feeding))
            if not stopped and (failed or (stop is not None and stop.is_set())):
                stopped = True
                for engine in self._engines.engines:
                    engine.stop()
            now_ns = time.monotonic_ns()
            if now_ns >= cut_ns:
                cut_ns = _cut_after(now_ns, measure_ns)
                interval = gathering.take(now_ns)
                if watch is not None:
                    watch(interval)
        for each in running:
            each.result()
        gathering.take(time.monotonic_ns())
        return gathering.result(started, self._end_reason(stopped=stopped), self._failure())

    def _failure(self) -> str:
        """Why no more requests were fed, "" when all was well."""
        error = self._feeding.exception() if self._feeding.done() else None
        if error is None:
            return ""
        if isinstance(error, RequestError):
            return f"a request could not be made: {error}"
        raise error

    def _end_reason(self, *, stopped: bool) -> EndReason:
        if stopped:
            return EndReason.CANCEL
        timed_out = any(engine.timed_out for engine in self._engines.engines)
        return EndReason.TIMEOUT if timed_out else EndReason.NORMAL


def _cut_after(now_ns: int, measure_ns: int) -> int:
    """Return when the next interval begins: whole lengths from where measuring begins, but never there,
    or what is seen right after it would be an interval of its own.
    """
    number = (now_ns - measure_ns) // WATCH_NS + 1
    return measure_ns + (number or 1) * WATCH_NS


def _until(cut_ns: int) -> float:
    return min(_TICK, max(0.0, (cut_ns - time.monotonic_ns()) / 1e9))
