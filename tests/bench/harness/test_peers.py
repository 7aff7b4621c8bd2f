"""Servers and clients of a run: where they listen, what one that dies costs, and who comes back."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest

from bench.harness import peers as module
from bench.harness.peers import Peers
from bench.harness.processes import PeerFailedError, Process
from bench.harness.progress import Progress
from bench.harness.results import FAILED, Promise, Row
from bench.harness.run import Plan, Run
from bench.peers.rpc.protocol import Figures, NotBuiltError

PROMISE = Promise("calls", "-", "-")
ASKED = json.dumps({"measure": "sequential", "seconds": 0.01})
FAILS_ONCE = """#!{python}
import pathlib, sys
marker = pathlib.Path({marker!r})
if not marker.exists():
    marker.touch()
    sys.exit("the address is in use")
print('{{"ready": true, "port": 1}}', flush=True)
sys.stdin.read()
"""


@pytest.fixture
def peers() -> Iterator[Peers]:
    peers = Peers()
    yield peers
    peers.end()


def kill(process: Process) -> None:
    """Return when it is dead, and so has closed its connections."""
    pid = process._process.pid
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


@pytest.mark.parametrize("peer", ["tai_aio", "grpcio_aio", "grpcio_sync", "tcp_ping_pong"])
def test_every_server_finds_a_port_of_its_own(peers: Peers, peer: str) -> None:
    """Nothing can take it between its being found and its being used."""
    first, second = peers.fresh_server(peer), peers.fresh_server(peer)
    assert first.port != second.port
    client = peers.another_client(peer, second)
    assert client.ask(ASKED)["p50_us"] > 0
    assert client.runs


def test_one_that_has_died_is_started_again(peers: Peers) -> None:
    server, client = peers.server("tai_aio"), peers.client("tai_aio", "tai_aio")
    assert (peers.server("tai_aio"), peers.client("tai_aio", "tai_aio")) == (server, client)
    kill(server.process)
    # The client still runs, and is of no use without its server.
    another = peers.client("tai_aio", "tai_aio")
    assert another is not client
    assert peers.server("tai_aio") is not server
    assert another.ask(ASKED)["p50_us"] > 0


def test_one_that_did_not_start_has_failed_and_may_start_the_next_time(
    peers: Peers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "program"
    program.write_text(FAILS_ONCE.format(python=sys.executable, marker=str(tmp_path / "marker")))
    program.chmod(0o755)
    monkeypatch.setitem(module.PROGRAMS, "tonic", (program,))
    with pytest.raises(PeerFailedError, match=r"^tonic server ended: the address is in use$"):
        peers.server("tonic")
    assert peers.server("tonic").process.runs


def test_a_program_that_cannot_be_executed_has_failed(
    peers: Peers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\0")
    program.chmod(0o755)
    monkeypatch.setitem(module.PROGRAMS, "tonic", (program,))
    with pytest.raises(PeerFailedError, match=r"^tonic server cannot be started: Exec format error$"):
        peers.server("tonic")


def test_one_that_is_not_built_is_not_asked_for_again(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.PROGRAMS, "tonic", (Path("/nonexistent"),))
    with pytest.raises(NotBuiltError) as first:
        peers.server("tonic")
    monkeypatch.setitem(module.PROGRAMS, "tonic", (Path(sys.executable),))
    with pytest.raises(NotBuiltError) as second:
        peers.server("tonic")
    assert str(first.value) == str(second.value)


def test_a_server_that_dies_in_a_row_is_blamed_and_its_target_is_failed(peers: Peers) -> None:
    """Not its client, which only sees a connection that is lost."""
    client, server = peers.client("grpcio_aio", "grpcio_aio"), peers.server("grpcio_aio")
    rounds = 0

    def theirs(seconds: float) -> Figures:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            kill(server.process)
        return client.ask(ASKED)

    def ours(seconds: float) -> Figures:
        return {"p50_us": 1.0}

    plan = Plan(rounds=3, seconds=0.01, idle_connections=1, held_calls=1, repeats=1)
    run = Run(plan, peers, Progress({}, StringIO()))
    figures = run.rounds("calls", {"theirs": theirs, "ours": ours}, "us", "p50_us", {})
    assert [figure.absent for figure in figures] == ["failed: grpcio_aio server ended by SIGKILL", None]
    row = Row("unary", "calls", PROMISE, figures)
    row.at_most("ours", 1, "theirs")
    assert [target.verdict for target in row.targets] == [FAILED]
