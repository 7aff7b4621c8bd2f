"""What pytest-benchmark leaves out: percentiles, saved with every benchmark, and an end in a line."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from pytest_benchmark.session import PerformanceRegression

PERCENTILES = (50, 90, 99, 99.9)


@pytest.fixture(autouse=True)
def percentiles(benchmark: BenchmarkFixture) -> Iterator[None]:
    """Save those of the rounds, in seconds."""
    yield
    if benchmark.stats is not None:
        found = np.percentile(benchmark.stats.stats.data, PERCENTILES)
        benchmark.extra_info |= {
            f"p{name:g}": float(value) for name, value in zip(PERCENTILES, found, strict=True)
        }


@pytest.hookimpl(wrapper=True)
def pytest_terminal_summary() -> Generator[None, None, None]:
    """Leave out the traceback of what has been said by then: which benchmarks are slower, and by how much."""
    try:
        return (yield)
    except PerformanceRegression:
        pytest.exit("slower than what was saved, by more than the threshold", returncode=1)
