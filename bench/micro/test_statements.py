"""Each compiled call of the rows; a round is CALLS of them in a loop."""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.micro.statements import STATEMENTS
from bench.workers.compiled import CALLS, loops_of

ROUNDS = 500


@pytest.mark.parametrize("name", STATEMENTS)
def test_statement(benchmark: BenchmarkFixture, name: str) -> None:
    """Beside a no-op, whose nanoseconds are saved too: they tell a slower machine from slower code."""
    loops = loops_of(name)
    noops: list[int] = []
    benchmark.extra_info["calls"] = CALLS
    benchmark.pedantic(  # type: ignore[no-untyped-call]  # pytest-benchmark has no annotation here
        loops["call"], setup=lambda: noops.append(loops["noop"]()), rounds=ROUNDS, warmup_rounds=2
    )
    benchmark.extra_info["noop_ns"] = min(noops) / CALLS
