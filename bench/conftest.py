"""What pytest-benchmark leaves out: percentiles, saved with every benchmark, and an end in a line."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from pytest_benchmark.session import PerformanceRegression

from bench.percentiles import supported

BEYOND = 5
"""How many rounds are to lie beyond a percentile; a round of compiled calls has a thousand of them."""


@pytest.fixture(autouse=True)
def percentiles(benchmark: BenchmarkFixture) -> Iterator[None]:
    """Save those of the rounds that there are rounds enough for, in seconds."""
    yield
    if benchmark.stats is not None:
        rounds = benchmark.stats.stats.data
        benchmark.extra_info |= {
            f"p{each:g}": float(np.percentile(rounds, each)) for each in supported(len(rounds), BEYOND)
        }


@pytest.hookimpl(wrapper=True)
def pytest_terminal_summary() -> Generator[None, None, None]:
    """Leave out the traceback of what has been said by then: which benchmarks are slower, and by how much."""
    try:
        return (yield)
    except PerformanceRegression:
        pytest.exit("slower than what was saved, by more than the threshold", returncode=1)
