"""A program: operations on shared memory, each killed after every store that it makes there.

    kill_sweep.py MODULE stores          MODULE is marked.pyx, compiled
    kill_sweep.py MODULE instructions    after every instruction as well, if it has at most 1,500

A child runs the operation step by step under ptrace, and the parent looks after each step whether the memory
has changed: what a kill leaves is the same from one store to the next. It kills the child with SIGKILL, sees
what is left, opens the memory as another process would, and carries out the operation itself. What it saw
goes to stdout as JSON; whether it is right is for the test that starts it.
"""

import ctypes
import json
import mmap
import os
import signal
import sys
from collections import Counter as Tally
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any, TypeVar

from tai_grpc._ext.primitives.arena import Region
from tai_grpc._ext.primitives.breaker import CircuitBreaker
from tai_grpc._ext.primitives.clock import FrozenClock
from tai_grpc._ext.primitives.counter import Counter
from tai_grpc._ext.primitives.histogram import LatencyHistogram
from tai_grpc._ext.primitives.limiter import TokenBucket
from tai_grpc._ext.primitives.retry import RetryBudget
from tai_grpc._ext.primitives.shared import share
from tai_grpc.config import CallOutcome, CircuitBreakerConfig, Window

TRACE_ME, SINGLE_STEP = 0, 9
MAX_INSTRUCTIONS = 1_500
SIZE = 1 << 14
BOOT = bytes(16)
LAYOUT = (1, 1000, 1)

T = TypeVar("T", CircuitBreaker, TokenBucket, RetryBudget, Counter, LatencyHistogram)
Seen = tuple[float, ...]

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.restype = ctypes.c_long
libc.memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


class NotPermittedError(Exception):
    """Ptrace is not allowed here."""


@dataclass
class Case:
    """An operation, and how to look at what it works on. `parts`: it is several, each whole by itself."""

    name: str
    operation: Callable[[], object]
    look: Callable[[], Seen]
    parts: bool = False


@dataclass
class Sweep:
    """What came of the kills of one operation: whether it had happened, by how many kills."""

    instructions: int = 0
    stores: int = 0
    kills: int = 0
    left: Tally[str] = field(default_factory=Tally)
    wrong: list[str] = field(default_factory=list)


def cases(buffer: mmap.mmap, region: Region) -> Iterator[Case]:
    """Each operation of each kind that an Arena has, with all that it needs before it in the buffer."""

    def looked(look: Callable[[], Seen]) -> Callable[[], Seen]:
        """`look`, which may change what it looks at: the memory is as it was afterwards."""

        def safely() -> Seen:
            before = buffer[:]
            try:
                return look()
            finally:
                buffer[:] = before

        return safely

    def shared(name: str, primitive: T) -> T:
        share(region, name, f"{type(primitive).__name__} of a test", primitive)
        return primitive

    counter = shared("counter", Counter())
    counter.add(5)
    yield Case("counter.add", lambda: counter.add(7), lambda: (counter.value,))

    bucket = shared("bucket", TokenBucket(1.0, 10))
    bucket.try_acquire(3)
    yield Case("bucket.try_acquire", lambda: bucket.try_acquire(2), lambda: (bucket.wait_time(10),))

    budget = shared("budget", RetryBudget(10, 0.5))
    budget.record_failure()
    yield Case("budget.record_failure", budget.record_failure, lambda: (budget.tokens,))
    yield Case("budget.record_success", budget.record_success, lambda: (budget.tokens,))

    yield from of_histograms(shared("histogram", LatencyHistogram(*LAYOUT)))

    for window in Window:
        rate: dict[str, Any] = {"window": window, "window_size": 10, "minimum_calls": 3}
        rate["failure_rate_threshold"] = 0.9
        row: dict[str, Any] = {"failure_threshold": 3}
        rule = row if window is Window.CONSECUTIVE else rate
        config = CircuitBreakerConfig(open_timeout=1.0, half_open_max_calls=3, **rule)
        breaker = shared(f"breaker {window.name}", CircuitBreaker(config))

        def look(breaker: CircuitBreaker = breaker) -> Seen:
            state, metrics, wait = breaker.state, breaker.metrics(), breaker.retry_after()
            probes = 0
            while state is not state.CLOSED and breaker.is_call_allowed():
                probes += 1
            return (state, metrics.calls, metrics.failures, wait, probes)

        def look_after_more(breaker: CircuitBreaker = breaker) -> Seen:
            for _ in range(10):
                breaker.record_failure()
            return (breaker.state,)

        for name, operation in of_breaker(breaker):
            # Who is killed between counting a call in a window, that it failed, and opening the breaker
            # leaves that to later failures.
            opens = window is not Window.CONSECUTIVE and name == "record_failure that opens"
            see = look_after_more if opens else look
            parts = window is not Window.CONSECUTIVE and name.startswith("record")
            yield Case(f"{window.name.lower()} {name}", operation, looked(see), parts)

    def create() -> None:
        shared("new", Counter())

    # Of what was made for another try, nothing is left: the parent puts the memory back.
    yield Case("create an entry", create, lambda: (len(region.entries()),))
    create()
    yield Case("open an entry", create, lambda: (len(region.entries()),))


