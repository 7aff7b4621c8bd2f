"""What the engines of a run are made with."""

from __future__ import annotations

import os
import resource
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from load.report.results import CONSTANT_RATE, plan
from tai_grpc.errors import ConfigError
from tai_grpc.load.engines import WHOLE, open_engines
from tai_grpc.load.gathering import bounded

SOCKET = ("unix:/no/such/socket",)


@pytest.fixture(autouse=True)
def transport() -> None:
    """Nothing here is sent: no test runs twice."""


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        ({"timeout": 5.0}, 60.0),
        ({"timeout": 600.0}, 1200.0),
        ({"schedule": CONSTANT_RATE, "total": None, "duration": 80.0, "timeout": 5.0}, 85.0),
        ({"schedule": CONSTANT_RATE, "timeout": 5.0}, 4 * 3600.0),
    ],
)
def test_latencies_and_lags_are_told_apart_as_far_as_they_can_go(
    changes: dict[str, Any], seconds: float
) -> None:
    """A call that is due at the beginning may be sent at the end, and then take as long as any."""
    with open_engines(plan(hosts=SOCKET, **changes), WHOLE) as engines:
        histograms = (engines.targets[0].latencies, engines.engines[0].send_lag)
        for histogram in histograms:
            histogram.record(round(seconds * 1e9))
            assert histogram.clamped == 0


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    next_one = os.open(os.devnull, os.O_RDONLY)
    os.close(next_one)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_one + 10, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_threads_for_which_there_are_no_descriptors_are_refused(few_descriptors: None) -> None:
    before = descriptors()
    wanted = plan(hosts=SOCKET, threads=20, connections=20)
    refused = pytest.raises(ConfigError, match="threads=20: expected no more than there are descriptors for")
    with refused, open_engines(wanted, WHOLE):
        pass
    assert descriptors() == before


def test_of_many_errors_the_commonest_are_kept_and_the_others_are_one_of_each_code() -> None:
    errors = Counter({f"NOT_FOUND: {number}": 10 + number for number in range(120)})
    errors["NOT_FOUND: other errors"] = 1000
    errors["ABORTED: once: and"] = 1
    kept = bounded(errors)
    assert kept.total() == errors.total()
    assert len(kept) == 102
    assert kept["NOT_FOUND: other errors"] == 1000 + sum(10 + number for number in range(20))
    assert kept["ABORTED: other errors"] == 1
    assert kept["NOT_FOUND: 20"] == 30
