"""Our own figures of the rows of whole calls, for pytest-benchmark to save and to compare.

What is measured is measured by the row's own code, in processes of its own; the time that pytest-benchmark
sees is what a call took there, in seconds: the median, or the inverse of how many there were a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.harness import generators
from bench.harness.peers import OURS, RESILIENT, Peers
from bench.harness.progress import Progress
from bench.harness.run import FULL, WARM_UP, Measure, Run, told
from bench.peers.rpc.protocol import Figures, NotBuiltError
from bench.rows import calls, load


def of(who: str, name: str, arguments: Mapping[str, int] | None = None) -> Callable[[Run], Measure]:
    return lambda run: calls.measure(run, who, name, arguments)


CASES: dict[str, Callable[[Run], Measure]] = {
    "unary": of(OURS, "sequential"),
    "unary, resilient": of(RESILIENT, "sequential"),
    "single client": of(OURS, "concurrent", calls.BUSY),
    "single client, resilient": of(RESILIENT, "concurrent", calls.BUSY),
    **{f"streaming, {way}": of(OURS, way) for way in calls.STREAMS},
    "ten clients": lambda run: load.measure(run, generators.OURS, "tai_aio", load.JUDGED),
}


class Meter:
    """A clock that goes on by what was measured."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


METER = Meter()


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    peers = Peers()
    yield Run(FULL, peers, Progress({}))
    peers.end()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.benchmark(timer=METER)
def test_calls(benchmark: BenchmarkFixture, run: Run, name: str) -> None:
    """The percentiles of single calls, where the row has them, are saved as medians of the rounds."""
    measure = CASES[name](run)
    try:
        measure(run.plan.seconds * WARM_UP)
    except NotBuiltError as error:
        pytest.skip(str(error))
    found: list[Figures] = []

    def once() -> None:
        figures = measure(run.plan.seconds)
        found.append(figures)
        METER.seconds += figures["p50_us"] / 1e6 if name.startswith("unary") else 1 / figures["per_second"]

    benchmark.pedantic(once, rounds=run.plan.rounds)  # type: ignore[no-untyped-call]
    for figure in told(found):
        values = sorted(each[figure] for each in found)
        benchmark.extra_info[figure] = values[len(values) // 2]
