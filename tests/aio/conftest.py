"""What grpc.aio does, asked of every implementation of its names.

To add an implementation, add a line to IMPLEMENTATIONS in implementations.py: the module with grpc.aio's
names, and the module that makes its credentials (`ssl_channel_credentials` and the like, which grpcio keeps
in `grpc`). Every test here then runs on it as well, and tests/interop runs it against every other one. The
tests reach an implementation by three fixtures only: `rpc`, the module; `creds`, its credentials' module;
`link`, which starts servers and opens channels of it and closes them.

What a test asserts: codes, messages and their order, metadata, exceptions, and the details where users read
them. Where grpc.aio has a defect, the test says so, and forgives it to grpc.aio alone (`link.is_grpcio`)
where it is plain what is right.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from aio.background import Background
from aio.certificates import Certificates
from aio.implementations import IMPLEMENTATIONS
from aio.link import Link
from interop.generated import Generated, generated
from tai_grpc.aio import BlockingChannel, blocking_channel

# A test that waits longer waits for something that will not come; the slowest takes about two seconds.
LIMIT = 30.0


@pytest.fixture(params=sorted(IMPLEMENTATIONS))
def rpc(request: pytest.FixtureRequest) -> Any:
    """Return the module under test."""
    return importlib.import_module(request.param)


@pytest.fixture
def creds(rpc: Any) -> Any:
    """Return the module whose credentials `rpc` takes."""
    return importlib.import_module(IMPLEMENTATIONS[rpc.__name__])


@pytest.fixture
async def link(rpc: Any) -> AsyncIterator[Link]:
    """Servers and channels of the implementation, closed at the end."""
    async with Link(rpc) as link:
        yield link


@pytest.fixture
def background() -> Iterator[Background]:
    """Servers of ours in a thread."""
    background = Background()
    yield background
    background.close()


@pytest.fixture
def opened() -> Iterator[Callable[..., BlockingChannel]]:
    """Open channels for threads, closed at the end; options without their `grpc.`."""
    channels: list[BlockingChannel] = []

    def make(target: str, credentials: Any = None, **options: Any) -> BlockingChannel:
        arguments = [(f"grpc.{name}", value) for name, value in options.items()]
        channels.append(blocking_channel(target, credentials, arguments))
        return channels[-1]

    yield make
    for channel in channels:
        channel.close()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates of an authority made for this run."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def protos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Generated]:
    """Messages, stubs and servicers that protoc generated."""
    with generated(tmp_path_factory.mktemp("generated")) as made:
        yield made


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every test on asyncio's own loop and on the one that servers use."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test of this folder a time limit: a call that is never answered must fail, not hang."""
    here = Path(__file__).parent
    for item in items:
        if isinstance(item, pytest.Function) and item.path.is_relative_to(here):
            function = item.obj
            if inspect.iscoroutinefunction(function):
                item.obj = limited(function)


def limited(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., Coroutine[Any, Any, None]]:
    @functools.wraps(test)
    async def run(*args: Any, **kwargs: Any) -> None:
        async with asyncio.timeout(LIMIT):
            await test(*args, **kwargs)

    return run
