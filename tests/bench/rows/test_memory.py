"""Rows of memory: what is counted, and when it is judged."""

from __future__ import annotations

import subprocess
import sys

from bench.harness.peers import OURS
from bench.harness.promises import CONNECTIONS, MEMORY
from bench.harness.results import MISS, PASS, Figure, Row
from bench.harness.run import Run
from bench.paths import ROOT
from bench.rows import memory, objects
from bench.workers.objects import BREAKER_OBJECT, BREAKER_STATE, METRICS


def judged(count: int, times: float) -> tuple[Row, list[str]]:
    figure = Figure(OURS, "connections", [count], {memory.TIMES: times})
    row = Row("connections", "idle connections", CONNECTIONS, [figure])
    return row, list(memory._judge(row, count))


def test_idle_connections_are_not_to_slow_a_call_down() -> None:
    for times, verdict in ((1.19, PASS), (1.21, MISS)):
        row, notes = judged(10_000, times)
        assert [target.verdict for target in row.targets] == [PASS, verdict]
        assert notes == []


def test_fewer_connections_than_are_promised_are_not_judged_by_the_promise() -> None:
    row, notes = judged(2_000, 1.0)
    assert row.targets == []
    assert notes == ["the promise is of 10,000: what 2,000 show is not judged"]


def test_connections_are_counted_and_a_call_beside_them_is_measured(run: Run) -> None:
    held, idle = memory.idle(run)
    ours = held.figure(OURS)
    assert ours is not None
    assert ours.values == [run.plan.idle_connections]
    assert ours.also[memory.TIMES] > 0
    assert held.targets == []
    [target] = idle.targets
    assert target.limit == MEMORY.limits["connection"]
    assert target.value is not None
    assert target.value > 0


def test_what_an_object_takes_is_seen_in_the_process() -> None:
    """In a process of its own, which has no memory left over from others."""
    code = (
        "from bench.workers.objects import of_each; print(of_each(lambda: bytearray(10_000), 5_000), end='')"
    )
    found = subprocess.run((sys.executable, "-c", code), cwd=ROOT, capture_output=True, check=True)
    assert 9_000 <= float(found.stdout) <= 11_000


def test_a_breaker_is_judged_by_its_state_and_as_an_object(run: Run) -> None:
    [row] = objects.objects(run)
    assert [target.what for target in row.targets] == [
        f"{BREAKER_STATE} <= 64 B",
        f"{BREAKER_OBJECT} <= 256 B",
        f"{METRICS} <= 1,024 B",
    ]
    assert all(target.value for target in row.targets)
