import asyncio
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import settings

import tai_grpc
from _ext.aio.kinds import OURS, THEIRS, Kind, Reports, Run

# How long an example takes is no property of the code.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


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
    folder = tmp_path_factory.mktemp("derived")
    source, generated = Path(__file__).with_name("derived.pyx"), folder / "derived.c"
    module = folder / f"derived{sysconfig.get_config_var('EXT_SUFFIX')}"
    interfaces = Path(tai_grpc.__file__).parents[1]
    cython = [sys.executable, "-m", "cython", f"-I{interfaces}", "-o", str(generated), str(source)]
    subprocess.run(cython, check=True)
    compiler = [*shlex.split(sysconfig.get_config_var("CC")), "-O1", "-shared", "-fPIC"]
    include = sysconfig.get_path("include")
    subprocess.run([*compiler, f"-I{include}", str(generated), "-o", str(module)], check=True)
    spec = spec_from_file_location("derived", module)
    assert spec is not None
    assert spec.loader is not None
    loaded = module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded
