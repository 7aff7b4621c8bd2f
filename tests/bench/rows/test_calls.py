"""Rows of whole calls: who is compared with whom."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.harness.peers import BORROWED, GRPCIO, OURS, RESILIENT
from bench.harness.results import Row
from bench.harness.run import Run
from bench.rows import calls, load


@pytest.fixture(scope="module")
def rows(run: Run) -> dict[str, Row]:
    return {row.name: row for row in calls.unary(run)}


def test_a_call_over_tls_is_compared_with_ours_over_tls(run: Run, rows: dict[str, Row]) -> None:
    plain, tls = rows["unary"], rows["unary-tls"]
    for row in (plain, tls):
        ours, theirs = row.figure(OURS), row.figure(GRPCIO)
        assert ours is not None
        assert theirs is not None
        assert row.betters(theirs) == [a / b for a, b in zip(theirs.values, ours.values, strict=True)]
    assert {(peer, tls) for peer, _, tls in run.peers._clients} >= {
        (peer, tls) for peer in ("tai_aio", "grpcio_aio") for tls in (False, True)
    }
    assert plain.figure(OURS) != tls.figure(OURS)
    assert not any("TLS" in figure.who for row in rows.values() for figure in row.figures)


def test_who_has_the_client_of_another_is_not_compared(rows: dict[str, Row]) -> None:
    row = rows["unary"]
    assert BORROWED in row.uncompared
    assert BORROWED in row.note
    assert [row.betters(figure) for figure in row.figures if figure.who == BORROWED] == [()]


def test_the_layers_are_judged_when_the_client_is_busy_and_when_it_waits(run: Run) -> None:
    found = list(calls.resilience(run))
    assert [row.name for row in found] == ["resilience-busy", "resilience-alone"]
    for row in found:
        bare, resilient = row.figure(OURS), row.figure(RESILIENT)
        assert bare is not None
        assert resilient is not None
        assert len(bare.values) == run.plan.rounds * calls.PARTS
        [target] = row.targets
        assert target.value == row.more(RESILIENT, OURS)
        assert target.limit == 3


@pytest.mark.parametrize("module", ["tai_aio", "tai_client", "grpcio_aio", "grpcio_sync"])
def test_clients_of_python_have_as_many_connections_as_programs(apart: Run, module: str) -> None:
    before = connections(apart)
    load._client(apart, module, 20)(0.02)
    assert connections(apart) - before == load.CONNECTIONS


def connections(run: Run) -> int:
    """Return how many the server has."""
    port = f":{run.peers.server('tai_aio').port:04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(local.endswith(port) and state == "01" for _, local, _, state, *_ in lines)
