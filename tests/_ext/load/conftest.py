import asyncio
import importlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from _ext.compiling import compile_and_load
from _ext.load.rig import Rig
from aio.certificates import Certificates

# A run that takes longer waits for something that will not come.
LIMIT = 60.0


@pytest.fixture(params=["tai_grpc.aio", "grpc.aio"], ids=["native", "grpcio"])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    """Servers of each implementation, and engines for them; all are stopped at the end."""
    async with asyncio.timeout(LIMIT), Rig(importlib.import_module(request.param)) as rig:
        yield rig


@pytest.fixture
async def native() -> AsyncIterator[Rig]:
    """The same, on our own server alone: for what does not depend on whose the server is."""
    async with asyncio.timeout(LIMIT), Rig(importlib.import_module("tai_grpc.aio")) as rig:
        yield rig


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def streams_left(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """streams_left.pyx, compiled: what it does nobody needs but a test."""
    return compile_and_load(
        Path(__file__).with_name("streams_left.pyx"), tmp_path_factory.mktemp("streams_left")
    )
