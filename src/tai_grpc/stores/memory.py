"""The store in this process's memory, bounded by `StoreLimits`."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left, insort
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import islice
from typing import Final, Generic, TypeVar

from tai_grpc.config import StoreLimits
from tai_grpc.errors import StoreFullError, StoreUnavailableError
from tai_grpc.stores.base import TIMERS, Log, LogPage, Moment, Store, T, Transaction, group_topic
from tai_grpc.stores.index import OrderedIndex
from tai_grpc.stores.records import (
    NEVER_NS,
    ActionRecord,
    ActionState,
    Delivery,
    GroupRecord,
    PolicyRecord,
    Record,
    TaskRecord,
    TaskState,
)

_DeliveryKey = tuple[str, str]
Key = TypeVar("Key", bound=Hashable)


class _Shelf(Generic[Key]):
    """The records of one kind; the finished, the longest finished first, make room for new ones."""

    def __init__(self, what: str, limit: int) -> None:
        self._what = what
        self._limit = limit
        self._keys: set[Key] = set()
        self._finished: OrderedDict[Key, None] = OrderedDict()

    def check_room(self, keys: set[Key]) -> None:
        # What is finished may be so no longer when it is written again.
        added = sum(key not in self._keys or key in self._finished for key in keys)
        if added and len(self._keys) - len(self._finished) + added > self._limit:
            problem = f"limit reached: {self._limit} {self._what}, too few of them finished to make room"
            raise StoreFullError(problem)

    def note(self, key: Key, *, finished: bool) -> None:
        self._keys.add(key)
        if finished:
            self._finished[key] = None
        else:
            self._finished.pop(key, None)

    def evict(self) -> Key | None:
        """Forget and return the longest finished key, if there are more keys than the limit allows."""
        if len(self._keys) <= self._limit or not self._finished:
            return None
        key, _ = self._finished.popitem(last=False)
        self._keys.remove(key)
        return key


class _LogTail:
    """The newest records of a log: `limit` of them, and up to a quarter more between two trims."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._records: list[Record] = []
        self.first = 1

    def append(self, record: Record) -> None:
        self._records.append(record)
        # A quarter at a time, since each trim moves the whole list.
        if len(self._records) > self._limit + self._limit // 4:
            surplus = len(self._records) - self._limit
            self.first = self._records[surplus - 1].revision + 1
            del self._records[:surplus]

    def read(self, from_revision: int, limit: int) -> tuple[Sequence[Record], int]:
        start = bisect_left(self._records, from_revision, key=lambda record: record.revision)
        return self._records[start : start + limit], len(self._records) - start


class _Group:
    """A consumer group's deliveries: to hand out, waiting out a delay, and how many are in each state."""

    def __init__(self, record: GroupRecord) -> None:
        self.record = record
        self.ready: OrderedIndex[_DeliveryKey, tuple[int, int]] = OrderedIndex()
        self.delayed: OrderedIndex[_DeliveryKey, int] = OrderedIndex()
        self.counts = dict.fromkeys(ActionState, 0)


