"""Records with what a test does not care about filled in."""

from typing import Any

from tai_grpc.stores.records import (
    ActionRecord,
    ActionSource,
    ActionState,
    Delivery,
    GroupRecord,
    PolicyRecord,
    PolicyState,
    Receipt,
    TaskRecord,
    TaskState,
)


def receipt(subject: str = "x", revision: int = 1) -> Receipt:
    return Receipt("pkg.Service/Method", subject, revision, 0, "digest")


def policy(
    revision: int, name: str = "p", version: int = 1, state: PolicyState = PolicyState.PROPOSED
) -> PolicyRecord:
    return PolicyRecord(
        id=name,
        version=version,
        policy_type="type",
        policy_name="name",
        rules={},
        enabled=True,
        created_at_ns=0,
        updated_at_ns=0,
        state=state,
        revision=revision,
        receipts={},
    )


def group(revision: int, name: str = "g") -> GroupRecord:
    return GroupRecord(name, revision)


def action(revision: int, name: str = "a", priority: int = 0, expires_at_ns: int = 0) -> ActionRecord:
    return ActionRecord(
        id=name,
        action_type="type",
        parameters={},
        payload=b"",
        priority=priority,
        group="",
        expires_at_ns=expires_at_ns,
        max_deliveries=5,
        source=ActionSource.REQUEST,
        created_at_ns=0,
        revision=revision,
        receipt=receipt(name, revision),
    )


def delivery(
    revision: int,
    name: str = "a",
    group: str = "g",
    state: ActionState = ActionState.PENDING,
    created_revision: int = 1,
    **fields: Any,
) -> Delivery:
    settings = {"priority": 0, "expires_at_ns": 0, **fields}
    return Delivery(
        action_id=name,
        group=group,
        created_revision=created_revision,
        state=state,
        revision=revision,
        **settings,
    )


def leased(
    revision: int, name: str = "a", group: str = "g", holder: str = "h", until_ns: int = 100
) -> Delivery:
    return delivery(
        revision,
        name,
        group,
        ActionState.DISPATCHED,
        holder=holder,
        lease_token=f"{revision:016x}",
        lease_deadline_ns=until_ns,
    )


def task(
    revision: int, name: str = "t", state: TaskState = TaskState.SCHEDULED, due_ns: int = 0
) -> TaskRecord:
    return TaskRecord(
        task_id=name,
        task_type="g",
        parameters={},
        scheduled_time_ns=due_ns,
        priority=0,
        max_attempts=3,
        retry_backoff_ns=1,
        created_at_ns=0,
        updated_at_ns=0,
        state=state,
        revision=revision,
        receipts={},
    )
