"""Workers against a Coordinator that does what the test says, over real sockets."""

from __future__ import annotations

import asyncio
import functools
import logging
import pickle
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from grpc import StatusCode, aio

from client.kinds import until
from tai_grpc.client import GrpcClient, Postpone, Reject, Worker
from tai_grpc.config import GrpcClientConfig, RetryConfig
from tai_grpc.errors import ConfigError, TaiGrpcError
from tai_grpc.observability.tracing import current_trace
from tai_grpc.status import CallError
from tai_grpc.tai import AcknowledgeActionRequest, Action, Outcome, Receipt, StreamActionsRequest
from tai_grpc.tai.v1.coordinator_pb2_grpc import CoordinatorServicer, add_CoordinatorServicer_to_server

NO_RETRIES = RetryConfig(max_retries=0)


class Coordinator(CoordinatorServicer):
    """Delivers what is put into a group's queue; an item that is a status code breaks the stream with it."""

    def __init__(self) -> None:
        self.queues: dict[str, asyncio.Queue[Action | StatusCode | None]] = {}
        self.streams: list[StreamActionsRequest] = []
        self.acknowledged: list[AcknowledgeActionRequest] = []
        self.answer: Callable[[AcknowledgeActionRequest], StatusCode] = lambda _request: StatusCode.OK

    def deliver(self, group: str, *items: str | StatusCode | None) -> None:
        queue = self.queues.setdefault(group, asyncio.Queue())
        for item in items:
            queue.put_nowait(
                Action(id=item, group=group, lease_token=f"token-{item}") if isinstance(item, str) else item
            )

    async def StreamActions(self, request: StreamActionsRequest, context: Any) -> AsyncIterator[Action]:
        self.streams.append(request)
        await context.send_initial_metadata(())
        queue = self.queues.setdefault(request.group, asyncio.Queue())
        while (item := await queue.get()) is not None:
            if isinstance(item, StatusCode):
                await context.abort(item, "broken by the test")
            else:
                yield item

    async def AcknowledgeAction(self, request: AcknowledgeActionRequest, context: Any) -> Receipt:
        self.acknowledged.append(request)
        code = self.answer(request)
        if code is not StatusCode.OK:
            await context.abort(code, "refused by the test")
        return Receipt(subject_id=request.action_id)

    def outcomes(self, *, progress: bool = False) -> list[tuple[str, str]]:
        """What was said of which action, in order."""
        return [
            (request.action_id, Outcome.Name(request.outcome).removeprefix("OUTCOME_"))
            for request in self.acknowledged
            if progress or request.outcome != Outcome.OUTCOME_IN_PROGRESS
        ]


@asynccontextmanager
async def serving(coordinator: Coordinator, port: int = 0) -> AsyncIterator[str]:
    server = aio.server(options=(("grpc.so_reuseport", 0),))
    add_CoordinatorServicer_to_server(coordinator, server)
    address = f"127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
    await server.start()
    try:
        yield address
    finally:
        await server.stop(None)


@pytest.fixture
def coordinator() -> Coordinator:
    return Coordinator()  # type: ignore[abstract]  # a worker makes only the calls that are there


