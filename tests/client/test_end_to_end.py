"""Client and worker against the real server: the services' semantics as their users see them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from grpc import StatusCode

import tai_grpc as tg
from tai_grpc.tai import (
    Action,
    CancelTaskRequest,
    GetTaskStatusRequest,
    Policy,
    ScheduleTaskRequest,
    StreamPoliciesRequest,
    StreamTaskUpdatesRequest,
    TaskState,
    TaskStatus,
)

MS_NS = 10**6


@asynccontextmanager
async def served() -> AsyncIterator[tg.GrpcClient]:
    server = tg.GrpcServer(tg.GrpcServerConfig(listen="127.0.0.1:0", grace=1.0))
    async with server, tg.GrpcClient(tg.GrpcClientConfig(server_addresses=[server.address])) as client:
        yield client


async def ended(client: tg.GrpcClient, task_id: str, from_revision: int) -> TaskStatus:
    """Wait for the task's end, from the revision of its receipt on."""
    request = StreamTaskUpdatesRequest(task_ids=[task_id], from_revision=from_revision)
    async with asyncio.timeout(20):
        async for update in client.scheduler.stream_task_updates(request):
            if update.status.state in (
                TaskState.TASK_STATE_SUCCEEDED,
                TaskState.TASK_STATE_FAILED,
                TaskState.TASK_STATE_CANCELLED,
            ):
                return update.status
    raise AssertionError("the stream ended before the task")


async def submit(client: tg.GrpcClient, task_id: str, kind: str, **fields: int) -> TaskStatus:
    task = ScheduleTaskRequest(task_id=task_id, task_type=kind, retry_backoff_ns=MS_NS, **fields)  # type: ignore[arg-type]  # ints
    receipt = await client.scheduler.submit_task(task)
    return await ended(client, task_id, receipt.revision)


async def test_a_task_ends_as_its_handler_does() -> None:
    async with served() as client:
        worker = tg.Worker(client)
        attempts: list[str] = []

        @worker.on("ok")
        async def ok(action: Action) -> bytes:
            return b"done"

        @worker.on("second-try")
        async def second_try(action: Action) -> None:
            attempts.append(action.id)
            if action.attempt == 1:
                raise OSError("the disk is away")

        @worker.on("never")
        async def never(action: Action) -> None:
            raise OSError("the disk is gone")

        @worker.on("hopeless")
        async def hopeless(action: Action) -> None:
            raise tg.Reject("no such disk")

        async with worker:
            task = await submit(client, "t1", "ok")
            assert (task.state, task.result, task.attempt) == (TaskState.TASK_STATE_SUCCEEDED, b"done", 1)
            task = await submit(client, "t2", "second-try")
            assert (task.state, task.attempt) == (TaskState.TASK_STATE_SUCCEEDED, 2)
            assert attempts == ["task/t2", "task/t2"]
            task = await submit(client, "t3", "never", max_attempts=3)
            assert (task.state, task.attempt) == (TaskState.TASK_STATE_FAILED, 3)
            assert "the disk is gone" in task.reason
            task = await submit(client, "t4", "hopeless")
            assert (task.state, task.attempt) == (TaskState.TASK_STATE_FAILED, 1)
            assert "no such disk" in task.reason


async def test_two_workers_share_a_groups_tasks_and_run_each_once() -> None:
    async with served() as client:
        ran: list[str] = []
        workers = [tg.Worker(client, concurrency=4, consumer=name) for name in ("one", "two")]
        for worker in workers:

            @worker.on("share")
            async def run(action: Action) -> None:
                ran.append(action.id)

        async with workers[0], workers[1]:
            revisions = [
                (await client.scheduler.submit_task(ScheduleTaskRequest(task_id=f"t{n}", task_type="share")))
                for n in range(100)
            ]
            for n, receipt in enumerate(revisions):
                await ended(client, f"t{n}", receipt.revision)
        assert sorted(ran) == sorted(f"task/t{n}" for n in range(100))


async def test_a_cancelled_task_never_runs() -> None:
    async with served() as client:
        later = ScheduleTaskRequest(task_id="t", task_type="late", scheduled_time_ns=2**61)
        await client.scheduler.submit_task(later)
        await client.scheduler.cancel_task(CancelTaskRequest(task_id="t", reason="unwanted"))
        task = await client.scheduler.get_task_status(GetTaskStatusRequest(task_id="t"))
        assert (task.state, task.attempt, task.reason) == (TaskState.TASK_STATE_CANCELLED, 0, "unwanted")


async def test_a_refusal_is_not_retried_and_names_its_endpoint() -> None:
    async with served() as client:
        with pytest.raises(tg.CallError, match="no policy 'none'") as caught:
            await client.governor.enforce_policy(Policy(id="none"))
        (endpoint,) = client.endpoint_stats()
        assert caught.value.code() is StatusCode.NOT_FOUND
        assert (caught.value.endpoint, caught.value.attempts) == (endpoint.address, 1)
        assert client.stats().retries == 0


async def test_a_watch_ends_with_the_server_and_says_why() -> None:
    server = tg.GrpcServer(tg.GrpcServerConfig(listen="127.0.0.1:0", grace=1.0))
    await server.start()
    async with tg.GrpcClient(tg.GrpcClientConfig(server_addresses=[server.address])) as client:
        watch = client.governor.stream_policies(StreamPoliciesRequest())
        await watch.initial_metadata()
        await server.stop()
        with pytest.raises(tg.CallError, match="the server is shutting down") as caught:
            await anext(aiter(watch))
        assert caught.value.code() is StatusCode.UNAVAILABLE


async def test_the_breakers_predicate_says_what_a_status_means() -> None:
    """Here NOT_FOUND speaks against the endpoint, which by default it does not."""

    def outcome_of(error: BaseException) -> tg.CallOutcome:
        assert isinstance(error, tg.CallError)
        return tg.CallOutcome.FAILURE if error.code() is StatusCode.NOT_FOUND else tg.CallOutcome.IGNORED

    breaker = tg.CircuitBreakerConfig(failure_threshold=2, outcome_of=outcome_of)
    server = tg.GrpcServer(tg.GrpcServerConfig(listen="127.0.0.1:0"))
    async with server:
        config = tg.GrpcClientConfig(server_addresses=[server.address], breaker=breaker)
        async with tg.GrpcClient(config) as client:
            for code in (StatusCode.INVALID_ARGUMENT, StatusCode.NOT_FOUND, StatusCode.NOT_FOUND):
                assert client.breaker(server.address).state is tg.CircuitState.CLOSED
                policy = Policy(id="" if code is StatusCode.INVALID_ARGUMENT else "none")
                with pytest.raises(tg.CallError) as caught:
                    await client.governor.enforce_policy(policy)
                assert caught.value.code() is code
            assert client.breaker(server.address).state is tg.CircuitState.OPEN
