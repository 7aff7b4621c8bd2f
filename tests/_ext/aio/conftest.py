import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from _ext.aio.kinds import OURS, THEIRS, Kind, Reports, Run
from _ext.compiling import compile_and_load


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner


@pytest.fixture(params=[THEIRS, OURS], ids=lambda kind: kind.name)
def task(request: pytest.FixtureRequest) -> Kind:
    kind: Kind = request.param
    return kind


@pytest.fixture
def run(runner: asyncio.Runner) -> Run:
    """Run a coroutine to its end in a loop of the test's own, asyncio's and uvloop's."""
    return runner.run


@pytest.fixture
def reports(runner: asyncio.Runner) -> Reports:
    """What the loop's exception handler is told."""
    told: Reports = []
    runner.get_loop().set_exception_handler(lambda _, report: told.append(report))
    return told


@pytest.fixture(scope="session")
def derived(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """derived.pyx, compiled as code outside of the package would be."""
    return compile_and_load(Path(__file__).with_name("derived.pyx"), tmp_path_factory.mktemp("derived"))