@pytest.fixture
async def client(coordinator: Coordinator) -> AsyncIterator[GrpcClient]:
    async with (
        serving(coordinator) as address,
        GrpcClient(GrpcClientConfig(server_addresses=(address,), retry=NO_RETRIES)) as client,
    ):
        yield client


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"client": 5}, "client=5: expected a GrpcClient"), ({"consumer": 5}, "consumer=5: expected a str")],
)
def test_a_worker_is_made_of_a_client(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Worker(**{"client": GrpcClient(), **settings})


def test_a_handler_is_a_coroutine_function_of_a_group_with_a_name() -> None:
    worker = Worker(GrpcClient())

    def plain(_action: Action) -> bytes | None:
        return None

    async def handler(_action: Action) -> bytes | None:
        return None

    class Callable:
        async def __call__(self, _action: Action) -> bytes | None:
            return None

    group: Any
    for group in (5, "", None, handler):  # the last one is @worker.on without its parentheses
        with pytest.raises(ConfigError, match=r'group=.*: expected the name of a group, as in @worker.on\("'):
            worker.on(group)
    handled: Any
    for handled in (5, plain, None):
        with pytest.raises(ConfigError, match=r"handler=.*: expected a coroutine function: async def"):
            worker.on("cleanup")(handled)
    worker.on("cleanup")(handler)
    worker.on("of an object")(Callable())
    worker.on("with the rest bound")(functools.partial(handler))
    again = worker.on("other")
    worker.on("other")(handler)
    for group in ("cleanup", "other"):
        with pytest.raises(ConfigError, match="a group that has no handler yet"):
            (again if group == "other" else worker.on(group))(handler)


async def test_actions_are_handled_and_acknowledged_with_their_result(
    coordinator: Coordinator, client: GrpcClient
) -> None:
    worker = Worker(client, concurrency=7, lease=12.5, consumer="tester")

    @worker.on("cleanup")
    async def cleanup(action: Action) -> bytes | None:
        return action.id.encode() if action.id == "a" else None

    coordinator.deliver("cleanup", "a", "b")
    async with worker:
        await until(lambda: len(coordinator.acknowledged) == 2)
    assert sorted(coordinator.outcomes()) == [("a", "ACK"), ("b", "ACK")]
    by_id = {request.action_id: request for request in coordinator.acknowledged}
    assert (by_id["a"].result, by_id["b"].result) == (b"a", b"")
    assert (by_id["a"].group, by_id["a"].lease_token) == ("cleanup", "token-a")
    (stream,) = coordinator.streams
    assert (stream.group, stream.consumer) == ("cleanup", "tester")
    assert (stream.max_in_flight, stream.lease_ns) == (7, 12_500_000_000)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("no such file"), ("NAK", "ValueError: no such file", 0)),
        (Reject("never"), ("TERM", "never", 0)),
        (Postpone("the disk is busy", delay=2.5), ("NAK", "the disk is busy", 2_500_000_000)),
        (asyncio.CancelledError(), ("NAK", "the handler was cancelled", 0)),
        (ValueError("x" * 10_000), ("NAK", f"ValueError: {'x' * 4084}", 0)),
        (ValueError("\u20ac" * 2_000), ("NAK", f"ValueError: {chr(0x20AC) * 1361}", 0)),
    ],
)
async def test_what_a_handler_raises_says_what_becomes_of_the_action(
    coordinator: Coordinator,
    client: GrpcClient,
    error: BaseException,
    expected: tuple[str, str, int],
) -> None:
    worker = Worker(client)

    @worker.on("cleanup")
    async def cleanup(_action: Action) -> None:
        raise error

    coordinator.deliver("cleanup", "a")
    async with worker:
        await until(lambda: bool(coordinator.acknowledged))
    (request,) = coordinator.acknowledged
    ((_, outcome),) = coordinator.outcomes()
    assert (outcome, request.reason, request.delay_ns) == expected


@pytest.mark.parametrize(
    ("result", "reason"),
    [("text", "returned str"), (b"x" * 65_537, "returned 65537 bytes; a result has at most")],
)
async def test_a_result_that_cannot_be_kept_is_rejected(
    coordinator: Coordinator, client: GrpcClient, result: Any, reason: str
) -> None:
    """To hand the action out again would not make it better."""
    worker = Worker(client)

    @worker.on("cleanup")
    async def cleanup(_action: Action) -> bytes:
        return result  # type: ignore[no-any-return]  # the wrong type is what is tested

    coordinator.deliver("cleanup", "a")
    async with worker:
        await until(lambda: bool(coordinator.acknowledged))
    assert coordinator.outcomes() == [("a", "TERM")]
    assert reason in coordinator.acknowledged[0].reason


async def test_the_lease_is_extended_while_the_handler_works(
    coordinator: Coordinator, client: GrpcClient
) -> None:
    """Also when the server does not take one of the extensions."""
    worker = Worker(client, lease=0.15)
    enough = asyncio.Event()

    def answer(request: AcknowledgeActionRequest) -> StatusCode:
        extensions = coordinator.outcomes(progress=True).count(("a", "IN_PROGRESS"))
        if extensions >= 4:
            enough.set()
        extending = request.outcome == Outcome.OUTCOME_IN_PROGRESS
        return StatusCode.INTERNAL if extending and extensions == 2 else StatusCode.OK

    @worker.on("cleanup")
    async def cleanup(_action: Action) -> None:
        await enough.wait()

    coordinator.answer = answer
    coordinator.deliver("cleanup", "a")
    async with worker:
        await until(lambda: ("a", "ACK") in coordinator.outcomes())
    assert {request.lease_token for request in coordinator.acknowledged} == {"token-a"}


async def test_a_handler_whose_lease_was_lost_is_cancelled_and_says_nothing(
    coordinator: Coordinator, client: GrpcClient
) -> None:
    worker = Worker(client, lease=0.03)
    cancelled = asyncio.Event()

    @worker.on("cleanup")
    async def cleanup(action: Action) -> None:
        if action.id == "lost":
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

    coordinator.answer = lambda request: (
        StatusCode.FAILED_PRECONDITION if request.action_id == "lost" else StatusCode.OK
    )
    coordinator.deliver("cleanup", "lost")
    async with worker:
        await cancelled.wait()
        coordinator.deliver("cleanup", "next")
        await until(lambda: bool(coordinator.outcomes()))
    assert coordinator.outcomes() == [("next", "ACK")]


