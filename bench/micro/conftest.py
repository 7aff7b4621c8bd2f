"""Nanoseconds a call, beside a compiled call that does nothing and was made in the same way.

Each round times an empty loop, the no-op and the call, one after the other, so all three see the same
machine; the least of each counts, and the loop is subtracted.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import repeat
from time import perf_counter_ns

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tai_grpc._ext.primitives.noop import Noop

CALLS = 10_000
ROUNDS = 200

Loop = Callable[[], None]


@dataclass
class Row:
    call: str
    ns: float
    noop_ns: float
    at_most: float | None

    @property
    def ratio(self) -> float:
        return self.ns / self.noop_ns

    @property
    def verdict(self) -> str:
        if self.at_most is None:
            return ""
        return f"<= {self.at_most:g}  {'PASS' if self.ratio <= self.at_most else 'OVER'}"


ROWS: list[Row] = []


def looped(statement: str, names: dict[str, object]) -> Loop:
    """A function that runs `statement` CALLS times, its names as local variables."""
    namespace: dict[str, object] = {"repeat": repeat, **{f"_{name}": value for name, value in names.items()}}
    parameters = ", ".join(f"{name}=_{name}" for name in names)
    exec(f"def loop({parameters}):\n for _ in repeat(None, {CALLS}):\n  {statement}", namespace)
    loop = namespace["loop"]
    assert callable(loop)
    return loop


def timed(loop: Loop) -> int:
    start = perf_counter_ns()
    loop()
    return perf_counter_ns() - start


@pytest.fixture
def per_call(benchmark: BenchmarkFixture) -> Callable[..., None]:
    """Measure `statement` beside the `noop` statement; `at_most`: the ratio to reach."""

    def measure(statement: str, noop: str, *, at_most: float | None = None, **names: object) -> None:
        call = looped(statement, names)
        nothing, empty = looped(noop, {"noop": Noop()}), looped("pass", {})
        beside: list[tuple[int, int]] = []
        benchmark.extra_info["calls"] = CALLS
        benchmark.pedantic(  # type: ignore[no-untyped-call]  # pytest-benchmark has no annotation here
            call, setup=lambda: beside.append((timed(empty), timed(nothing))), rounds=ROUNDS, warmup_rounds=2
        )
        if benchmark.stats is not None:
            loop_ns = min(times[0] for times in beside)
            noop_ns = min(times[1] for times in beside) - loop_ns
            ns = benchmark.stats.stats.min * 1e9 - loop_ns
            row = Row(statement, ns / CALLS, noop_ns / CALLS, at_most)
            benchmark.extra_info |= {"ns": row.ns, "noop_ns": row.noop_ns, "ratio": row.ratio}
            ROWS.append(row)

    return measure


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not ROWS:
        return
    width = max(len(row.call) for row in ROWS)
    terminalreporter.section("a call beside a compiled call that does nothing")
    terminalreporter.write_line(f"{'':{width}}  {'ns':>8}  {'no-op':>6}  {'ratio':>6}  target")
    for row in ROWS:
        terminalreporter.write_line(
            f"{row.call:{width}}  {row.ns:8.1f}  {row.noop_ns:6.1f}  {row.ratio:6.2f}  {row.verdict}"
        )
