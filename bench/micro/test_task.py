"""A handler that returns at its first step, by hand and as a task, and beside it asyncio's own task.

CallTask's target is what a coroutine stepped by hand costs and 350 ns more; the ratios say the rest.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import uvloop
from pytest_benchmark.fixture import BenchmarkFixture

from bench.timing import looped
from tai_grpc._ext.aio.task import CallTask
from tai_grpc._ext.aio.timers import Timer, timers_of
from tai_grpc._ext.primitives.clock import FrozenClock

TASKS = 10_000
ROUNDS = 100
TARGET_NS = 350.0
ARMED = 1000


@dataclass
class Row:
    statement: str
    ns: float


ROWS: list[Row] = []


async def returns() -> int:
    return 1


async def waits() -> None:
    await asyncio.sleep(0)


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield runner
    if len(ROWS) == 5:
        report()


def report() -> None:
    by_hand, ours, theirs, ours_waiting, theirs_waiting = (row.ns for row in ROWS)
    for row in ROWS:
        print(f"\n{row.ns:8.1f} ns  {row.statement}", end="")
    above = ours - by_hand
    print(f"\nCallTask above the coroutine: {above:.1f} ns, {'PASS' if above <= TARGET_NS else 'OVER'}")
    print(f"asyncio.Task / CallTask: {theirs / ours:.2f}, with one wait {theirs_waiting / ours_waiting:.2f}")


@pytest.mark.parametrize(
    "statement",
    [
        "try: returns().send(None)\nexcept StopIteration: pass",
        "CallTask(returns(), loop)",
        "await Task(returns(), loop=loop)",
        "await CallTask(waits(), loop)",
        "await Task(waits(), loop=loop)",
    ],
)
def test_make_and_run_to_its_end(benchmark: BenchmarkFixture, runner: asyncio.Runner, statement: str) -> None:
    names: dict[str, object] = {
        "loop": runner.get_loop(),
        "CallTask": CallTask,
        "Task": asyncio.Task,
        "returns": returns,
        "waits": waits,
    }
    call, empty = looped(statement, names, TASKS, runner), looped("pass", {}, TASKS, runner)
    times: list[int] = []
    empties: list[int] = []
    benchmark.extra_info["calls"] = TASKS
    benchmark.pedantic(  # type: ignore[no-untyped-call]  # pytest-benchmark has no annotation here
        lambda: times.append(call()), setup=lambda: empties.append(empty()), rounds=ROUNDS, warmup_rounds=2
    )
    if benchmark.stats is not None:
        ROWS.append(Row(statement, (min(times) - min(empties)) / TASKS))
        benchmark.extra_info["ns"] = ROWS[-1].ns


def test_arm_and_disarm(per_call: Callable[..., None], runner: asyncio.Runner) -> None:
    """Beside a thousand that are armed."""
    timers = timers_of(runner.get_loop())
    with FrozenClock() as clock:
        now = clock.now_ns
    others = [Timer(print) for _ in range(ARMED)]
    for place, other in enumerate(others):
        timers.arm(other, now + 10**12 + place * 10**6)
    statement = "timers.arm(entry, deadline); timers.disarm(entry)"
    names = {"timers": timers, "entry": Timer(print), "deadline": now + 2 * 10**12}
    per_call(statement, "noop.one(1); noop.one(1)", **names)
    timers.close()