def of_histograms(histogram: LatencyHistogram) -> Iterator[Case]:
    many = LatencyHistogram(*LAYOUT)
    for value in (1, 2, 500, 5_000):
        many.record(value)
        histogram.record(value)
        histogram.record(value)

    def look() -> Seen:
        return (histogram.count, histogram.clamped)

    yield Case("histogram.record", lambda: histogram.record(77), look)
    yield Case("histogram.record over highest", lambda: histogram.record(7_777), look, parts=True)
    yield Case("histogram.record_corrected", lambda: histogram.record_corrected(900, 300), look, parts=True)
    yield Case("histogram.merge", lambda: histogram.merge(many), look, parts=True)
    yield Case("histogram.subtract", lambda: histogram.subtract(many), look, parts=True)
    yield Case("histogram.interval_histogram", histogram.interval_histogram, look, parts=True)
    yield Case("histogram.reset", histogram.reset, look, parts=True)


def of_breaker(breaker: CircuitBreaker) -> Iterator[tuple[str, Callable[[], object]]]:
    """From CLOSED with two failures, to OPEN, to HALF_OPEN with one call admitted."""
    clock = FrozenClock()
    breaker.record_failure()
    breaker.record_failure()
    yield "acquire when closed", breaker.acquire
    yield "record_success", breaker.record_success
    yield "record_failure that opens", breaker.record_failure
    yield "reset", breaker.reset
    yield "force_open", breaker.force_open
    yield "disable", breaker.disable
    yield "metrics_only", breaker.metrics_only
    breaker.record_failure()
    yield "acquire when open", breaker.acquire
    clock.advance(breaker.retry_after())
    yield "acquire that half-opens", breaker.acquire
    permit = breaker.acquire()
    yield "acquire when half-open", breaker.acquire
    yield "settle a success", lambda: breaker.settle(permit, CallOutcome.SUCCESS)
    yield "settle a failure", lambda: breaker.settle(permit, CallOutcome.FAILURE)
    yield "settle nothing", lambda: breaker.settle(permit, CallOutcome.IGNORED)
    for _ in range(2):
        breaker.settle(breaker.acquire(), CallOutcome.SUCCESS)
    yield "settle the success that closes", lambda: breaker.settle(permit, CallOutcome.SUCCESS)


def ptrace(request: int, pid: int) -> None:
    if libc.ptrace(request, pid, None, None) != 0:
        raise NotPermittedError(f"ptrace: {os.strerror(ctypes.get_errno())}")


def child_at_start(run: Callable[[], None]) -> int:
    """A child that is about to carry out the operation, and stands still."""
    pid = os.fork()
    if pid == 0:
        try:
            ptrace(TRACE_ME, 0)
            run()
        except NotPermittedError:
            os._exit(2)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if not os.WIFSTOPPED(status):
        raise NotPermittedError("ptrace is refused: see /proc/sys/kernel/yama/ptrace_scope, or seccomp")
    return pid


