"""What the services ask of a store.

All work goes through `Store.run(work)`: `work` reads and writes through one `Transaction`. Reads show the
state before the transaction; what it puts becomes visible at once and as a whole when `work` returns, and
not at all when it raises.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Final, TypeVar

from tai_grpc.stores.records import (
    ActionRecord,
    ActionState,
    Delivery,
    GroupRecord,
    PolicyRecord,
    Record,
    TaskRecord,
)

T = TypeVar("T")

TIMERS: Final = "timers"
"""The topic of whatever may bring `Transaction.next_timer_ns` forward."""


def group_topic(name: str) -> str:
    """Return the topic of what a consumer group can be handed."""
    return f"group:{name}"


class Log(Enum):
    """The logs that can be watched. All share one revision counter; each is compacted by itself."""

    POLICIES = "policies"
    ACTIONS = "actions"
    TASKS = "tasks"


@dataclass(frozen=True, slots=True)
class Moment:
    """When a decision is made: the time, and the store's revision before it."""

    now_ns: int
    revision: int


@dataclass(frozen=True, slots=True)
class LogPage:
    """A piece of a log, in order.

    `first` is the lowest revision that a reader may still ask for and `revision` the store's newest;
    `lag` counts the records that the log holds from the revision asked for on.
    """

    records: Sequence[Record]
    first: int
    revision: int
    lag: int


class Transaction(ABC):
    """The reads and writes of one piece of work."""

    moment: Moment
    """Now, and the revision of the last record put (before the first: the store's)."""

    @abstractmethod
    def put(self, record: Record) -> None:
        """Write a record; its revision is `moment.revision` + 1, which becomes the moment's.

        Raises:
            StoreFullError: the store's limit is reached and nothing that is finished can make room.
        """

    @abstractmethod
    def policy_versions(self, policy_id: str) -> Sequence[PolicyRecord]:
        """Return every version kept of one policy, the oldest first."""

    @abstractmethod
    def policies(
        self, after: tuple[str, int], matches: Callable[[PolicyRecord], bool], limit: int
    ) -> Sequence[PolicyRecord]:
        """Return up to `limit` of the policies that match and whose (id, version) is greater than `after`,
        in that order.
        """

    @abstractmethod
    def action(self, action_id: str) -> ActionRecord | None: ...

    @abstractmethod
    def deliveries(self, action_id: str) -> Sequence[Delivery]: ...

    @abstractmethod
    def delivery(self, action_id: str, group: str) -> Delivery | None: ...

    @abstractmethod
    def group(self, name: str) -> GroupRecord | None: ...

    @abstractmethod
    def groups(self) -> Sequence[GroupRecord]: ...

    @abstractmethod
    def counts(self, group: str) -> Mapping[ActionState, int]:
        """Return how many of the group's deliveries are in each state: of the ended, all there ever were."""

    @abstractmethod
    def pending(self, group: str, limit: int) -> Sequence[Delivery]:
        """Return up to `limit` deliveries to hand out now: the highest priority first, then the oldest."""

    @abstractmethod
    def next_pending_ns(self, group: str) -> int:
        """Return when the first delivery that waits out a delay may be handed out; NEVER_NS: none waits."""

    @abstractmethod
    def held_by(self, holder: str) -> int:
        """Return how many leases `holder` has."""

    @abstractmethod
    def lapsed(self, limit: int) -> Sequence[Delivery]:
        """Return up to `limit` deliveries whose lease or time to live is over, the longest over first."""

    @abstractmethod
    def task(self, task_id: str) -> TaskRecord | None: ...

    @abstractmethod
    def due_tasks(self, limit: int) -> Sequence[TaskRecord]:
        """Return up to `limit` SCHEDULED tasks that are due, the longest due first."""

    @abstractmethod
    def next_timer_ns(self) -> int:
        """Return when the next lease, time to live or task is due; NEVER_NS: none is."""


class Store(ABC):
    """Keeps records, their logs and one revision counter. Times come from the store's own clock."""

    shared: ClassVar[bool] = False
    """Whether several processes may have it open at a time, each seeing what the others change."""

    @abstractmethod
    async def run(self, work: Callable[[Transaction], T]) -> T:
        """Do `work` in one transaction.

        Raises:
            StoreUnavailableError: the store is closed or cannot be reached.
        """

    @abstractmethod
    async def read_log(self, log: Log, from_revision: int, limit: int) -> LogPage:
        """Return up to `limit` records from `from_revision` on.

        Raises:
            StoreUnavailableError: the store is closed or cannot be reached.
        """

    @abstractmethod
    async def changed(self, topic: str, since_revision: int, timeout: float | None) -> None:
        """Return once a revision after `since_revision` concerned `topic`, or after `timeout` seconds.

        Topics: a `Log`'s value, `group_topic(name)`, `TIMERS`.

        Raises:
            StoreUnavailableError: the store was closed.
        """

    @abstractmethod
    async def close(self) -> None: ...
