"""The figures are true: they agree with the server's own, and a server that stalls shows as users see it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from cli.command import tai_grpc
from load.echo import SERVICE
from tai_grpc import aio
from tai_grpc.resilience import LatencyHistogram

PROTO = "tests/load/echo.proto"
PERCENTAGES = (50, 75, 99)
"""Of calls every tenth of which is slow: far from where the slow ones begin."""
SLACK_MS = 500.0
"""What the way there and back, and a machine that does other things, may add to a call."""

Answer = Callable[[int], Awaitable[None]]
"""What the server does with call number N before it answers."""


@asynccontextmanager
async def served(rpc: Any, answer: Answer) -> AsyncIterator[tuple[str, LatencyHistogram]]:
    """A server, and how long its handler took, in nanoseconds."""
    took = LatencyHistogram(1, 60_000_000_000)
    begun = 0

    async def unary(request: bytes, context: Any) -> bytes:
        nonlocal begun
        number, begun = begun, begun + 1
        begin_ns = time.monotonic_ns()
        await answer(number)
        took.record(time.monotonic_ns() - begin_ns)
        return request

    server = rpc.server()
    handlers: dict[str, Any] = {"Unary": grpc.unary_unary_rpc_method_handler(unary)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}", took
    finally:
        await server.stop(None)


@pytest.fixture(params=[aio, grpc.aio], ids=["tai_grpc.aio", "grpc.aio"])
def rpc(request: pytest.FixtureRequest) -> Any:
    return request.param


async def percentiles(address: str, *arguments: str) -> dict[float, float]:
    """Return the latencies in milliseconds by percentage, and the slowest as that of 100."""
    call = ("--proto", PROTO, "--call", f"{SERVICE}/Unary", "-O", "json")
    result = await tai_grpc("load", address, *call, *arguments)
    assert (result.code, result.err) == (0, "")
    report = result.json
    found = {each["percentage"]: each["latency"] / 1e6 for each in report["latencyDistribution"]}
    return found | {100: report["slowest"] / 1e6}


async def test_percentiles_agree_with_those_that_the_server_measured(rpc: Any) -> None:
    async def answer(number: int) -> None:
        await asyncio.sleep(1.0 if number % 10 == 0 else 0.03)

    async with served(rpc, answer) as (address, took):
        measured = await percentiles(address, "-r", "400", "-n", "400", "-c", "200")
        assert took.count == 400
        for percentage in PERCENTAGES:
            servers = took.percentile(percentage) / 1e6
            assert servers * 0.999 <= measured[percentage] <= servers + SLACK_MS


def stalling(seconds: float) -> Answer:
    """Let nothing happen in the server for so long, once."""

    async def stall(number: int) -> None:
        if number == 500:
            time.sleep(seconds)  # noqa: ASYNC251 - that is the point

    return stall


RATE = ("-r", "1000", "-n", "2000")


async def test_a_stall_is_in_the_percentiles_of_an_open_loop(rpc: Any) -> None:
    """Of 2,000 calls 200 are due while nothing happens for 200 ms, and wait 100 ms on the average."""
    async with served(rpc, stalling(0.2)) as (address, _):
        measured = await percentiles(address, *RATE)
    assert measured[95] >= 80
    assert measured[99] >= 150


async def test_a_stall_is_left_out_only_when_that_is_asked_for(rpc: Any) -> None:
    """Ten calls wait for the server, a second. Others are sent late, which --closed does not count."""
    async with served(rpc, stalling(1.0)) as (address, _):
        measured = await percentiles(address, *RATE, "-c", "10", "--closed")
    assert measured[100] >= 990
    assert measured[99] < 500
