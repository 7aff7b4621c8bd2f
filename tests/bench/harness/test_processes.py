"""The processes of a run: what they say, and what is said of one that ends."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from bench.harness.processes import CLIENTS, PeerFailedError, Process
from bench.peers.rpc.protocol import NotBuiltError

ANSWERS = """
import sys
print('{"versions": {"peer": "1.0"}}', flush=True)
print('{"ready": true}', flush=True)
for line in sys.stdin:
    if line == "die\\n":
        sys.exit("it is broken")
    print('{"said": ' + line.strip() + '}', flush=True)
"""


@pytest.fixture
def process() -> Iterator[Process]:
    process = Process("a peer", [sys.executable, "-c", ANSWERS], CLIENTS)
    yield process
    process.end()


def test_a_line_is_answered(process: Process) -> None:
    process.until_ready()
    assert process.versions == {"peer": "1.0"}
    assert [process.ask("1"), process.ask("2")] == [{"said": 1}, {"said": 2}]
    assert process.runs
    assert process.resident_bytes > 1_000_000


def test_one_that_ends_is_quoted_and_stays_ended(process: Process) -> None:
    """A row goes on without it, and so do the rows to come."""
    process.until_ready()
    with pytest.raises(PeerFailedError, match=r"^a peer ended: it is broken$"):
        process.ask("die")
    assert not process.runs
    for _ in range(2):
        with pytest.raises(PeerFailedError, match=r"^a peer ended before$"):
            process.ask("1")


def test_one_that_says_it_cannot_be_run_is_not_built() -> None:
    said = """print('{"not_built": "no uvloop here"}')"""
    process = Process("a peer", [sys.executable, "-c", said], CLIENTS)
    with pytest.raises(NotBuiltError, match=r"^no uvloop here$"):
        process.until_ready()
    assert not process.runs
