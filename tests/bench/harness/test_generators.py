"""Load generators as the benchmarks run them: what they say is read, and is not believed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from bench.harness import generators
from bench.harness.generators import GHZ, H2LOAD, Generator, Load
from bench.harness.peers import Peers, Server
from bench.harness.processes import PeerFailedError
from bench.peers.rpc.protocol import NotBuiltError

LOAD = Load(calls=20, connections=2, streams=5)
REPORT = {
    "rps": 1234.5,
    "statusCodeDistribution": {"OK": 20},
    "latencyDistribution": [
        {"percentage": 50, "latency": 5_000_000},
        {"percentage": 75, "latency": 6_000_000},
        {"percentage": 99, "latency": 9_500_000},
    ],
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    peers = Peers()
    yield peers.server("tai_aio")
    peers.end()


def says(text: str) -> Generator:
    """A program that makes no call and says what it is told to."""
    return replace(
        GHZ,
        name="liar",
        program=lambda: sys.executable,
        arguments=lambda server, load: ("-c", f"print({text!r})"),
    )


def test_h2load_is_read() -> None:
    text = (
        "finished in 3.01s, 162345.67 req/s, 12.34MB/s\n"
        "requests: 500 total, 500 started, 500 done, 499 succeeded, 1 failed, 0 errored, 0 timeout\n"
    )
    outcome = H2LOAD.read(text)
    assert (outcome.succeeded, outcome.figures) == (499, {"per_second": 162345.67})
    with pytest.raises(ValueError, match="could not resolve"):
        H2LOAD.read("could not resolve host")


def test_the_layout_of_ghz_is_read() -> None:
    outcome = GHZ.read(json.dumps(REPORT))
    assert outcome.succeeded == 20
    assert outcome.figures == {"per_second": 1234.5, "p50_us": 5000.0, "p99_us": 9500.0}


def test_a_run_in_which_no_call_succeeded_has_no_latencies() -> None:
    failed = {**REPORT, "statusCodeDistribution": {"Unavailable": 20}, "latencyDistribution": None}
    assert GHZ.read(json.dumps(failed)).succeeded == 0


def test_calls_that_the_server_never_saw_are_found_out(server: Server) -> None:
    with pytest.raises(PeerFailedError, match=r"20 calls, liar took 20 for good, tai_aio server handled 0"):
        generators.run(says(json.dumps(REPORT)), server, LOAD)


def test_a_program_that_fails_is_quoted(server: Server) -> None:
    with pytest.raises(PeerFailedError, match=r"^liar: no such service$"):
        generators.run(says("usage:\nno such service"), server, LOAD)
    with pytest.raises(PeerFailedError, match=r"^liar: said nothing$"):
        generators.run(says(""), server, LOAD)


def test_a_program_that_is_missing_is_not_built(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NotBuiltError, match="install nghttp2-client"):
        generators.run(H2LOAD, server, LOAD)
