"""A plan run in this process against a real server."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from load.echo import Echo, echo_server
from load.plans import NUMBERED, plan_of
from tai_grpc.load.errors import UnreachableError
from tai_grpc.load.plan import AtEnd, LoadPlan, Schedule, Segment
from tai_grpc.load.requests import Request
from tai_grpc.load.result import EndReason, Interval, LoadResult
from tai_grpc.load.run import run_plan
from tai_grpc.load.series import merged


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    async with echo_server() as server:
        yield server


@dataclass(frozen=True)
class Breaking:
    """Request 20,000 cannot be rendered."""

    fixed: None = None

    def render(self, number: int) -> Request:
        if number == 20_000:
            raise ValueError(f"{number} cannot be rendered")
        return Request((b"",))


class Counted:
    """Requests whose rendering is counted, and may take a while."""

    fixed: None = None

    def __init__(self, before: Callable[[int], None]) -> None:
        self.rendered: list[int] = []
        self._before = before

    def render(self, number: int) -> Request:
        self._before(number)
        self.rendered.append(number)
        return Request((b"",))


async def run(
    plan: LoadPlan, seen: list[Interval] | None = None, stop: threading.Event | None = None
) -> LoadResult:
    async with asyncio.timeout(60):
        return await asyncio.to_thread(run_plan, plan, watch=None if seen is None else seen.append, stop=stop)


async def test_every_call_that_is_counted_reached_the_server_and_none_else_did(echo: Echo) -> None:
    result = await run(await plan_of(echo, total=230, concurrency=7))
    assert result.count == result.latencies.count == echo.calls["Unary"] == 230
    assert result.statuses == {"OK": 230}
    assert (result.end_reason, result.abandoned, result.missed) == (EndReason.NORMAL, 0, 0)
    assert 0 < result.latencies.max <= result.elapsed_ns
    assert (result.messages_sent, result.messages_received) == (230, 230)
    assert result.send_lag.count == 0


async def test_threads_share_the_calls_their_numbers_and_the_connections(echo: Echo) -> None:
    plan = await plan_of(echo, data=NUMBERED, total=1000, concurrency=20, connections=3, threads=3)
    result = await run(plan)
    assert result.statuses == {"OK": 1000}
    assert sorted(echo.names, key=int) == [str(number) for number in range(1000)]
    assert len(echo.peers) == 3


async def test_hosts_take_turns_and_are_told_apart() -> None:
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(echo_server()) for _ in range(3)]
        plan = await plan_of(servers, total=600, concurrency=9, connections=9, threads=2)
        result = await run(plan)
        assert [each.host for each in result.hosts] == [server.address for server in servers]
        for host, server in zip(result.hosts, servers, strict=True):
            assert host.statuses["OK"] == host.latencies.count == server.calls["Unary"] > 0
            assert len(server.peers) == 3
        assert (
            merged(host.latencies for host in result.hosts).counts.tolist()
            == result.latencies.counts.tolist()
        )


async def test_failed_calls_are_counted_by_status_and_left_out_of_the_latencies(echo: Echo) -> None:
    plan = await plan_of(echo, "Fail", '{"display_name":"ABORTED"}', total=10, concurrency=3)
    result = await run(plan)
    assert result.statuses == {"ABORTED": 10}
    assert (result.failed, result.latencies.count) == (10, 0)
    [(text, count)] = result.errors.items()
    assert (text.split(), count) == (["ABORTED:", "went", "wrong,", "and", "on", "purpose"], 10)


async def test_intervals_add_up_to_the_result(echo: Echo) -> None:
    """The watcher's quarters of a second, and the result's seconds, hold every call once."""
    seen: list[Interval] = []
    result = await run(await plan_of(echo, total=None, duration=1.2, concurrency=4), seen)
    assert len(seen) >= 3
    assert sum((each.statuses for each in result.intervals), Counter()) == result.statuses
    assert sum(each.messages_sent for each in result.intervals) == result.messages_sent
    parts = merged(each.latencies for each in result.intervals)
    assert parts.counts.tolist() == result.latencies.counts.tolist()
    assert sum(each.statuses.total() for each in seen) <= result.count
    for before, after in zip(result.intervals, result.intervals[1:], strict=False):
        assert before.start_ns + before.length_ns == after.start_ns


async def test_intervals_begin_at_whole_seconds_of_the_measuring(echo: Echo) -> None:
    """As well as they can, and never before: so those of several processes are of the same time."""
    seen: list[Interval] = []
    before = datetime.now(UTC)
    result = await run(await plan_of(echo, total=None, warmup=0.6, duration=2.3, concurrency=2), seen)
    assert [each.start_ns // 1_000_000_000 for each in result.intervals] == [0, 1, 2]
    assert result.intervals[0].start_ns == 0
    quarters = [each.start_ns // 250_000_000 for each in seen]
    assert quarters == sorted(set(quarters))
    assert quarters[0] < 0
    assert all(each.start_ns >= 0 or each.start_ns + each.length_ns <= 0 for each in seen)
    assert result.started - before >= timedelta(seconds=0.6)


async def test_a_duration_ends_the_run_and_waits_for_the_calls_in_flight(echo: Echo) -> None:
    result = await run(await plan_of(echo, total=None, duration=0.3, concurrency=4))
    assert result.end_reason is EndReason.TIMEOUT
    assert result.count == echo.calls["Unary"] > 1
    assert result.abandoned == 0


async def test_calls_in_flight_can_be_given_up_at_the_end(echo: Echo) -> None:
    plan = await plan_of(echo, "Wait", total=None, duration=0.2, concurrency=4, at_end=AtEnd.CLOSE)
    result = await run(plan)
    assert (result.count, result.abandoned, result.end_reason) == (0, 4, EndReason.TIMEOUT)


async def test_what_ends_in_the_warm_up_is_not_counted(echo: Echo) -> None:
    result = await run(await plan_of(echo, total=50, warmup=0.3, concurrency=2))
    assert result.count == result.latencies.count == 50
    assert echo.calls["Unary"] > 50


async def test_a_call_that_is_too_slow_is_a_deadline_exceeded(echo: Echo) -> None:
    result = await run(await plan_of(echo, "Wait", total=2, concurrency=2, timeout=0.2))
    assert result.statuses == {"DEADLINE_EXCEEDED": 2}


async def test_a_stop_ends_the_run_with_what_was_seen(echo: Echo) -> None:
    stop = threading.Event()
    echo.expected_waiting = 3
    running = asyncio.create_task(run(await plan_of(echo, "Wait", concurrency=3), stop=stop))
    await echo.all_waiting.wait()
    stop.set()
    result = await running
    assert (result.end_reason, result.count, result.abandoned) == (EndReason.CANCEL, 0, 3)
    assert result.elapsed_ns > 0


async def test_an_open_loop_sends_when_calls_are_due(echo: Echo) -> None:
    """200 calls at 1,000 a second, of which each is due a millisecond after the one before."""
    schedule = Schedule(segments=(Segment(None, 1000.0, 1000.0),))
    result = await run(await plan_of(echo, schedule=schedule, total=200))
    assert result.statuses == {"OK": 200}
    assert result.send_lag.count == 200
    assert result.elapsed_ns >= 199_000_000


async def test_calls_that_are_due_and_never_sent_are_missed(echo: Echo) -> None:
    schedule = Schedule(segments=(Segment(None, 1000.0, 1000.0),))
    plan = await plan_of(
        echo, "Wait", schedule=schedule, total=None, duration=0.3, concurrency=5, at_end=AtEnd.CLOSE
    )
    result = await run(plan)
    assert result.abandoned == 5
    assert result.missed == pytest.approx(300 - 5, abs=2)


async def test_no_more_requests_are_rendered_than_there_are_calls(echo: Echo) -> None:
    requests = Counted(lambda _: None)
    result = await run(await plan_of(echo, total=3, concurrency=3, requests=requests))
    assert (result.count, requests.rendered) == (3, [0, 1, 2])


async def test_calls_begin_before_all_requests_that_may_wait_are_rendered(echo: Echo) -> None:
    """Rendering goes on only when the server has been called."""

    def wait(number: int) -> None:
        while number >= 50 and not echo.calls["Unary"]:
            time.sleep(0.001)

    result = await run(await plan_of(echo, total=200, requests=Counted(wait)))
    assert result.statuses == {"OK": 200}


async def test_a_request_that_cannot_be_rendered_ends_the_run_with_its_error(echo: Echo) -> None:
    plan = await plan_of(echo, total=100_000, requests=Breaking())
    with pytest.raises(ValueError, match="20000 cannot be rendered"):
        await run(plan)


async def test_a_host_that_refuses_is_unreachable(echo: Echo) -> None:
    plan = await plan_of(echo)
    await echo.stop()
    with pytest.raises(UnreachableError, match=f"cannot connect to {echo.address}: Connection refused"):
        await run(plan)


async def test_a_host_that_speaks_no_http2_is_unreachable(echo: Echo) -> None:
    plan = await plan_of(echo, connect_timeout=5.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"

        def answer() -> None:
            while True:
                try:
                    connection, _ = silent.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        answering = asyncio.create_task(asyncio.to_thread(answer))
        with pytest.raises(UnreachableError, match=f"cannot connect to {address}: "):
            await run(replace(plan, hosts=(address,)))
        silent.shutdown(socket.SHUT_RDWR)
    await answering


async def test_a_stop_in_the_warm_up_leaves_a_report_of_nothing(echo: Echo) -> None:
    stop = threading.Event()
    running = asyncio.create_task(run(await plan_of(echo, total=50, warmup=3600.0), stop=stop))
    while not echo.calls["Unary"]:  # noqa: ASYNC110 - the server's own count, which sets no event
        await asyncio.sleep(0)
    stop.set()
    result = await running
    assert (result.count, result.elapsed_ns, result.rps) == (0, 0, 0.0)


async def test_time_in_which_nothing_ended_counts(echo: Echo) -> None:
    """A server that answers no more is not the faster for it."""
    plan = await plan_of(echo, "Wait", total=None, duration=0.5, concurrency=3, at_end=AtEnd.CLOSE)
    echo.expected_waiting = 3
    running = asyncio.create_task(run(plan))
    await echo.all_waiting.wait()
    result = await running
    assert result.elapsed_ns >= 500_000_000


async def test_a_watcher_that_fails_ends_the_run_at_once(echo: Echo) -> None:
    def watch(interval: Interval) -> None:
        raise BrokenPipeError("nobody looks")

    plan = await plan_of(echo, total=None, duration=3600.0, concurrency=2)
    async with asyncio.timeout(60):
        with pytest.raises(BrokenPipeError, match="nobody looks"):
            await asyncio.to_thread(run_plan, plan, watch=watch)


async def test_a_host_whose_name_is_none_is_unreachable(echo: Echo) -> None:
    plan = replace(await plan_of(echo), hosts=("a" * 70 + ".example:1",))
    with pytest.raises(UnreachableError, match="it is no host name"):
        await run(plan)
