"""Runs so short that they show what a row is made of, and nothing of how fast it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO

import pytest

from bench.harness.peers import Peers
from bench.harness.progress import Progress
from bench.harness.run import Plan, Run

PLAN = Plan(rounds=2, seconds=0.02, idle_connections=20, held_calls=100, repeats=1)


@contextmanager
def started() -> Iterator[Run]:
    peers = Peers()
    yield Run(PLAN, peers, Progress({}, StringIO()))
    peers.end()


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    with started() as run:
        yield run


@pytest.fixture(scope="module")
def apart() -> Iterator[Run]:
    """One whose servers have no client yet."""
    with started() as run:
        yield run
