"""What a store keeps: immutable records. A change is a new record with a higher revision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum


class PolicyState(IntEnum):
    """As in tai.v1.PolicyState."""

    PROPOSED = 1
    ENFORCED = 2
    SUPERSEDED = 3
    REVOKED = 4


class ActionSource(IntEnum):
    """As in tai.v1.ActionSource."""

    REQUEST = 1
    SIGNAL = 2
    TASK = 3


class ActionState(IntEnum):
    """As in tai.v1.ActionState."""

    PENDING = 1
    DISPATCHED = 2
    ACKNOWLEDGED = 3
    FAILED = 4
    EXPIRED = 5


class TaskState(IntEnum):
    """As in tai.v1.TaskState."""

    SCHEDULED = 1
    QUEUED = 2
    RUNNING = 3
    SUCCEEDED = 4
    FAILED = 5
    CANCELLED = 6


@dataclass(frozen=True, slots=True)
class Receipt:
    """As in tai.v1.Receipt; its id is derived from the revision."""

    operation: str
    subject_id: str
    revision: int
    recorded_at_ns: int
    digest: str
    version: int = 0


@dataclass(frozen=True, slots=True)
class PolicyRecord:
    """One version of a policy, with the receipt of each call that changed it."""

    id: str
    version: int
    policy_type: str
    policy_name: str
    rules: Mapping[str, str]
    enabled: bool
    created_at_ns: int
    updated_at_ns: int
    state: PolicyState
    revision: int
    receipts: Mapping[str, Receipt]

    @property
    def finished(self) -> bool:
        return self.state in (PolicyState.SUPERSEDED, PolicyState.REVOKED)


@dataclass(frozen=True, slots=True)
class ActionRecord:
    """What is to be done. It never changes; its `Delivery` in each group does.

    `group` is "" when it is meant for every group. `expires_at_ns` is 0 for never.
    """

    id: str
    action_type: str
    parameters: Mapping[str, str]
    payload: bytes
    priority: int
    group: str
    expires_at_ns: int
    max_deliveries: int
    source: ActionSource
    created_at_ns: int
    revision: int
    receipt: Receipt


NEVER_NS = 2**63 - 1
"""The time of what does not come by itself."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """An action's way through one consumer group.

    PENDING: handed out from `not_before_ns` on. DISPATCHED: leased to `holder` under `lease_token` until
    `lease_deadline_ns`. `settled` is the receipt of the last acknowledgement.
    """

    action_id: str
    group: str
    priority: int
    created_revision: int
    expires_at_ns: int
    state: ActionState
    revision: int
    not_before_ns: int = 0
    attempt: int = 0
    holder: str = ""
    lease_token: str = ""
    lease_ns: int = 0
    lease_deadline_ns: int = 0
    reason: str = ""
    settled: Receipt | None = None

    @property
    def finished(self) -> bool:
        return self.state not in (ActionState.PENDING, ActionState.DISPATCHED)

    @property
    def lapses_ns(self) -> int:
        """When its lease or its time to live is over."""
        if self.state is ActionState.DISPATCHED:
            return self.lease_deadline_ns
        if self.state is ActionState.PENDING and self.expires_at_ns:
            return self.expires_at_ns
        return NEVER_NS


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """A task, with the receipt of each call that changed it. `scheduled_time_ns` is when it is next due."""

    task_id: str
    task_type: str
    parameters: Mapping[str, str]
    scheduled_time_ns: int
    priority: int
    max_attempts: int
    retry_backoff_ns: int
    created_at_ns: int
    updated_at_ns: int
    state: TaskState
    revision: int
    receipts: Mapping[str, Receipt]
    attempt: int = 0
    cancel_requested: bool = False
    reason: str = ""
    result: bytes = b""

    @property
    def finished(self) -> bool:
        return self.state in (TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED)


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """A consumer group. It is made when first named and stays."""

    name: str
    revision: int


Record = PolicyRecord | ActionRecord | Delivery | TaskRecord | GroupRecord
