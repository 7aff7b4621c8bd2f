"""A store as simple as can be: it keeps everything it was given and searches all of it at every question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from copy import copy

from tai_grpc.config import StoreLimits
from tai_grpc.stores.base import Log
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


class Model:
    """What a store must show. `now_ns` is its clock; `put` and `evict` are the two halves of a commit."""

    def __init__(self, limits: StoreLimits) -> None:
        self.limits = limits
        self.now_ns = 1_000
        self.revision = 0
        self.policies: dict[tuple[str, int], PolicyRecord] = {}
        self.actions: dict[str, ActionRecord] = {}
        self.deliveries: dict[tuple[str, str], Delivery] = {}
        self.tasks: dict[str, TaskRecord] = {}
        self.groups: dict[str, GroupRecord] = {}
        self.ended: Counter[tuple[str, ActionState]] = Counter()
        self.logs: dict[Log, list[Record]] = {log: [] for log in Log}
        # By kind, the keys that are finished, the longest finished first.
        self.finished: dict[str, list[Hashable]] = {"policies": [], "actions": [], "tasks": []}

    def copy(self) -> Model:
        """Return a model that can be changed without changing this one; the records are immutable."""
        again = copy(self)
        for name, value in vars(self).items():
            if isinstance(value, dict):
                setattr(again, name, copy(value))
        again.logs = {log: records[:] for log, records in self.logs.items()}
        again.finished = {kind: keys[:] for kind, keys in self.finished.items()}
        return again

    def put(self, record: Record) -> None:
        assert record.revision == self.revision + 1
        self.revision = record.revision
        if isinstance(record, PolicyRecord):
            self.policies[record.id, record.version] = record
            self.logs[Log.POLICIES].append(record)
        elif isinstance(record, ActionRecord):
            self.actions[record.id] = record
            self.logs[Log.ACTIONS].append(record)
        elif isinstance(record, Delivery):
            self.deliveries[record.action_id, record.group] = record
            if record.finished:
                self.ended[record.group, record.state] += 1
        elif isinstance(record, TaskRecord):
            self.tasks[record.task_id] = record
            self.logs[Log.TASKS].append(record)
        else:
            self.groups[record.name] = record
        self._note("policies", [key for key, policy in self.policies.items() if policy.finished])
        self._note("actions", [name for name in self.actions if self.settled(name)])
        self._note("tasks", [name for name, task in self.tasks.items() if task.finished])

    def _note(self, kind: str, finished: Iterable[Hashable]) -> None:
        now = list(finished)
        before = [key for key in self.finished[kind] if key in now]
        self.finished[kind] = before + [key for key in now if key not in before]

    def settled(self, action_id: str) -> bool:
        """Return whether no group has the action still to do."""
        return all(one.finished for one in self.of_action(action_id))

    def of_action(self, action_id: str) -> list[Delivery]:
        return [one for (name, _), one in self.deliveries.items() if name == action_id]

    def full(self, before: Model, staged: Iterable[Record]) -> bool:
        """Return whether `staged` must be refused, after `before`: what was unfinished then and what is
        written now has to fit. The model itself has `staged` in it already.
        """
        written: dict[str, set[Hashable]] = {"policies": set(), "actions": set(), "tasks": set()}
        for record in staged:
            if isinstance(record, PolicyRecord):
                written["policies"].add((record.id, record.version))
            elif isinstance(record, TaskRecord):
                written["tasks"].add(record.task_id)
            elif isinstance(record, ActionRecord):
                written["actions"].add(record.id)
            elif isinstance(record, Delivery):
                written["actions"].add(record.action_id)
        limits = self.limits
        kept: dict[str, Iterable[Hashable]]
        kept = {"policies": before.policies, "actions": before.actions, "tasks": before.tasks}
        most = {"policies": limits.max_policies, "actions": limits.max_actions, "tasks": limits.max_tasks}
        return len(self.groups) > limits.max_groups or any(
            len((set(kept[kind]) - set(before.finished[kind])) | written[kind]) > most[kind] for kind in kept
        )

    def evict(self) -> None:
        """Forget the longest finished until the limits hold."""
        while len(self.policies) > self.limits.max_policies and self.finished["policies"]:
            del self.policies[self.finished["policies"].pop(0)]  # type: ignore[arg-type]  # its own key
        while len(self.tasks) > self.limits.max_tasks and self.finished["tasks"]:
            del self.tasks[self.finished["tasks"].pop(0)]  # type: ignore[arg-type]  # its own key
        while len(self.actions) > self.limits.max_actions and self.finished["actions"]:
            gone = self.finished["actions"].pop(0)
            self.actions = {name: one for name, one in self.actions.items() if name != gone}
            self.deliveries = {key: one for key, one in self.deliveries.items() if key[0] != gone}

    def versions(self, policy_id: str) -> list[PolicyRecord]:
        return [self.policies[key] for key in sorted(self.policies) if key[0] == policy_id]

    def page(
        self, after: tuple[str, int], matches: Callable[[PolicyRecord], bool], limit: int
    ) -> list[PolicyRecord]:
        found = [self.policies[key] for key in sorted(self.policies) if key > after]
        return [policy for policy in found if matches(policy)][:limit]

    def counts(self, group: str) -> dict[ActionState, int]:
        counts = {state: self.ended[group, state] for state in ActionState}
        for (_, name), one in self.deliveries.items():
            if name == group and not one.finished:
                counts[one.state] += 1
        return counts

    def pending(self, group: str) -> list[Delivery]:
        """Return everything to hand out now, in order."""
        waiting = [one for one in self._waiting(group) if one.not_before_ns <= self.now_ns]
        return sorted(waiting, key=lambda one: (-one.priority, one.created_revision))

    def next_pending_ns(self, group: str) -> int:
        times = [one.not_before_ns for one in self._waiting(group) if one.not_before_ns > self.now_ns]
        return min(times, default=NEVER_NS)

    def _waiting(self, group: str) -> list[Delivery]:
        return [
            one
            for (_, name), one in self.deliveries.items()
            if name == group and one.state is ActionState.PENDING
        ]

    def held_by(self, holder: str) -> int:
        return sum(one.holder == holder for one in self.deliveries.values())

    def lapsed(self) -> list[Delivery]:
        return [one for one in self.deliveries.values() if one.lapses_ns <= self.now_ns]

    def due_tasks(self) -> list[TaskRecord]:
        return [task for task in self._scheduled() if task.scheduled_time_ns <= self.now_ns]

    def next_timer_ns(self) -> int:
        times = [one.lapses_ns for one in self.deliveries.values()]
        return min(times + [task.scheduled_time_ns for task in self._scheduled()], default=NEVER_NS)

    def _scheduled(self) -> list[TaskRecord]:
        return [task for task in self.tasks.values() if task.state is TaskState.SCHEDULED]
