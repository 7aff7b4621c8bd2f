"""Rows of a server's memory: what is left of them when a run is interrupted."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO

import pytest

from bench.harness.peers import GRPCIO, OURS, Peers, Server
from bench.harness.progress import Progress
from bench.harness.run import Plan, Run
from bench.peers.rpc.protocol import Figures
from bench.rows.memory import measure_all


@pytest.fixture
def run() -> Iterator[Run]:
    peers = Peers()
    plan = Plan(rounds=1, seconds=0.01, idle_connections=1, held_calls=1, repeats=2)
    yield Run(plan, peers, Progress({}, StringIO()))
    peers.end()


def measured(server: Server) -> Figures:
    return {"bytes": float(server.process.resident_bytes)}


def interrupted(server: Server) -> Figures:
    raise KeyboardInterrupt


def test_those_that_were_measured_before_an_interruption_are_kept(run: Run) -> None:
    found = measure_all(run, "memory", {OURS: measured, GRPCIO: interrupted, "grpcio sync": measured})
    assert list(found) == [OURS]
    figures = found[OURS]
    assert isinstance(figures, list)
    assert len(figures) == 2
    assert run.interrupted


def test_an_interruption_before_ours_is_measured_leaves_nothing(run: Run) -> None:
    with pytest.raises(KeyboardInterrupt):
        measure_all(run, "memory", {OURS: interrupted, GRPCIO: measured})
