"""Our own call of each subject, saved together with what the peers took for theirs."""

import asyncio

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.peers import ours
from bench.peers.process import ROUNDS, calls_a_round, loop_of
from bench.peers.protocol import SUBJECTS
from bench.peers.reports import Report


@pytest.mark.parametrize("subject", SUBJECTS)
def test_beside_peers(benchmark: BenchmarkFixture, reports: list[Report], subject: str) -> None:
    benchmark.extra_info["peers"] = {
        report.package: {"version": report.version, **report.calls[subject]}
        for report in reports
        if subject in report.calls
    }
    benchmark.extra_info["not_installed"] = [report.package for report in reports if report.version is None]
    with asyncio.Runner() as runner:
        call = ours.peer().calls[subject]
        calls = benchmark.extra_info["calls"] = calls_a_round(call, runner)
        benchmark.pedantic(  # type: ignore[no-untyped-call]  # pytest-benchmark has no annotation here
            loop_of(call, calls, runner), rounds=ROUNDS
        )
