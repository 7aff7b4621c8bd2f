"""The state machine of an action's delivery, in each consumer group.

PENDING -> DISPATCHED(lease) -> ACKNOWLEDGED | FAILED; a nak or the lease's end -> PENDING, until the action
has been handed out `max_deliveries` times: then FAILED, a dead letter; the time to live -> EXPIRED.

Each function takes what is kept, a command and a moment, and returns the change or raises `ServiceError`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

from tai_grpc.services.change import Change, content_digest
from tai_grpc.services.errors import already_exists, wrong_state
from tai_grpc.stores.base import Moment
from tai_grpc.stores.records import (
    ActionRecord,
    ActionSource,
    ActionState,
    Delivery,
    GroupRecord,
    Receipt,
    Record,
)

SUBMIT_SIGNAL: Final = "tai.v1.Coordinator/SubmitSignal"
REQUEST_ACTION: Final = "tai.v1.Coordinator/RequestAction"
ACKNOWLEDGE: Final = "tai.v1.Coordinator/AcknowledgeAction"
DEFAULT_MAX_DELIVERIES: Final = 5


class Outcome(IntEnum):
    """As in tai.v1.Outcome."""

    ACK = 1
    NAK = 2
    IN_PROGRESS = 3
    TERM = 4


@dataclass(frozen=True, slots=True)
class Request:
    """An action wanted, by itself or on account of a signal (`timestamp_ns` is the signal's)."""

    operation: str
    source: ActionSource
    id: str
    action_type: str
    parameters: Mapping[str, str]
    payload: bytes
    priority: int
    group: str
    ttl_ns: int
    max_deliveries: int
    timestamp_ns: int = 0

    @property
    def digest(self) -> str:
        return content_digest(
            self.operation,
            [
                self.id,
                self.action_type,
                dict(self.parameters),
                self.payload,
                self.priority,
                self.group,
                self.ttl_ns,
                self.max_deliveries,
                self.timestamp_ns,
            ],
        )


@dataclass(frozen=True, slots=True)
class Acknowledge:
    action_id: str
    group: str
    lease_token: str
    outcome: Outcome
    delay_ns: int
    reason: str
    result: bytes

    @property
    def digest(self) -> str:
        content = [self.action_id, self.group, self.lease_token, self.outcome, self.delay_ns]
        return content_digest(ACKNOWLEDGE, [*content, self.reason, self.result])


def request(
    existing: ActionRecord | None, groups: Collection[str], command: Request, moment: Moment
) -> Change:
    """Add an action, PENDING in the group it names (made when new), or else in each of `groups`."""
    if existing is not None:
        if existing.receipt.digest != command.digest:
            raise already_exists(f"action {command.id!r}")
        return Change((), existing.receipt)
    records: list[Record] = []
    revision = moment.revision
    if command.group and command.group not in groups:
        revision += 1
        records.append(GroupRecord(command.group, revision))
    revision += 1
    receipt = Receipt(command.operation, command.id, revision, moment.now_ns, command.digest)
    action = ActionRecord(
        id=command.id,
        action_type=command.action_type,
        parameters=command.parameters,
        payload=command.payload,
        priority=command.priority,
        group=command.group,
        expires_at_ns=moment.now_ns + command.ttl_ns if command.ttl_ns else 0,
        max_deliveries=command.max_deliveries,
        source=command.source,
        created_at_ns=moment.now_ns,
        revision=revision,
        receipt=receipt,
    )
    records.append(action)
    wanted = [command.group] if command.group else sorted(groups)
    records += fan_out(action, wanted, revision)
    return Change(records, receipt)


def fan_out(action: ActionRecord, groups: Sequence[str], revision: int) -> list[Delivery]:
    """Return the action's new deliveries, PENDING, of the revisions after `revision`."""
    return [
        Delivery(
            action_id=action.id,
            group=group,
            priority=action.priority,
            created_revision=action.revision,
            expires_at_ns=action.expires_at_ns,
            state=ActionState.PENDING,
            revision=revision + position,
        )
        for position, group in enumerate(groups, start=1)
    ]


def lease(delivery: Delivery, holder: str, lease_ns: int, moment: Moment) -> Delivery:
    """Hand a PENDING delivery to `holder`. The token grows with every lease, so it fences off older ones."""
    revision = moment.revision + 1
    return replace(
        delivery,
        state=ActionState.DISPATCHED,
        attempt=delivery.attempt + 1,
        holder=holder,
        lease_token=f"{revision:016x}",
        lease_ns=lease_ns,
        lease_deadline_ns=moment.now_ns + lease_ns,
        not_before_ns=0,
        revision=revision,
    )


def check_lease(delivery: Delivery, command: Acknowledge) -> Receipt | None:
    """Return the receipt of this acknowledgement when it was made before; None: the lease is in force."""
    if delivery.settled is not None and delivery.settled.digest == command.digest:
        return delivery.settled
    where = f"action {delivery.action_id!r} in group {delivery.group!r}"
    if delivery.state is not ActionState.DISPATCHED:
        raise wrong_state(f"lease_token: {where} is {delivery.state.name}, no lease is held")
    if delivery.lease_token != command.lease_token:
        raise wrong_state(f"lease_token: the lease of {where} is no longer this one")
    return None


def acknowledge(action: ActionRecord, delivery: Delivery, command: Acknowledge, moment: Moment) -> Change:
    """Settle the present lease (or start it anew, with IN_PROGRESS)."""
    if (settled := check_lease(delivery, command)) is not None:
        return Change((), settled)
    revision = moment.revision + 1
    receipt = acknowledged(command, moment)
    if command.outcome is Outcome.IN_PROGRESS:
        deadline_ns = moment.now_ns + delivery.lease_ns
        return Change((replace(delivery, lease_deadline_ns=deadline_ns, revision=revision),), receipt)
    if command.outcome is Outcome.ACK:
        after = ended(delivery, ActionState.ACKNOWLEDGED, "", revision)
    elif command.outcome is Outcome.TERM:
        after = ended(delivery, ActionState.FAILED, command.reason or "given up by its worker", revision)
    else:
        after = handed_back(action, delivery, command.reason, command.delay_ns, moment)
    return Change((replace(after, settled=receipt),), receipt)


def acknowledged(command: Acknowledge, moment: Moment) -> Receipt:
    return Receipt(ACKNOWLEDGE, command.action_id, moment.revision + 1, moment.now_ns, command.digest)


def lapse(action: ActionRecord, delivery: Delivery, moment: Moment) -> Delivery:
    """Return what becomes of a delivery whose lease or time to live is over."""
    if delivery.state is ActionState.PENDING:
        return ended(delivery, ActionState.EXPIRED, "its time to live is over", moment.revision + 1)
    return handed_back(action, delivery, "its lease ended", 0, moment)


def handed_back(
    action: ActionRecord, delivery: Delivery, reason: str, delay_ns: int, moment: Moment
) -> Delivery:
    revision = moment.revision + 1
    if delivery.attempt >= action.max_deliveries:
        dead = f"dead letter after {delivery.attempt} deliveries"
        return ended(delivery, ActionState.FAILED, f"{dead}: {reason}" if reason else dead, revision)
    if delivery.expires_at_ns and delivery.expires_at_ns <= moment.now_ns:
        return ended(delivery, ActionState.EXPIRED, "its time to live is over", revision)
    return waiting(delivery, moment.now_ns + delay_ns, reason, revision)


def waiting(delivery: Delivery, not_before_ns: int, reason: str, revision: int) -> Delivery:
    """Return the delivery PENDING, without a lease."""
    return _without_lease(delivery, ActionState.PENDING, reason, revision, not_before_ns)


def ended(delivery: Delivery, state: ActionState, reason: str, revision: int) -> Delivery:
    """Return the delivery in a final state, without a lease."""
    return _without_lease(delivery, state, reason, revision, 0)


def _without_lease(
    delivery: Delivery, state: ActionState, reason: str, revision: int, not_before_ns: int
) -> Delivery:
    return replace(
        delivery,
        state=state,
        holder="",
        lease_token="",
        lease_ns=0,
        lease_deadline_ns=0,
        not_before_ns=not_before_ns,
        reason=reason,
        revision=revision,
    )
