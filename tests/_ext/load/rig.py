"""A server and engines that call it: what the tests of the load engine are written in."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc

from aio.link import Handlers, Link, path
from tai_grpc._ext.load.engine import Engine, Target
from tai_grpc._ext.load.source import Source

OK, CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, NOT_FOUND = 0, 1, 2, 4, 5
RESOURCE_EXHAUSTED, INTERNAL, UNAVAILABLE = 8, 13, 14

Addresses = str | Sequence[str] | Sequence[Target]

FIXED = (((b"hello",), ()),)


def source(total: int | None = None, **settings: Any) -> Source:
    return Source(total=total, **{"fixed": FIXED, **settings})


def target_of(address: str, **settings: Any) -> Target:
    if address.startswith("unix:"):
        place = (socket.AF_UNIX, address.removeprefix("unix:"), 0)
    else:
        host, _, port = address.rpartition(":")
        place = (socket.AF_INET, host, int(port))
    return Target(address, **{"authority": "localhost", "addresses": [place], **settings})


@dataclass
class Run:
    """An engine, and what it calls."""

    engine: Engine
    targets: list[Target]
    source: Source

    @property
    def statuses(self) -> dict[int, int]:
        """How many calls ended with each status that there was."""
        counts = [sum(column) for column in zip(*(each.statuses() for each in self.targets), strict=True)]
        return {code: count for code, count in enumerate(counts) if count}

    @property
    def count(self) -> int:
        return sum(self.statuses.values())

    def slower_than(self, seconds: float) -> int:
        """How many calls that ended with OK took longer."""
        slow = 0
        for target in self.targets:
            latencies = target.latencies
            for number, value in zip(latencies.counts, bounds(latencies), strict=True):
                slow += int(number) if value > seconds * 1e9 else 0
        return slow

    async def connect(self, timeout: float = 10.0) -> Self:
        await asyncio.to_thread(self.engine.connect, timeout)
        return self

    async def run(self, *, warmup: float = 0.0, seconds: float | None = None) -> Self:
        """Run from now on, `seconds` after the warm-up or to the source's end; statuses must add up."""
        begin = time.monotonic_ns()
        measure = begin + round(warmup * 1e9)
        end = None if seconds is None else measure + round(seconds * 1e9)
        await asyncio.to_thread(self.engine.run, begin_ns=begin, measure_ns=measure, end_ns=end)
        assert self.engine.in_flight == 0
        assert self.count + self.engine.abandoned == self.source.issued
        assert sum(target.latencies.count for target in self.targets) == self.statuses.get(OK, 0)
        failures = {code: count for code, count in self.statuses.items() if code != OK}
        told: dict[int, int] = {}
        for code, _, count in self.engine.errors():
            told[code] = told.get(code, 0) + count
        assert told == failures
        return self

    def begin(self, **settings: Any) -> asyncio.Task[Self]:
        return asyncio.create_task(self.run(**settings))


def bounds(latencies: Any) -> list[int]:
    """The lowest value of each of a histogram's counts, as its layout has it."""
    digits = latencies.significant_digits
    half = (2 * 10**digits - 1).bit_length() - 1
    unit = latencies.lowest.bit_length() - 1
    lowest = []
    for index in range(len(latencies.counts)):
        bucket = max(0, (index >> half) - 1)
        lowest.append((index - (bucket << half)) << (bucket + unit))
    return lowest


class Rig:
    """Starts servers and makes engines; leaving the block stops and closes all of them."""

    def __init__(self, rpc: Any) -> None:
        self.rpc = rpc
        self.link = Link(rpc)
        self.runs: list[Run] = []
        self.server: Any = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for run in self.runs:
            run.engine.stop()
        await until(lambda: not any(run.engine.in_flight for run in self.runs))
        for run in self.runs:
            run.engine.close()
        await self.link.aclose()

    async def serve(self, **handlers: Any) -> str:
        """Start a server with handlers of the four kinds (`split=function` is one of a server stream)."""
        self.server, address = await self.link.serve(made(handlers))
        return address

    def engine(self, addresses: Addresses, calls: Source, *, name: str = "unary", **settings: Any) -> Run:
        """Return an engine that is not connected, for the method that serves this kind of call."""
        each = [addresses] if isinstance(addresses, str) else addresses
        targets = [place if isinstance(place, Target) else target_of(place) for place in each]
        settings = {
            "path": path(name),
            "client_streaming": name in ("collect", "chat"),
            "server_streaming": name in ("split", "chat"),
            **settings,
        }
        run = Run(Engine(targets, calls, **settings), targets, calls)
        self.runs.append(run)
        return run

    async def run(self, addresses: Addresses, calls: Source, **settings: Any) -> Run:
        """Connect and run to the end of the source."""
        return await (await self.engine(addresses, calls, **settings).connect()).run()


def made(handlers: dict[str, Any]) -> Handlers:
    kinds = {
        "unary": grpc.unary_unary_rpc_method_handler,
        "split": grpc.unary_stream_rpc_method_handler,
        "collect": grpc.stream_unary_rpc_method_handler,
        "chat": grpc.stream_stream_rpc_method_handler,
    }
    return {name: kinds[name](function) for name, function in handlers.items()}


async def echo(request: bytes, _context: Any) -> bytes:
    return request


async def run_all(runs: Sequence[Run]) -> None:
    """Run engines that share a source, each on a thread of its own, to the source's end."""
    began = time.monotonic_ns()

    def run(each: Run) -> None:
        each.engine.run(begin_ns=began, measure_ns=began, end_ns=None)

    await asyncio.gather(*(asyncio.to_thread(run, each) for each in runs))


def starves(run: Run, number: int) -> bool:
    """Whether so many calls have ended and the next one waits for its request."""
    return run.count == number and run.source.starved > number


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what an engine's thread or a server's task brings about; the test's own limit ends it."""
    while not condition():  # noqa: ASYNC110 - a thread without the GIL sets no event
        await asyncio.sleep(0)
