"""What pytest-benchmark's own statistics leave out: percentiles, saved with every benchmark."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

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
