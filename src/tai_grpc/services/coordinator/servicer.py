"""tai.v1.Coordinator: requests to commands, and the streams that hand actions out."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Final

from tai_grpc.services import work
from tai_grpc.services.coordinator import machine
from tai_grpc.services.core import REVISION_KEY, Context, Core, answers, streams
from tai_grpc.services.errors import invalid, not_found
from tai_grpc.services.fields import (
    MAX_PAYLOAD_BYTES,
    MAX_REASON_BYTES,
    MAX_RESULT_BYTES,
    check_bytes,
    check_default,
    check_id,
    check_map,
    check_priority,
    check_range,
    check_revision,
    check_text,
    check_time_ns,
)
from tai_grpc.services.messages import health_message, receipt_message
from tai_grpc.stores.base import Log, Transaction, group_topic
from tai_grpc.stores.records import (
    NEVER_NS,
    ActionRecord,
    ActionSource,
    ActionState,
    Delivery,
    GroupRecord,
    Receipt,
    Record,
)
from tai_grpc.tai.v1 import coordinator_pb2, coordinator_pb2_grpc, types_pb2

SECOND_NS: Final = 1_000_000_000
HOUR_NS: Final = 3600 * SECOND_NS


class CoordinatorServicer(coordinator_pb2_grpc.CoordinatorServicer):
    def __init__(self, core: Core) -> None:
        self._core = core
        self._consumers: Counter[str] = Counter()

    @answers
    async def SubmitSignal(self, request: types_pb2.Signal, context: Context) -> types_pb2.Receipt:
        command = machine.Request(
            operation=machine.SUBMIT_SIGNAL,
            source=ActionSource.SIGNAL,
            id=_check_own_id(request.id),
            action_type=check_text("signal_type", request.signal_type, required=True),
            parameters=check_map("metadata", request.metadata),
            payload=check_bytes("payload", request.payload, MAX_PAYLOAD_BYTES),
            priority=check_priority("priority", request.priority),
            group=_check_group(request.group),
            ttl_ns=check_time_ns("ttl_ns", request.ttl_ns),
            max_deliveries=machine.DEFAULT_MAX_DELIVERIES,
            timestamp_ns=check_time_ns("timestamp_ns", request.timestamp_ns),
        )
        return receipt_message(await self._core.run(lambda tx: _request(tx, command)))

    @answers
    async def RequestAction(self, request: types_pb2.Action, context: Context) -> types_pb2.Receipt:
        default = machine.DEFAULT_MAX_DELIVERIES
        command = machine.Request(
            operation=machine.REQUEST_ACTION,
            source=ActionSource.REQUEST,
            id=_check_own_id(request.id),
            action_type=check_text("action_type", request.action_type, required=True),
            parameters=check_map("parameters", request.parameters),
            payload=check_bytes("payload", request.payload, MAX_PAYLOAD_BYTES),
            priority=check_priority("priority", request.priority),
            group=_check_group(request.group),
            ttl_ns=check_time_ns("ttl_ns", request.ttl_ns),
            max_deliveries=check_default("max_deliveries", request.max_deliveries, 1, 1000, default),
        )
        return receipt_message(await self._core.run(lambda tx: _request(tx, command)))

    @streams
    async def StreamActions(
        self, request: coordinator_pb2.StreamActionsRequest, context: Context
    ) -> AsyncIterator[types_pb2.Action]:
        group = check_id("group", request.group)
        check_text("consumer", request.consumer)
        max_in_flight = check_default("max_in_flight", request.max_in_flight, 1, 10_000, 1)
        lease_ns = check_default("lease_ns", request.lease_ns, SECOND_NS // 100, 12 * HOUR_NS, 30 * SECOND_NS)
        from_revision = check_revision("from_revision", request.from_revision)
        holder = secrets.token_hex(8)

        revision = await self._join(group, from_revision)
        self._consumers[group] += 1
        try:
            await context.send_initial_metadata(((REVISION_KEY, str(revision)),))
            while True:
                self._core.check_drain()
                handed, revision, next_ns = await self._core.run(
                    lambda tx: (
                        work.hand_out(tx, group, holder, max_in_flight, lease_ns),
                        tx.moment.revision,
                        tx.next_pending_ns(group) - tx.moment.now_ns,
                    )
                )
                if handed is not None:
                    # One at a time: what the peer has not yet read stays with the group, without a lease.
                    yield _action_message(*handed)
                else:
                    timeout = max(next_ns, 0) / SECOND_NS if next_ns < 24 * HOUR_NS else None
                    await self._core.wait(group_topic(group), revision, timeout)
        finally:
            self._consumers[group] -= 1
            if not self._consumers[group]:
                del self._consumers[group]

    @answers
    async def AcknowledgeAction(
        self, request: coordinator_pb2.AcknowledgeActionRequest, context: Context
    ) -> types_pb2.Receipt:
        command = machine.Acknowledge(
            action_id=check_text("action_id", request.action_id, 2 * 256, required=True),
            group=check_id("group", request.group),
            lease_token=check_text("lease_token", request.lease_token, required=True),
            outcome=machine.Outcome(check_range("outcome", request.outcome, 1, 4)),
            delay_ns=check_range("delay_ns", request.delay_ns, 0, 24 * HOUR_NS),
            reason=check_text("reason", request.reason, MAX_REASON_BYTES),
            result=check_bytes("result", request.result, MAX_RESULT_BYTES),
        )
        return receipt_message(await self._core.run(lambda tx: work.acknowledge(tx, command)))

    @answers
    async def GetStatus(
        self, request: coordinator_pb2.GetStatusRequest, context: Context
    ) -> coordinator_pb2.CoordinationStatus:
        check_text("group", request.group)
        check_text("action_id", request.action_id, 2 * 256)

        def read(tx: Transaction) -> coordinator_pb2.CoordinationStatus:
            groups = tx.groups()
            if request.group:
                groups = [group for group in groups if group.name == request.group]
                if not groups:
                    raise not_found(f"consumer group {request.group!r}")
            actions: list[types_pb2.Action] = []
            if request.action_id:
                action = tx.action(request.action_id)
                if action is None:
                    raise not_found(f"action {request.action_id!r}")
                actions = [
                    _action_message(action, delivery)
                    for delivery in tx.deliveries(action.id)
                    if request.group in ("", delivery.group)
                ]
            return coordinator_pb2.CoordinationStatus(
                revision=tx.moment.revision,
                groups=[self._group_message(tx, group) for group in groups],
                actions=actions,
            )

        return await self._core.run(read)

    async def HealthCheck(
        self, request: types_pb2.HealthCheckRequest, context: Context
    ) -> types_pb2.HealthStatus:
        return health_message(await self._core.health())

    async def _join(self, group: str, from_revision: int) -> int:
        """Make the group if it is new, with the kept actions from `from_revision` on; return the revision."""
        kept: Sequence[Record] = ()
        if from_revision and await self._core.run(lambda tx: tx.group(group)) is None:
            kept = (await self._core.read_log(Log.ACTIONS, from_revision, NEVER_NS)).records

        def join(tx: Transaction) -> int:
            if tx.group(group) is None:
                tx.put(GroupRecord(group, tx.moment.revision + 1))
                for record in kept:
                    if (
                        isinstance(record, ActionRecord)
                        and not record.group
                        and tx.action(record.id) == record
                    ):
                        for delivery in machine.fan_out(record, [group], tx.moment.revision):
                            tx.put(delivery)
            return tx.moment.revision

        return await self._core.run(join)

    def _group_message(self, tx: Transaction, group: GroupRecord) -> coordinator_pb2.GroupStatus:
        counts = tx.counts(group.name)
        return coordinator_pb2.GroupStatus(
            group=group.name,
            pending=counts[ActionState.PENDING],
            dispatched=counts[ActionState.DISPATCHED],
            acknowledged=counts[ActionState.ACKNOWLEDGED],
            failed=counts[ActionState.FAILED],
            expired=counts[ActionState.EXPIRED],
            consumers=self._consumers[group.name],
        )


def _request(tx: Transaction, command: machine.Request) -> Receipt:
    groups = {group.name for group in tx.groups()}
    return machine.request(tx.action(command.id), groups, command, tx.moment).apply(tx)


def _check_own_id(value: str) -> str:
    check_id("id", value)
    if value.startswith(work.TASK_PREFIX):
        raise invalid(
            "id", f"must not begin with {work.TASK_PREFIX!r}, which is kept for the actions of tasks"
        )
    return value


def _check_group(value: str) -> str:
    return check_id("group", value) if value else ""


def _action_message(action: ActionRecord, delivery: Delivery) -> types_pb2.Action:
    return types_pb2.Action(
        id=action.id,
        action_type=action.action_type,
        parameters=action.parameters,
        payload=action.payload,
        priority=action.priority,
        group=delivery.group,
        ttl_ns=max(action.expires_at_ns - action.created_at_ns, 0),
        max_deliveries=action.max_deliveries,
        source=types_pb2.ActionSource.ValueType(action.source),
        created_at_ns=action.created_at_ns,
        state=types_pb2.ActionState.ValueType(delivery.state),
        lease_token=delivery.lease_token,
        lease_deadline_ns=delivery.lease_deadline_ns,
        attempt=delivery.attempt,
        revision=delivery.revision,
        reason=delivery.reason,
    )