class MemoryStore(Store):
    """Everything in dictionaries. Work runs undivided on the event loop, so transactions are serial.

    Finished records answer for their ids until new ones need the room. `clock` gives nanoseconds since the
    epoch.
    """

    def __init__(self, limits: StoreLimits | None = None, clock: Callable[[], int] = time.time_ns) -> None:
        limits = limits or StoreLimits()
        self.revision = 0
        self._clock = clock
        self._closed = False
        self._max_groups = limits.max_groups
        self._logs: Final = {log: _LogTail(limits.history) for log in Log}
        self._policies: dict[str, list[PolicyRecord]] = {}
        self._policy_ids: list[str] = []
        self._actions: dict[str, ActionRecord] = {}
        self._deliveries: dict[str, dict[str, Delivery]] = {}
        self._tasks: dict[str, TaskRecord] = {}
        self._groups: dict[str, _Group] = {}
        self._held: Counter[str] = Counter()
        self._lapses: Final[OrderedIndex[_DeliveryKey, int]] = OrderedIndex()
        self._due: Final[OrderedIndex[str, int]] = OrderedIndex()
        self._policy_shelf: Final = _Shelf[tuple[str, int]]("policy versions", limits.max_policies)
        self._action_shelf: Final = _Shelf[str]("actions", limits.max_actions)
        self._task_shelf: Final = _Shelf[str]("tasks", limits.max_tasks)
        self._touched: dict[str, int] = {}
        self._waiters: dict[str, asyncio.Future[None]] = {}

    async def run(self, work: Callable[[Transaction], T]) -> T:
        self._check_open()
        transaction = self._Transaction(self, Moment(self._clock(), self.revision))
        result = work(transaction)
        if transaction.staged:
            self._commit(transaction.staged)
        return result

    async def read_log(self, log: Log, from_revision: int, limit: int) -> LogPage:
        self._check_open()
        tail = self._logs[log]
        records, lag = tail.read(from_revision, limit)
        return LogPage(records, tail.first, self.revision, lag)

    async def changed(self, topic: str, since_revision: int, timeout: float | None) -> None:
        self._check_open()
        if self._touched.get(topic, 0) > since_revision:
            return
        waiter = self._waiters.get(topic)
        if waiter is None:
            waiter = self._waiters[topic] = asyncio.get_running_loop().create_future()
        await asyncio.wait([waiter], timeout=timeout)
        self._check_open()

    async def close(self) -> None:
        self._closed = True
        for topic in list(self._waiters):
            self._wake(topic)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailableError("the store is closed")

    def _wake(self, topic: str) -> None:
        waiter = self._waiters.pop(topic, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _commit(self, staged: Sequence[Record]) -> None:
        self._check_room(staged)
        next_timer_ns = self._next_timer_ns()
        topics: set[str] = set()
        for record in staged:
            self.revision = record.revision
            if isinstance(record, PolicyRecord):
                self._put_policy(record)
                self._logs[Log.POLICIES].append(record)
                topics.add(Log.POLICIES.value)
            elif isinstance(record, TaskRecord):
                self._put_task(record)
                self._logs[Log.TASKS].append(record)
                topics.add(Log.TASKS.value)
            elif isinstance(record, ActionRecord):
                self._actions[record.id] = record
                self._deliveries.setdefault(record.id, {})
                self._action_shelf.note(record.id, finished=True)
                self._logs[Log.ACTIONS].append(record)
                topics.add(Log.ACTIONS.value)
            elif isinstance(record, Delivery):
                self._put_delivery(record)
                topics.add(group_topic(record.group))
            else:
                self._groups[record.name] = _Group(record)
        self._evict()
        if self._next_timer_ns() < next_timer_ns:
            topics.add(TIMERS)
        for topic in topics:
            self._touched[topic] = self.revision
            self._wake(topic)

    def _check_room(self, staged: Sequence[Record]) -> None:
        self._policy_shelf.check_room({(r.id, r.version) for r in staged if isinstance(r, PolicyRecord)})
        actions = {r.id for r in staged if isinstance(r, ActionRecord)}
        actions |= {r.action_id for r in staged if isinstance(r, Delivery)}
        self._action_shelf.check_room(actions)
        self._task_shelf.check_room({r.task_id for r in staged if isinstance(r, TaskRecord)})
        new_groups = {r.name for r in staged if isinstance(r, GroupRecord)} - self._groups.keys()
        if len(self._groups) + len(new_groups) > self._max_groups:
            raise StoreFullError(f"limit reached: {self._max_groups} consumer groups")

    def _put_policy(self, record: PolicyRecord) -> None:
        versions = self._policies.get(record.id)
        if versions is None:
            versions = self._policies[record.id] = []
            insort(self._policy_ids, record.id)
        at = bisect_left(versions, record.version, key=lambda policy: policy.version)
        if at < len(versions) and versions[at].version == record.version:
            versions[at] = record
        else:
            versions.insert(at, record)
        self._policy_shelf.note((record.id, record.version), finished=record.finished)

    def _put_task(self, record: TaskRecord) -> None:
        self._tasks[record.task_id] = record
        if record.state is TaskState.SCHEDULED:
            self._due.set(record.task_id, record.scheduled_time_ns)
        else:
            self._due.discard(record.task_id)
        self._task_shelf.note(record.task_id, finished=record.finished)

    def _put_delivery(self, record: Delivery) -> None:
        key = (record.action_id, record.group)
        siblings = self._deliveries[record.action_id]
        group = self._groups[record.group]
        before = siblings.get(record.group)
        siblings[record.group] = record
        if before is not None and not before.finished:
            group.counts[before.state] -= 1
            if before.holder:
                self._held[before.holder] -= 1
                if not self._held[before.holder]:
                    del self._held[before.holder]
        group.counts[record.state] += 1
        if record.holder:
            self._held[record.holder] += 1

        group.ready.discard(key)
        group.delayed.discard(key)
        if record.state is ActionState.PENDING and record.not_before_ns < NEVER_NS:
            group.delayed.set(key, record.not_before_ns)
        if record.lapses_ns < NEVER_NS:
            self._lapses.set(key, record.lapses_ns)
        else:
            self._lapses.discard(key)
        self._action_shelf.note(record.action_id, finished=all(one.finished for one in siblings.values()))

    def _evict(self) -> None:
        while (key := self._policy_shelf.evict()) is not None:
            policy_id, version = key
            versions = self._policies[policy_id]
            versions[:] = [policy for policy in versions if policy.version != version]
            if not versions:
                del self._policies[policy_id]
                del self._policy_ids[bisect_left(self._policy_ids, policy_id)]
        while (action_id := self._action_shelf.evict()) is not None:
            del self._actions[action_id]
            del self._deliveries[action_id]
        while (task_id := self._task_shelf.evict()) is not None:
            del self._tasks[task_id]

    def _next_timer_ns(self) -> int:
        firsts = (self._lapses.first(), self._due.first())
        return min((first[0] for first in firsts if first is not None), default=NEVER_NS)

    class _Transaction(Transaction):
        """Reads the store's dictionaries; what is put is staged until the work is done."""

        def __init__(self, store: MemoryStore, moment: Moment) -> None:
            self.moment = moment
            self.staged: list[Record] = []
            self._store = store

        def put(self, record: Record) -> None:
            if record.revision != self.moment.revision + 1:
                raise ValueError(f"revision {record.revision} does not follow {self.moment.revision}")
            self.staged.append(record)
            self.moment = Moment(self.moment.now_ns, record.revision)

        def policy_versions(self, policy_id: str) -> Sequence[PolicyRecord]:
            return tuple(self._store._policies.get(policy_id, ()))

        def policies(
            self, after: tuple[str, int], matches: Callable[[PolicyRecord], bool], limit: int
        ) -> Sequence[PolicyRecord]:
            ids = self._store._policy_ids
            first = bisect_left(ids, after[0])
            found = (
                policy
                for index in range(first, len(ids))
                for policy in self._store._policies[ids[index]]
                if (policy.id, policy.version) > after and matches(policy)
            )
            return tuple(islice(found, limit))

        def action(self, action_id: str) -> ActionRecord | None:
            return self._store._actions.get(action_id)

        def deliveries(self, action_id: str) -> Sequence[Delivery]:
            return tuple(self._store._deliveries.get(action_id, {}).values())

        def delivery(self, action_id: str, group: str) -> Delivery | None:
            return self._store._deliveries.get(action_id, {}).get(group)

        def group(self, name: str) -> GroupRecord | None:
            group = self._store._groups.get(name)
            return group.record if group else None

        def groups(self) -> Sequence[GroupRecord]:
            return tuple(group.record for group in self._store._groups.values())

        def counts(self, group: str) -> Mapping[ActionState, int]:
            return dict(self._store._groups[group].counts)

        def pending(self, group: str, limit: int) -> Sequence[Delivery]:
            entry = self._sorted(group)
            if entry is None:
                return ()
            return tuple(self._store._deliveries[key[0]][group] for key in entry.ready.lowest(limit))

        def next_pending_ns(self, group: str) -> int:
            entry = self._sorted(group)
            first = entry.delayed.first() if entry else None
            return NEVER_NS if first is None else first[0]

        def _sorted(self, group: str) -> _Group | None:
            """Return the group when what is due by now is among its ready deliveries."""
            entry = self._store._groups.get(group)
            if entry is not None:
                while (first := entry.delayed.first()) is not None and first[0] <= self.moment.now_ns:
                    key = first[1]
                    delivery = self._store._deliveries[key[0]][group]
                    entry.delayed.discard(key)
                    entry.ready.set(key, (-delivery.priority, delivery.created_revision))
            return entry

        def held_by(self, holder: str) -> int:
            return self._store._held[holder]

        def lapsed(self, limit: int) -> Sequence[Delivery]:
            keys = self._store._lapses.lowest(limit, self.moment.now_ns)
            return tuple(self._store._deliveries[action_id][group] for action_id, group in keys)

        def task(self, task_id: str) -> TaskRecord | None:
            return self._store._tasks.get(task_id)

        def due_tasks(self, limit: int) -> Sequence[TaskRecord]:
            return tuple(
                self._store._tasks[key] for key in self._store._due.lowest(limit, self.moment.now_ns)
            )

        def next_timer_ns(self) -> int:
            return self._store._next_timer_ns()
