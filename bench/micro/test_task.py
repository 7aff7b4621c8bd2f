"""A handler as a task, on uvloop: one that returns at its first step, and one that waits for a turn.

Ours begins at once, asyncio's in the next turn; a hundred of them share a turn here. CallTask's target is
what a coroutine stepped by hand costs and 350 ns more.
"""

import asyncio
from collections.abc import Callable, Iterator

import pytest
import uvloop
from pytest_benchmark.fixture import BenchmarkFixture

from bench.loops import looped
from tai_grpc._ext.aio.task import CallTask
from tai_grpc._ext.aio.timers import Timer, timers_of
from tai_grpc._ext.primitives.clock import FrozenClock

TURNS = 100
A_TURN = 100
ROUNDS = 100
TARGET_NS = 350.0
ARMED = 1000

BY_HAND = "try: returns().send(None)\n except StopIteration: pass"
RETURNING = ("CallTask(returns(), loop)", "Task(returns(), loop=loop)")
WAITING = ("CallTask(waits(), loop)", "Task(waits(), loop=loop)")


async def returns() -> int:
    return 1


async def waits() -> None:
    await asyncio.sleep(0)


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield runner


@pytest.fixture(scope="module")
def costs(request: pytest.FixtureRequest) -> Iterator[dict[str, float]]:
    """Nanoseconds by statement; reported when all are there."""
    found: dict[str, float] = {}
    yield found
    if len(found) == 5:
        above = found[RETURNING[0]] - found[BY_HAND]
        lines = [f"{ns:8.1f} ns  {' '.join(statement.split())}" for statement, ns in found.items()]
        lines.append(
            f"CallTask, above the coroutine: {above:.0f} ns {'PASS' if above <= TARGET_NS else 'OVER'}"
        )
        for how, (ours, theirs) in (("returning", RETURNING), ("waiting", WAITING)):
            lines.append(f"asyncio.Task / CallTask, {how}: {found[theirs] / found[ours]:.2f}")
        capture = request.config.pluginmanager.get_plugin("capturemanager")
        assert capture is not None
        with capture.global_and_fixture_disabled():
            print("", *lines, sep="\n")


@pytest.mark.parametrize("statement", [BY_HAND, *RETURNING, *WAITING])
def test_make_and_run_to_its_end(
    benchmark: BenchmarkFixture, runner: asyncio.Runner, costs: dict[str, float], statement: str
) -> None:
    names: dict[str, object] = {
        "loop": runner.get_loop(),
        "CallTask": CallTask,
        "Task": asyncio.Task,
        "returns": returns,
        "waits": waits,
        "turn": asyncio.sleep,
    }

    def turns(body: str) -> Callable[[], int]:
        batch = f"for _ in repeat(None, {A_TURN}):\n {body}\nawait turn(0)\nawait turn(0)"
        return looped(batch, names, TURNS, runner)

    call, empty = turns(statement), turns("pass")
    times: list[int] = []
    empties: list[int] = []
    benchmark.extra_info["calls"] = TURNS * A_TURN
    benchmark.pedantic(  # type: ignore[no-untyped-call]  # pytest-benchmark has no annotation here
        lambda: times.append(call()), setup=lambda: empties.append(empty()), rounds=ROUNDS, warmup_rounds=2
    )
    if benchmark.stats is not None:
        costs[statement] = (min(times) - min(empties)) / (TURNS * A_TURN)
        benchmark.extra_info["ns"] = costs[statement]


@pytest.mark.parametrize("which", ["newest", "oldest"])
def test_arm_and_disarm(benchmark: BenchmarkFixture, runner: asyncio.Runner, which: str) -> None:
    """Beside a thousand that are armed: at the end of the heap, and through all of it."""
    timers = timers_of(runner.get_loop())
    with FrozenClock() as clock:
        now = clock.now_ns
    others = [Timer(print) for _ in range(ARMED)]
    for place, other in enumerate(others):
        timers.arm(other, now + 10**12 + place * 10**6)
    names: dict[str, object] = {
        "timers": timers,
        "timer": Timer(print),
        "deadline": now + (2 * 10**12 if which == "newest" else 10**12),
    }
    loop = looped("timers.arm(timer, deadline); timers.disarm(timer)", names, TURNS)
    benchmark.extra_info["calls"] = TURNS
    benchmark.pedantic(loop, rounds=ROUNDS, warmup_rounds=2)  # type: ignore[no-untyped-call]
    timers.close()
