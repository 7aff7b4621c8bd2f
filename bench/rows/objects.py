"""The row of what the objects of a program take of its memory."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from bench.harness.processes import CLIENTS, python
from bench.harness.promises import MEMORY
from bench.harness.results import Figure, Row
from bench.harness.run import Run
from bench.workers.objects import BREAKER_OBJECT, BREAKER_STATE, MEASURES, METRICS


def objects(run: Run) -> Iterator[Row]:
    """Each kind found out in processes of its own."""
    what = "memory of one object in a program"
    found: dict[str, list[float]] = {}
    for number in range(run.plan.repeats):
        for name in MEASURES:
            run.progress.show(f"{what}: {number + 1} of {run.plan.repeats}, {name}")
            found.setdefault(name, []).append(_bytes_of(name))
    row = Row("objects", what, MEMORY, [Figure(name, "B", each) for name, each in found.items()])
    row.method = (
        "by how much a process grows in the machine's memory when it makes many, over their number; the "
        f"median of {run.plan.repeats} processes. The {BREAKER_STATE} is what an arena or a balancer keeps "
        "of one, and no growth: its size in whole cache lines, as its memory says"
    )
    limits = MEMORY.limits
    for name, limit in (
        (BREAKER_STATE, limits["state"]),
        (BREAKER_OBJECT, limits["breaker"]),
        (METRICS, limits["metrics"]),
    ):
        row.judge(f"{name} <= {limit:,.0f} B", limit, median(found[name]), "B")
    yield row


def _bytes_of(what: str) -> float:
    process = python(f"memory of {what}", "bench.workers.objects", what, cpu=CLIENTS)
    try:
        process.until_ready()
        found = process.ask("measure")["bytes"]
    finally:
        process.end()
    assert isinstance(found, float)
    return found
