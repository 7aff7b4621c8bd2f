import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from load.echo import Echo, echo_server
from tai_grpc.errors import DeadlineError
from tai_grpc.load import engine
from tai_grpc.load.channels import open_blocking_channel
from tai_grpc.load.engine import EndReason, LoadResult, LoadRun
from tai_grpc.load.methods import Method, find_method
from tai_grpc.load.payload import parse_messages
from tai_grpc.load.plan import LoadPlan


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    async with echo_server() as server:
        yield server


async def _plan(echo: Echo, name: str, data: str = "{}", **changes: Any) -> LoadPlan:
    def find() -> Method:
        with open_blocking_channel(echo.address) as channel:
            return find_method(channel, f"echo.v1.Echo/{name}", timeout=10)

    method = await asyncio.to_thread(find)
    requests = tuple(message.SerializeToString() for message in parse_messages(method, data))
    return LoadPlan(host=echo.address, method=method, requests=requests, **changes)


async def _run(plan: LoadPlan) -> LoadResult:
    async with LoadRun(plan) as run:
        return await run.run()


async def test_every_call_that_is_counted_reached_the_server_and_none_else_did(echo: Echo) -> None:
    result = await _run(await _plan(echo, "Unary", total=230, concurrency=7))
    assert result.count == echo.calls["Unary"] == 230
    assert result.statuses == {"OK": 230}
    assert result.latencies.count == 230
    assert (result.end_reason, result.abandoned) == (EndReason.NORMAL, 0)
    assert 0 < result.latencies.max * 1000 <= result.elapsed_ns


async def test_failed_calls_are_counted_by_status_and_left_out_of_the_latencies(echo: Echo) -> None:
    data = '{"display_name":"ABORTED"} {"display_name":"NOT_FOUND"}'
    result = await _run(await _plan(echo, "Fail", data, total=10, concurrency=3))
    assert result.statuses == {"ABORTED": 5, "NOT_FOUND": 5}
    assert result.errors["ABORTED: went wrong, and on purpose"] == 5
    assert result.latencies.count == 0


async def test_the_messages_of_errors_are_counted_in_a_bounded_table(
    echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "MAX_DISTINCT_ERRORS", 1)
    data = '{"display_name":"ABORTED"} {"display_name":"NOT_FOUND"} {"display_name":"INTERNAL"}'
    result = await _run(await _plan(echo, "Fail", data, total=9, concurrency=1))
    assert result.errors == {"ABORTED: went wrong, and on purpose": 3, "other errors": 6}


async def test_concurrency_is_the_number_of_calls_in_flight(echo: Echo) -> None:
    echo.expected_waiting = 5
    plan = await _plan(echo, "Wait", total=50, concurrency=5)
    async with LoadRun(plan) as run, asyncio.timeout(30):
        running = asyncio.create_task(run.run())
        await echo.all_waiting.wait()
        assert run.completed == 0
        assert echo.calls["Wait"] == 5
        echo.answer.set()
        assert (await running).count == 50


@pytest.mark.parametrize("connections", [1, 3])
async def test_the_workers_share_as_many_connections_as_asked_for(echo: Echo, connections: int) -> None:
    plan = await _plan(echo, "Unary", total=60, concurrency=6, connections=connections)
    await _run(plan)
    assert len(echo.peers) == connections


async def test_a_duration_ends_the_run_and_waits_for_the_calls_in_flight(echo: Echo) -> None:
    result = await _run(await _plan(echo, "Unary", duration=0.3, concurrency=4, total=1))
    assert result.end_reason is EndReason.TIMEOUT
    assert result.count == echo.calls["Unary"] > 1
    assert result.elapsed_ns >= 300_000_000
    assert result.abandoned == 0


async def test_a_call_that_is_too_slow_is_a_deadline_exceeded(echo: Echo) -> None:
    result = await _run(await _plan(echo, "Wait", total=2, concurrency=2, timeout=0.2))
    assert result.statuses == {"DEADLINE_EXCEEDED": 2}


async def test_a_stopped_run_tells_what_it_has_and_what_it_gave_up(echo: Echo) -> None:
    echo.expected_waiting = 4
    plan = await _plan(echo, "Wait", total=50, concurrency=4)
    async with LoadRun(plan) as run, asyncio.timeout(30):
        running = asyncio.create_task(run.run())
        await echo.all_waiting.wait()
        run.stop()
        result = await running
    assert (result.end_reason, result.count, result.abandoned) == (EndReason.CANCEL, 0, 4)


async def test_no_connection_in_time_is_said_to_be_that() -> None:
    async with echo_server() as server:
        plan = await _plan(server, "Unary", connect_timeout=0.2)
    with pytest.raises(DeadlineError, match=rf"no connection to {server.address} within 0\.2 s"):
        await _run(plan)


async def test_a_server_that_dies_in_the_middle_is_counted_as_unavailable() -> None:
    async with echo_server() as server:
        plan = await _plan(server, "Unary", total=100, concurrency=2)
        async with LoadRun(plan) as run:
            await server.stop()
            result = await run.run()
    assert result.statuses == {"UNAVAILABLE": 100}
