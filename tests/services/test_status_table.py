"""Every row of the status table in services/errors.py, sent over a socket."""

from collections.abc import AsyncIterator, Awaitable
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from services.conftest import Peer, Serve
from tai_grpc.config import StoreLimits
from tai_grpc.stores.memory import MemoryStore
from tai_grpc.tai import (
    AcknowledgeActionRequest,
    Action,
    CancelTaskRequest,
    GetPoliciesRequest,
    GetStatusRequest,
    GetTaskStatusRequest,
    HealthCheckRequest,
    Outcome,
    Policy,
    ScheduleTaskRequest,
    Signal,
    StreamActionsRequest,
    StreamPoliciesRequest,
    StreamTaskUpdatesRequest,
)

HOUR_NS = 3600 * 10**9


async def refused(call: Awaitable[object]) -> tuple[StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


async def first(stream: AsyncIterator[Any]) -> Any:
    return await anext(aiter(stream))


@pytest.mark.parametrize(
    ("service", "method", "request_", "field"),
    [
        ("governor", "ProposePolicy", Policy(policy_type="t"), "id"),
        ("governor", "ProposePolicy", Policy(id="with space", policy_type="t"), "id"),
        ("governor", "ProposePolicy", Policy(id="x" * 257, policy_type="t"), "id"),
        ("governor", "ProposePolicy", Policy(id="p"), "policy_type"),
        ("governor", "ProposePolicy", Policy(id="p", policy_type="t", version=-1), "version"),
        ("governor", "ProposePolicy", Policy(id="p", policy_type="t", version=2**53 + 1), "version"),
        ("governor", "ProposePolicy", Policy(id="p", policy_type="t", rules={"": "v"}), "rules"),
        (
            "governor",
            "ProposePolicy",
            Policy(id="p", policy_type="t", expected_version=-1),
            "expected_version",
        ),
        ("governor", "EnforcePolicy", Policy(), "id"),
        ("governor", "RevokePolicy", Policy(id="p", version=-2), "version"),
        ("governor", "GetPolicies", GetPoliciesRequest(ids=[""]), "ids"),
        ("governor", "GetPolicies", GetPoliciesRequest(page_size=1001), "page_size"),
        ("governor", "GetPolicies", GetPoliciesRequest(page_token="garbage"), "page_token"),
        ("governor", "GetPolicies", GetPoliciesRequest(page_token="WyJhIiwgSW5maW5pdHld"), "page_token"),
        ("governor", "GetPolicies", GetPoliciesRequest(states=[99]), "states"),  # type: ignore[list-item]
        ("governor", "StreamPolicies", StreamPoliciesRequest(from_revision=-1), "from_revision"),
        ("coordinator", "SubmitSignal", Signal(signal_type="t"), "id"),
        ("coordinator", "SubmitSignal", Signal(id="task/x", signal_type="t"), "id"),
        ("coordinator", "SubmitSignal", Signal(id="s"), "signal_type"),
        ("coordinator", "SubmitSignal", Signal(id="s", signal_type="t", priority=1001), "priority"),
        ("coordinator", "SubmitSignal", Signal(id="s", signal_type="t", ttl_ns=-1), "ttl_ns"),
        ("coordinator", "SubmitSignal", Signal(id="s", signal_type="t", timestamp_ns=-1), "timestamp_ns"),
        ("coordinator", "RequestAction", Action(action_type="t"), "id"),
        ("coordinator", "RequestAction", Action(id="task/x", action_type="t"), "id"),
        ("coordinator", "RequestAction", Action(id="a"), "action_type"),
        ("coordinator", "RequestAction", Action(id="a", action_type="t", group="a b"), "group"),
        (
            "coordinator",
            "RequestAction",
            Action(id="a", action_type="t", max_deliveries=1001),
            "max_deliveries",
        ),
        ("coordinator", "StreamActions", StreamActionsRequest(), "group"),
        ("coordinator", "StreamActions", StreamActionsRequest(group="g", max_in_flight=-1), "max_in_flight"),
        ("coordinator", "StreamActions", StreamActionsRequest(group="g", lease_ns=1), "lease_ns"),
        ("coordinator", "AcknowledgeAction", AcknowledgeActionRequest(), "action_id"),
        ("coordinator", "AcknowledgeAction", AcknowledgeActionRequest(action_id="a"), "group"),
        (
            "coordinator",
            "AcknowledgeAction",
            AcknowledgeActionRequest(action_id="a", group="g"),
            "lease_token",
        ),
        (
            "coordinator",
            "AcknowledgeAction",
            AcknowledgeActionRequest(action_id="a", group="g", lease_token="t"),
            "outcome",
        ),
        (
            "coordinator",
            "AcknowledgeAction",
            AcknowledgeActionRequest(
                action_id="a", group="g", lease_token="t", outcome=Outcome.OUTCOME_NAK, delay_ns=25 * HOUR_NS
            ),
            "delay_ns",
        ),
        ("scheduler", "SubmitTask", ScheduleTaskRequest(task_type="t"), "task_id"),
        ("scheduler", "SubmitTask", ScheduleTaskRequest(task_id="t"), "task_type"),
        (
            "scheduler",
            "SubmitTask",
            ScheduleTaskRequest(task_id="t", task_type="t", max_attempts=-1),
            "max_attempts",
        ),
        (
            "scheduler",
            "SubmitTask",
            ScheduleTaskRequest(task_id="t", task_type="t", priority=-1001),
            "priority",
        ),
        (
            "scheduler",
            "SubmitTask",
            ScheduleTaskRequest(task_id="t", task_type="t", retry_backoff_ns=5),
            "retry_backoff_ns",
        ),
        (
            "scheduler",
            "SubmitTask",
            ScheduleTaskRequest(task_id="t", task_type="t", scheduled_time_ns=-1),
            "scheduled_time_ns",
        ),
        ("scheduler", "CancelTask", CancelTaskRequest(), "task_id"),
        ("scheduler", "GetTaskStatus", GetTaskStatusRequest(), "task_id"),
        ("scheduler", "StreamTaskUpdates", StreamTaskUpdatesRequest(task_ids=["a b"]), "task_ids"),
    ],
)
async def test_malformed_is_invalid_argument_naming_the_field(
    peer: Peer, service: str, method: str, request_: object, field: str
) -> None:
    call = getattr(getattr(peer, service), method)(request_)
    code, details = await refused(first(call) if method.startswith("Stream") else call)
    assert code is StatusCode.INVALID_ARGUMENT
    assert details.startswith(field)


async def test_unknown_id_is_not_found(peer: Peer) -> None:
    await peer.coordinator.RequestAction(Action(id="known", action_type="t", group="g"))
    await peer.governor.ProposePolicy(Policy(id="known", policy_type="t"))
    acknowledge = AcknowledgeActionRequest(
        action_id="none", group="g", lease_token="t", outcome=Outcome.OUTCOME_ACK
    )
    for call in (
        peer.governor.EnforcePolicy(Policy(id="none")),
        peer.governor.EnforcePolicy(Policy(id="known", version=7)),
        peer.governor.RevokePolicy(Policy(id="none")),
        peer.governor.GetPolicies(GetPoliciesRequest(ids=["known", "none"])),
        peer.coordinator.AcknowledgeAction(acknowledge),
        peer.coordinator.GetStatus(GetStatusRequest(group="none")),
        peer.coordinator.GetStatus(GetStatusRequest(action_id="none")),
        peer.scheduler.CancelTask(CancelTaskRequest(task_id="none")),
        peer.scheduler.GetTaskStatus(GetTaskStatusRequest(task_id="none")),
    ):
        code, details = await refused(call)
        assert code is StatusCode.NOT_FOUND
        assert "'none'" in details or "version 7" in details


async def test_same_id_with_the_same_content_returns_the_first_receipt(peer: Peer) -> None:
    for call, request in (
        (peer.governor.ProposePolicy, Policy(id="p", policy_type="t", rules={"a": "1", "b": "2"})),
        (peer.governor.EnforcePolicy, Policy(id="p")),
        (peer.coordinator.SubmitSignal, Signal(id="s", signal_type="t", payload=b"\x00\xff")),
        (peer.coordinator.RequestAction, Action(id="a", action_type="t", parameters={"k": "v"})),
        (peer.scheduler.SubmitTask, ScheduleTaskRequest(task_id="t", task_type="g", scheduled_time_ns=2**61)),
        (peer.scheduler.CancelTask, CancelTaskRequest(task_id="t", reason="enough")),
        (peer.governor.RevokePolicy, Policy(id="p")),
    ):
        receipt = await call(request)
        assert await call(request) == receipt
        assert receipt.revision > 0
        assert receipt.recorded_at_ns > 0


async def test_same_id_with_different_content_already_exists(peer: Peer) -> None:
    await peer.governor.ProposePolicy(Policy(id="p", policy_type="t", rules={"a": "1"}))
    await peer.coordinator.SubmitSignal(Signal(id="s", signal_type="t"))
    await peer.coordinator.RequestAction(Action(id="a", action_type="t"))
    await peer.scheduler.SubmitTask(ScheduleTaskRequest(task_id="t", task_type="g"))
    for call in (
        peer.governor.ProposePolicy(Policy(id="p", policy_type="t", rules={"a": "2"})),
        peer.coordinator.SubmitSignal(Signal(id="s", signal_type="t", payload=b"other")),
        peer.coordinator.SubmitSignal(Signal(id="a", signal_type="t")),
        peer.coordinator.RequestAction(Action(id="a", action_type="t", priority=1)),
        peer.scheduler.SubmitTask(ScheduleTaskRequest(task_id="t", task_type="g", priority=1)),
    ):
        assert (await refused(call))[0] is StatusCode.ALREADY_EXISTS


async def test_stale_expected_version_is_aborted(peer: Peer) -> None:
    await peer.governor.ProposePolicy(Policy(id="p", policy_type="t", expected_version=0))
    for call in (
        peer.governor.ProposePolicy(Policy(id="p", policy_type="t", version=2, expected_version=0)),
        peer.governor.ProposePolicy(Policy(id="new", policy_type="t", expected_version=1)),
        peer.governor.EnforcePolicy(Policy(id="p", expected_version=2)),
        peer.governor.RevokePolicy(Policy(id="p", expected_version=0)),
    ):
        code, details = await refused(call)
        assert code is StatusCode.ABORTED
        assert details.startswith("expected_version")
    await peer.governor.ProposePolicy(Policy(id="p", policy_type="t", version=2, expected_version=1))


async def test_wrong_state_is_failed_precondition(peer: Peer) -> None:
    governor, scheduler = peer.governor, peer.scheduler
    for version in (1, 3):
        await governor.ProposePolicy(Policy(id="p", policy_type="t", version=version))
        await governor.EnforcePolicy(Policy(id="p", version=version))
    await governor.RevokePolicy(Policy(id="p", version=3))
    task = ScheduleTaskRequest(task_id="t", task_type="g", scheduled_time_ns=2**61)
    await scheduler.SubmitTask(task)
    await scheduler.CancelTask(CancelTaskRequest(task_id="t", reason="first"))
    for call, state in (
        (governor.EnforcePolicy(Policy(id="p", version=1)), "SUPERSEDED"),
        (governor.RevokePolicy(Policy(id="p", version=1)), "SUPERSEDED"),
        (governor.EnforcePolicy(Policy(id="p", version=3)), "REVOKED"),
        (governor.ProposePolicy(Policy(id="p", policy_type="t", version=2)), "older than the newest"),
        (scheduler.CancelTask(CancelTaskRequest(task_id="t", reason="second")), "CANCELLED"),
    ):
        code, details = await refused(call)
        assert code is StatusCode.FAILED_PRECONDITION
        assert state in details


async def test_stale_lease_token_is_failed_precondition(peer: Peer) -> None:
    coordinator = peer.coordinator
    stream = coordinator.StreamActions(StreamActionsRequest(group="g"))
    await coordinator.RequestAction(Action(id="a", action_type="t", group="g"))
    lease = await first(stream)
    nak = _acknowledgement(lease, Outcome.OUTCOME_NAK)
    await coordinator.AcknowledgeAction(nak)
    again = await first(stream)
    assert again.lease_token != lease.lease_token
    stale = _acknowledgement(lease, Outcome.OUTCOME_ACK)
    code, details = await refused(coordinator.AcknowledgeAction(stale))
    assert code is StatusCode.FAILED_PRECONDITION
    assert details.startswith("lease_token")
    # The nak itself may be a call whose answer was lost: the same one is answered as before.
    assert (await coordinator.AcknowledgeAction(nak)).subject_id == "a"
    await coordinator.AcknowledgeAction(_acknowledgement(again, Outcome.OUTCOME_ACK))
    over = _acknowledgement(again, Outcome.OUTCOME_TERM)
    assert (await refused(coordinator.AcknowledgeAction(over)))[0] is StatusCode.FAILED_PRECONDITION


def _acknowledgement(action: Action, outcome: Outcome.ValueType) -> AcknowledgeActionRequest:
    return AcknowledgeActionRequest(
        action_id=action.id, group=action.group, lease_token=action.lease_token, outcome=outcome
    )


@pytest.mark.parametrize(
    ("service", "method", "request_", "field"),
    [
        ("governor", "ProposePolicy", Policy(id="p", policy_type="x" * 257), "policy_type"),
        ("governor", "ProposePolicy", Policy(id="p", policy_type="t", policy_name="é" * 129), "policy_name"),
        (
            "governor",
            "ProposePolicy",
            Policy(id="p", policy_type="t", rules={str(n): "" for n in range(257)}),
            "rules",
        ),
        ("governor", "ProposePolicy", Policy(id="p", policy_type="t", rules={"k": "x" * 16385}), "rules"),
        (
            "governor",
            "ProposePolicy",
            Policy(id="p", policy_type="t", rules={str(n): "x" * 16_000 for n in range(70)}),
            "rules",
        ),
        ("governor", "GetPolicies", GetPoliciesRequest(ids=["x"] * 1001), "ids"),
        ("governor", "GetPolicies", GetPoliciesRequest(page_token="W" * 1025), "page_token"),
        ("coordinator", "GetStatus", GetStatusRequest(group="x" * 20_000), "group"),
        ("coordinator", "GetStatus", GetStatusRequest(action_id="x" * 20_000), "action_id"),
        ("coordinator", "SubmitSignal", Signal(id="s", signal_type="t", payload=bytes(2**20 + 1)), "payload"),
        (
            "coordinator",
            "RequestAction",
            Action(id="a", action_type="t", payload=bytes(2**20 + 1)),
            "payload",
        ),
        ("scheduler", "CancelTask", CancelTaskRequest(task_id="t", reason="x" * 4097), "reason"),
    ],
)
async def test_too_large_is_resource_exhausted(
    peer: Peer, service: str, method: str, request_: object, field: str
) -> None:
    code, details = await refused(getattr(getattr(peer, service), method)(request_))
    assert code is StatusCode.RESOURCE_EXHAUSTED
    assert details.startswith(field)


async def test_depth_limit_is_resource_exhausted_until_something_is_finished(serve: Serve) -> None:
    limits = StoreLimits(max_policies=2, max_actions=2, max_tasks=2, max_groups=2)
    peer = await serve(store_limits=limits)
    for n in range(2):
        await peer.governor.ProposePolicy(Policy(id=f"p{n}", policy_type="t"))
        await peer.coordinator.RequestAction(Action(id=f"a{n}", action_type="t", group=f"g{n}"))
        await peer.scheduler.SubmitTask(
            ScheduleTaskRequest(task_id=f"t{n}", task_type="g0", scheduled_time_ns=2**61)
        )
    extra = Policy(id="p2", policy_type="t")
    for call in (
        peer.governor.ProposePolicy(extra),
        peer.coordinator.RequestAction(Action(id="a2", action_type="t", group="g0")),
        peer.coordinator.StreamActions(StreamActionsRequest(group="g2")).read(),
        peer.scheduler.SubmitTask(ScheduleTaskRequest(task_id="t2", task_type="g0")),
    ):
        code, details = await refused(call)
        assert code is StatusCode.RESOURCE_EXHAUSTED
        assert "limit reached: 2 " in details
    await peer.governor.RevokePolicy(Policy(id="p0"))
    await peer.governor.ProposePolicy(extra)


async def test_slow_subscriber_is_resource_exhausted_and_can_resume(serve: Serve) -> None:
    """It is cut off, gets what it had not lost, and resumes where the error says, missing nothing."""
    peer = await serve(max_watch_backlog=10)
    watch = peer.governor.StreamPolicies(StreamPoliciesRequest())
    await watch.initial_metadata()
    rules = {str(n): "x" * 16_000 for n in range(20)}
    for n in range(60):
        await peer.governor.ProposePolicy(Policy(id=f"p{n}", policy_type="t", rules=rules))
    seen: list[int] = []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for update in watch:
            seen.append(update.revision)  # noqa: PERF401 -- what came before the error counts
    assert caught.value.code() is StatusCode.RESOURCE_EXHAUSTED
    assert len(seen) < 60
    details = caught.value.details() or ""
    resume = int(details.rpartition("revision ")[2])
    assert resume == seen[-1] + 1
    watch = peer.governor.StreamPolicies(StreamPoliciesRequest(from_revision=resume))
    seen += [(await first(watch)).revision for _ in range(60 - len(seen))]
    assert seen == list(range(1, 61))


async def test_compacted_and_future_revisions_are_out_of_range(serve: Serve) -> None:
    peer = await serve(store_limits=StoreLimits(history=4))
    for n in range(10):
        await peer.governor.ProposePolicy(Policy(id=f"p{n}", policy_type="t"))
        await peer.coordinator.RequestAction(Action(id=f"a{n}", action_type="t"))
        await peer.scheduler.SubmitTask(
            ScheduleTaskRequest(task_id=f"t{n}", task_type="g", scheduled_time_ns=2**61)
        )
    for revision, word in ((1, "compacted"), (1000, "future")):
        for stream in (
            peer.governor.StreamPolicies(StreamPoliciesRequest(from_revision=revision)),
            peer.coordinator.StreamActions(StreamActionsRequest(group="new", from_revision=revision)),
            peer.scheduler.StreamTaskUpdates(StreamTaskUpdatesRequest(from_revision=revision)),
        ):
            code, details = await refused(first(stream))
            assert code is StatusCode.OUT_OF_RANGE
            assert word in details


async def test_store_down_is_unavailable(serve: Serve) -> None:
    store = MemoryStore()
    peer = await serve(store)
    watch = peer.governor.StreamPolicies(StreamPoliciesRequest())
    await watch.initial_metadata()
    await store.close()
    for call in (
        first(watch),
        peer.governor.ProposePolicy(Policy(id="p", policy_type="t")),
        peer.governor.GetPolicies(GetPoliciesRequest()),
        first(peer.coordinator.StreamActions(StreamActionsRequest(group="g"))),
        peer.scheduler.GetTaskStatus(GetTaskStatusRequest(task_id="t")),
        first(peer.scheduler.StreamTaskUpdates(StreamTaskUpdatesRequest())),
    ):
        assert (await refused(call))[0] is StatusCode.UNAVAILABLE
    for service in (peer.governor, peer.coordinator, peer.scheduler):
        health = await service.HealthCheck(HealthCheckRequest())
        assert (health.status, health.reason) == ("unhealthy", "the store is closed")
