"""Nanoseconds a call, beside a compiled call that does nothing and was made in the same way.

Each round times an empty loop, the no-op and the call, one after the other, so all three see the same
machine; the least of each counts, and the loop is subtracted.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.timing import looped
from tai_grpc._ext.primitives.noop import Noop

CALLS = 10_000
ROUNDS = 200


@dataclass
class Row:
    call: str
    ns: float
    noop_ns: float
    at_most: float | None
    of: str | None

    @property
    def ratio(self) -> float:
        return self.ns / self.noop_ns

    @property
    def verdict(self) -> str:
        if self.at_most is None:
            return ""
        ratio, unit = self.ratio, ""
        if self.of is not None:
            ratio = self.ns / next(row.ns for row in ROWS if row.call == self.of)
            unit = f" x {self.of}: {ratio:.2f}"
        return f"<= {self.at_most:.3g}{unit}  {'PASS' if ratio <= self.at_most else 'OVER'}"


ROWS: list[Row] = []


@pytest.fixture
def per_call(benchmark: BenchmarkFixture) -> Callable[..., None]:
    """Measure `statement` beside the `noop` statement.

    `at_most` is the ratio to reach: to the no-op, or to `of`, a statement measured before.
    """

    def measure(
        statement: str, noop: str, *, at_most: float | None = None, of: str | None = None, **names: object
    ) -> None:
        call = looped(statement, names, CALLS)
        nothing, empty = looped(noop, {"noop": Noop()}, CALLS), looped("pass", {}, CALLS)
        beside: list[tuple[int, int]] = []
        benchmark.extra_info["calls"] = CALLS
        benchmark.pedantic(  # type: ignore[no-untyped-call]  # pytest-benchmark has no annotation here
            call, setup=lambda: beside.append((empty(), nothing())), rounds=ROUNDS, warmup_rounds=2
        )
        if benchmark.stats is not None:
            loop_ns = min(times[0] for times in beside)
            noop_ns = min(times[1] for times in beside) - loop_ns
            ns = benchmark.stats.stats.min * 1e9 - loop_ns
            row = Row(statement, ns / CALLS, noop_ns / CALLS, at_most, of)
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