async def test_an_acknowledgement_is_sent_again_until_it_is_taken(
    coordinator: Coordinator, client: GrpcClient
) -> None:
    worker = Worker(client)

    @worker.on("cleanup")
    async def cleanup(_action: Action) -> None:
        pass

    coordinator.answer = lambda _request: (
        StatusCode.UNAVAILABLE if len(coordinator.acknowledged) < 3 else StatusCode.OK
    )
    coordinator.deliver("cleanup", "a")
    async with worker:
        await until(lambda: len(coordinator.acknowledged) == 3)
    assert coordinator.outcomes() == [("a", "ACK")] * 3


@pytest.mark.parametrize(
    "code", [StatusCode.FAILED_PRECONDITION, StatusCode.NOT_FOUND, StatusCode.INVALID_ARGUMENT]
)
async def test_an_acknowledgement_that_is_refused_for_good_is_not_sent_again(
    coordinator: Coordinator, client: GrpcClient, code: StatusCode, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(client)

    @worker.on("cleanup")
    async def cleanup(_action: Action) -> None:
        pass

    coordinator.answer = lambda request: code if request.action_id == "a" else StatusCode.OK
    coordinator.deliver("cleanup", "a")
    with caplog.at_level(logging.WARNING):
        async with worker:
            await until(lambda: "ACK was not taken" in caplog.text)
            coordinator.deliver("cleanup", "b")
            await until(lambda: ("b", "ACK") in coordinator.outcomes())
    assert coordinator.outcomes() == [("a", "ACK"), ("b", "ACK")]


@pytest.mark.parametrize(
    "end", [StatusCode.UNAVAILABLE, StatusCode.INTERNAL, StatusCode.RESOURCE_EXHAUSTED, None]
)
async def test_a_stream_that_breaks_or_ends_is_resumed(
    coordinator: Coordinator, client: GrpcClient, end: StatusCode | None
) -> None:
    """And its share of the handlers is free again."""
    worker = Worker(client, concurrency=1)

    @worker.on("cleanup")
    async def cleanup(_action: Action) -> None:
        pass

    coordinator.deliver("cleanup", "a", end, "b")
    async with worker:
        await until(lambda: len(coordinator.acknowledged) == 2)
    assert coordinator.outcomes() == [("a", "ACK"), ("b", "ACK")]
    assert len(coordinator.streams) == 2


async def test_work_outlives_its_server(coordinator: Coordinator) -> None:
    """A handler that ends while the server is away acknowledges to the one that takes its place."""
    worker_may_end, began = asyncio.Event(), asyncio.Event()
    successor = Coordinator()  # type: ignore[abstract]  # as in the fixture
    async with serving(coordinator) as address:
        pass
    port = int(address.rpartition(":")[2])
    async with GrpcClient(GrpcClientConfig(server_addresses=(address,))) as client:
        worker = Worker(client)

        @worker.on("cleanup")
        async def cleanup(_action: Action) -> None:
            began.set()
            await worker_may_end.wait()

        coordinator.deliver("cleanup", "a")
        async with worker:
            async with serving(coordinator, port):
                await began.wait()
            worker_may_end.set()
            successor.deliver("cleanup", "b")
            async with serving(successor, port):
                await until(lambda: len(successor.acknowledged) == 2)
        assert sorted(successor.outcomes()) == [("a", "ACK"), ("b", "ACK")]


async def test_no_more_handlers_run_than_the_concurrency_says(
    coordinator: Coordinator, client: GrpcClient
) -> None:
    """Whatever the server hands out: what there is no handler for stays unread."""
    worker = Worker(client, concurrency=3)
    running, most = 0, 0

    @worker.on("cleanup")
    async def cleanup(_action: Action) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1

    coordinator.deliver("cleanup", *map(str, range(50)))
    async with worker:
        await until(lambda: len(coordinator.acknowledged) == 50)
    assert most == 3


async def test_each_group_has_its_own_handler_and_its_own_share(
    coordinator: Coordinator, client: GrpcClient
) -> None:
    worker = Worker(client, concurrency=1)
    other_ran = asyncio.Event()

    @worker.on("slow")
    async def slow(_action: Action) -> None:
        await other_ran.wait()

    @worker.on("quick")
    async def quick(_action: Action) -> None:
        other_ran.set()

    coordinator.deliver("slow", "a")
    coordinator.deliver("quick", "b")
    async with worker:
        await until(lambda: len(coordinator.acknowledged) == 2)
    assert coordinator.outcomes() == [("b", "ACK"), ("a", "ACK")]


async def test_each_action_is_handled_in_a_trace_of_its_own(
    coordinator: Coordinator, client: GrpcClient
) -> None:
    worker = Worker(client)
    traces = []

    @worker.on("cleanup")
    async def cleanup(_action: Action) -> None:
        traces.append(current_trace())

    coordinator.deliver("cleanup", "a", "b")
    async with worker:
        await until(lambda: len(coordinator.acknowledged) == 2)
    assert None not in traces
    assert len(set(traces)) == 2


class TestStop:
    @pytest.fixture
    def began(self) -> asyncio.Event:
        return asyncio.Event()

    @pytest.fixture
    def may_end(self) -> asyncio.Event:
        return asyncio.Event()

    @pytest.fixture
    def worker(
        self, coordinator: Coordinator, client: GrpcClient, began: asyncio.Event, may_end: asyncio.Event
    ) -> Worker:
        worker = Worker(client)

        @worker.on("cleanup")
        async def cleanup(_action: Action) -> None:
            began.set()
            await may_end.wait()

        coordinator.deliver("cleanup", "a")
        return worker

    async def test_running_handlers_end_within_the_grace(
        self, coordinator: Coordinator, worker: Worker, began: asyncio.Event, may_end: asyncio.Event
    ) -> None:
        async with worker:
            await began.wait()
            stopping = asyncio.create_task(worker.stop(grace=60.0))
            await asyncio.sleep(0)
            assert not stopping.done()
            may_end.set()
            await stopping
        assert coordinator.outcomes() == [("a", "ACK")]

    async def test_after_the_grace_they_are_cancelled_and_their_actions_handed_back(
        self, coordinator: Coordinator, worker: Worker, began: asyncio.Event
    ) -> None:
        async with worker:
            await began.wait()
            await worker.stop(grace=0.01)
            assert coordinator.outcomes() == [("a", "NAK")]
            assert coordinator.acknowledged[0].reason == "the worker was stopped"

    async def test_nothing_is_taken_after_it(
        self, coordinator: Coordinator, worker: Worker, began: asyncio.Event, may_end: asyncio.Event
    ) -> None:
        async with worker:
            await began.wait()
            stopping = asyncio.create_task(worker.stop())
            await asyncio.sleep(0)
            coordinator.deliver("cleanup", "b")
            may_end.set()
            await stopping
        assert coordinator.outcomes() == [("a", "ACK")]

    async def test_run_lasts_until_stop(
        self, coordinator: Coordinator, worker: Worker, began: asyncio.Event, may_end: asyncio.Event
    ) -> None:
        running = asyncio.create_task(worker.run())
        await began.wait()
        may_end.set()
        await asyncio.gather(worker.stop(), worker.stop())
        await running
        assert coordinator.outcomes() == [("a", "ACK")]

    async def test_cancelling_run_drains_as_well(
        self, coordinator: Coordinator, worker: Worker, began: asyncio.Event, may_end: asyncio.Event
    ) -> None:
        running = asyncio.create_task(worker.run())
        await began.wait()
        may_end.set()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert coordinator.outcomes() == [("a", "ACK")]


@pytest.mark.parametrize("code", [StatusCode.INVALID_ARGUMENT, StatusCode.PERMISSION_DENIED])
async def test_a_stream_that_is_refused_for_good_ends_the_worker(
    coordinator: Coordinator, client: GrpcClient, code: StatusCode
) -> None:
    worker = Worker(client)

    @worker.on("cleanup")
    async def cleanup(_action: Action) -> None:
        pass

    coordinator.deliver("cleanup", code)
    with pytest.raises(CallError, match="broken by the test") as caught:
        await worker.run()
    assert caught.value.code() is code


async def nothing(_action: Action) -> None:
    pass


@pytest.mark.parametrize(
    ("misuse", "message"),
    [
        (lambda client: Worker(client, concurrency=0), "concurrency=0"),
        (lambda client: Worker(client, lease=0.0), "lease=0"),
        (lambda client: Worker(client, grace=-1.0), "grace=-1"),
        (lambda _client: Postpone("later", delay=-1.0), "delay=-1"),
    ],
)
def test_a_setting_out_of_range_is_named(misuse: Callable[[GrpcClient], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        misuse(GrpcClient())


async def test_a_worker_is_set_up_before_it_starts_and_starts_once(client: GrpcClient) -> None:
    worker = Worker(client)
    with pytest.raises(TaiGrpcError, match="no handlers"):
        await worker.run()
    worker.on("a")(nothing)
    with pytest.raises(ConfigError, match="group='a'"):
        worker.on("a")
    async with worker:
        with pytest.raises(TaiGrpcError, match="before it is started"):
            worker.on("b")
        with pytest.raises(TaiGrpcError, match="started before"):
            await worker.run()
    await worker.stop()


async def test_stopping_a_worker_that_never_started_does_no_harm(client: GrpcClient) -> None:
    worker = Worker(client)
    worker.on("a")(nothing)
    await worker.stop()


def test_what_handlers_raise_survives_pickling() -> None:
    """As when a handler does its work in another process."""
    for error in (Reject("never"), Postpone("later", delay=2.0)):
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