@dataclass
class Watched:
    """The memory, and how often it was seen to change."""

    buffer: mmap.mmap

    def __post_init__(self) -> None:
        self._now = ctypes.addressof(ctypes.c_char.from_buffer(self.buffer))
        self._last = ctypes.create_string_buffer(SIZE)

        self.changes = 0

    def begin(self) -> None:
        self.changes = 0
        ctypes.memmove(self._last, self._now, SIZE)

    def look(self) -> None:
        if libc.memcmp(self._now, self._last, SIZE) != 0:
            ctypes.memmove(self._last, self._now, SIZE)
            self.changes += 1


def killed(run: Callable[[], None], watched: Watched, *, store: int | None, step: int | None) -> int:
    """Kill the operation at this store, at this step or else at its end; return how many steps it made."""
    pid = child_at_start(run)
    steps = 0
    watched.begin()
    while watched.changes != store and steps != step:
        ptrace(SINGLE_STEP, pid)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSTOPPED(status):
            raise RuntimeError(f"the child ended with {status}")
        if os.WSTOPSIG(status) == signal.SIGSTOP:
            break
        steps += 1
        watched.look()
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
        raise RuntimeError(f"the child ended with {status}, not by SIGKILL")
    return steps


def verdict(seen: Seen, before: Seen, after: Seen, parts: bool) -> str:
    if seen in (before, after):
        return "before" if seen == before else "after"
    between = all(min(b, a) <= s <= max(b, a) for s, b, a in zip(seen, before, after, strict=True))
    return "between" if parts and between else "wrong"


def sweep(case: Case, run: Callable[[], None], watched: Watched, kill_at: str) -> Sweep:
    buffer = watched.buffer
    start = buffer[:]
    looks = [case.look()]
    for _ in range(2):
        case.operation()
        looks.append(case.look())
    before, after, again = looks
    result = Sweep()

    def kill(store: int | None = None, step: int | None = None) -> None:
        where = f"after store {store}" if step is None else f"after instruction {step}"
        buffer[:] = start
        killed(run, watched, store=store, step=step)
        result.kills += 1
        seen = case.look()
        result.left[found := verdict(seen, before, after, case.parts)] += 1
        if found == "wrong":
            result.wrong.append(f"{where}: {seen}, neither {before} nor {after}")
        Region(buffer, "a survivor's", BOOT, False)
        case.operation()
        least, most = (before, again) if case.parts else (after, again)
        if verdict(case.look(), least, most, case.parts) == "wrong":
            result.wrong.append(f"{where}, then done again: {case.look()}, neither {least} nor {most}")

    buffer[:] = start
    result.instructions = killed(run, watched, store=None, step=None)
    result.stores = watched.changes
    if case.look() != after:
        result.wrong.append(f"at the end: {case.look()}, not {after}")
    for store in range(result.stores + 1):
        kill(store=store)
    if kill_at == "instructions" and result.instructions <= MAX_INSTRUCTIONS:
        for step in range(result.instructions):
            kill(step=step)
    buffer[:] = start
    return result


def main(module: str, kill_at: str) -> dict[str, Any]:
    spec = spec_from_file_location("marked", module)
    assert spec is not None
    assert spec.loader is not None
    loaded = module_from_spec(spec)
    spec.loader.exec_module(loaded)
    buffer = mmap.mmap(-1, SIZE)
    watched = Watched(buffer)
    found: dict[str, Any] = {}
    with FrozenClock():
        try:
            for case in cases(buffer, Region(buffer, "arena of a test", BOOT, True)):
                run = lambda case=case: loaded.marked(case.operation)  # noqa: E731
                found[case.name] = vars(sweep(case, run, watched, kill_at))
        except NotPermittedError as error:
            return {"refused": str(error)}
    return found


if __name__ == "__main__":
    json.dump(main(*sys.argv[1:]), sys.stdout)
