"""Random transactions done to a store and to the model, which must then answer every question alike."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from stores import made
from stores.model import Model
from tai_grpc.config import StoreLimits
from tai_grpc.errors import StoreFullError
from tai_grpc.stores.base import Log, Moment, Store, Transaction
from tai_grpc.stores.records import (
    NEVER_NS,
    ActionState,
    Delivery,
    PolicyState,
    Record,
    TaskState,
)

T = TypeVar("T")

LIMITS = StoreLimits(max_policies=3, max_actions=3, max_tasks=3, max_groups=3, history=4)
GROUPS = ("g1", "g2", "g3", "g4")
HOLDERS = ("h1", "h2")
LATER_NS = st.integers(0, 40)
MACHINE_SETTINGS = settings(max_examples=100, stateful_step_count=50)


class Abandoned(Exception):  # noqa: N818  # it is what a transaction's work raises on its own account
    pass


class Draft:
    """One transaction being made up: each step reads the model as the steps before have left it."""

    def __init__(self, model: Model, data: st.DataObject) -> None:
        self.model = model
        self.staged: list[Record] = []
        self._data = data

    def draw(self, strategy: st.SearchStrategy[T]) -> T:
        return self._data.draw(strategy)

    def pick(self, among: Iterable[T]) -> T | None:
        choices = list(among)
        return self.draw(st.sampled_from(choices)) if choices else None

    def later(self) -> int:
        return self.model.now_ns + self.draw(LATER_NS)

    @property
    def next_revision(self) -> int:
        return self.model.revision + 1

    def put(self, record: Record) -> None:
        self.model.put(record)
        self.staged.append(record)

    def change(self, delivery: Delivery, **fields: Any) -> None:
        lease: dict[str, Any] = {"holder": "", "lease_token": "", "lease_deadline_ns": 0, "not_before_ns": 0}
        self.put(replace(delivery, **{**lease, **fields}, revision=self.next_revision))

    def deliveries(self, *states: ActionState) -> list[Delivery]:
        return [one for one in self.model.deliveries.values() if one.state in states]

    # The steps.

    def propose(self) -> None:
        key = (self.draw(st.sampled_from("pqr")), self.draw(st.integers(1, 5)))
        if key not in self.model.policies:
            self.put(made.policy(self.next_revision, *key))

    def move_policy(self) -> None:
        policy = self.pick(one for one in self.model.policies.values() if not one.finished)
        if policy is not None:
            state = self.draw(st.sampled_from(PolicyState))
            self.put(replace(policy, state=state, revision=self.next_revision))

    def make_group(self) -> None:
        name = self.pick(name for name in GROUPS if name not in self.model.groups)
        if name is not None:
            self.put(made.group(self.next_revision, name))

    def request(self) -> None:
        """Put an action, new or settled, and what some groups have to do of it."""
        name = self.draw(st.sampled_from(["a1", "a2", "a3", "a4", "a5", "a6"]))
        if name in self.model.actions and not self.model.settled(name):
            return
        priority = self.draw(st.integers(-1, 1))
        action = made.action(self.next_revision, name, priority, self.draw(st.just(0) | LATER_NS))
        self.put(action)
        for group in (
            self.draw(st.sets(st.sampled_from(sorted(self.model.groups)))) if self.model.groups else ()
        ):
            self.deliver(name, group)

    def deliver_to_another_group(self) -> None:
        """Give a kept action, settled perhaps, to a group that has not had it."""
        kept = [(name, group) for name in self.model.actions for group in self.model.groups]
        new = self.pick(key for key in kept if key not in self.model.deliveries)
        if new is not None:
            self.deliver(*new)

    def deliver(self, name: str, group: str) -> None:
        action = self.model.actions[name]
        delivery = made.delivery(
            self.next_revision,
            name,
            group,
            created_revision=action.revision,
            priority=action.priority,
            expires_at_ns=action.expires_at_ns and self.model.now_ns + action.expires_at_ns,
        )
        self.put(delivery)

    def lease(self) -> None:
        delivery = self.pick(one for group in self.model.groups for one in self.model.pending(group)[:1])
        if delivery is not None:
            holder = self.draw(st.sampled_from(HOLDERS))
            token = f"{self.next_revision:016x}"
            self.change(
                delivery,
                state=ActionState.DISPATCHED,
                holder=holder,
                lease_token=token,
                lease_deadline_ns=self.later(),
            )

    def extend(self) -> None:
        delivery = self.pick(self.deliveries(ActionState.DISPATCHED))
        if delivery is not None:
            lease = {"holder": delivery.holder, "lease_token": delivery.lease_token}
            self.change(delivery, **lease, lease_deadline_ns=self.later())

    def hand_back(self) -> None:
        """Make a delivery wait: for a time, for ever, or not at all."""
        delivery = self.pick(self.deliveries(ActionState.DISPATCHED, ActionState.PENDING))
        if delivery is not None:
            not_before_ns = self.draw(st.sampled_from([0, NEVER_NS])) or self.later()
            self.change(delivery, state=ActionState.PENDING, not_before_ns=not_before_ns)

    def end(self) -> None:
        delivery = self.pick(self.deliveries(ActionState.DISPATCHED, ActionState.PENDING))
        if delivery is not None:
            ends = [ActionState.ACKNOWLEDGED, ActionState.FAILED, ActionState.EXPIRED]
            self.change(delivery, state=self.draw(st.sampled_from(ends)))

    def submit(self) -> None:
        name = self.draw(st.sampled_from(["t1", "t2", "t3", "t4", "t5", "t6"]))
        if name not in self.model.tasks:
            self.put(made.task(self.next_revision, name, due_ns=self.later()))

    def move_task(self) -> None:
        task = self.pick(one for one in self.model.tasks.values() if not one.finished)
        if task is not None:
            state = self.draw(st.sampled_from(TaskState))
            due_ns = self.later()
            self.put(replace(task, state=state, scheduled_time_ns=due_ns, revision=self.next_revision))

    CHANGES: ClassVar[list[Callable[[Draft], None]]] = [
        move_policy,
        deliver_to_another_group,
        lease,
        extend,
        hand_back,
        end,
        move_task,
    ]
    STEPS: ClassVar[list[Callable[[Draft], None]]] = [*CHANGES, propose, make_group, request, submit]


class StoreMachine(RuleBasedStateMachine):
    """A subclass says which store. Its clock is the model's, which never goes back."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.model = Model(LIMITS)
        self.store = self.make_store(LIMITS, lambda: self.model.now_ns)

    @abstractmethod
    def make_store(self, limits: StoreLimits, clock: Callable[[], int]) -> Store: ...

    def teardown(self) -> None:
        self.runner.run(self.store.close())
        self.runner.close()

    def run(self, work: Callable[[Transaction], T]) -> T:
        return self.runner.run(self.store.run(work))

    @rule(nanoseconds=LATER_NS)
    def time_passes(self, nanoseconds: int) -> None:
        self.model.now_ns += nanoseconds

    @rule(data=st.data(), steps=st.lists(st.sampled_from(Draft.CHANGES), min_size=1, max_size=6))
    def change(self, data: st.DataObject, steps: Sequence[Callable[[Draft], None]]) -> None:
        """Tables that are full refuse what is new, so much of what happens has to happen to what is there."""
        self.transact(data, steps)

    @rule(data=st.data(), steps=st.lists(st.sampled_from(Draft.STEPS), min_size=1, max_size=6))
    def transact(self, data: st.DataObject, steps: Sequence[Callable[[Draft], None]]) -> None:
        """A transaction is done as a whole or, when a table has no room for it, not at all."""
        draft = Draft(self.model.copy(), data)
        for step in steps:
            step(draft)

        def work(transaction: Transaction) -> Moment:
            for record in draft.staged:
                transaction.put(record)
            return transaction.moment

        if draft.model.full(self.model, draft.staged):
            with pytest.raises(StoreFullError, match="limit reached"):
                self.run(work)
        else:
            assert self.run(work) == Moment(self.model.now_ns, draft.model.revision)
            draft.model.evict()
            self.model = draft.model

    @rule(data=st.data(), steps=st.lists(st.sampled_from(Draft.STEPS), min_size=1, max_size=6))
    def abandon(self, data: st.DataObject, steps: Sequence[Callable[[Draft], None]]) -> None:
        """Work that raises changes nothing."""
        draft = Draft(self.model.copy(), data)
        for step in steps:
            step(draft)

        def work(transaction: Transaction) -> None:
            for record in draft.staged:
                transaction.put(record)
            raise Abandoned

        with pytest.raises(Abandoned):
            self.run(work)

    @rule(after=st.tuples(st.sampled_from(["", "p", "q", "r"]), st.integers(0, 5)), limit=st.integers(0, 5))
    def page_of_policies(self, after: tuple[str, int], limit: int) -> None:
        def odd(policy: Any) -> bool:
            return bool(policy.version % 2)

        page = self.run(lambda transaction: transaction.policies(after, odd, limit))
        assert list(page) == self.model.page(after, odd, limit)

    @rule(
        log=st.sampled_from(Log),
        back=st.integers(-2, 20),
        limit=st.integers(0, 12),
    )
    def read_log(self, log: Log, back: int, limit: int) -> None:
        """A log has every record from `first` on, in order; `history` of them, or a few more."""
        from_revision = max(self.model.revision - back, 0)
        page = self.runner.run(self.store.read_log(log, from_revision, limit))
        everything = self.model.logs[log]
        kept = [record for record in everything if record.revision >= page.first]
        wanted = [record for record in kept if record.revision >= from_revision]
        assert page.revision == self.model.revision
        assert page.lag == len(wanted)
        assert list(page.records) == wanted[:limit]
        assert min(len(everything), LIMITS.history) <= len(kept) <= LIMITS.history * 5 // 4
        dropped = everything[: len(everything) - len(kept)]
        assert page.first == (dropped[-1].revision + 1 if dropped else 1)

    @invariant()
    def answers_alike(self) -> None:
        self.run(self.compare)

    def compare(self, transaction: Transaction) -> None:
        model = self.model
        assert transaction.moment == Moment(model.now_ns, model.revision)
        assert transaction.next_timer_ns() == model.next_timer_ns()
        self.compare_policies(transaction)
        self.compare_actions(transaction)
        for group in GROUPS:
            self.compare_group(transaction, group)
        for holder in HOLDERS:
            assert transaction.held_by(holder) == model.held_by(holder)
        self.compare_timed(transaction.lapsed, model.lapsed(), lambda one: one.lapses_ns)
        for name in ("t1", "t2", "t3", "t4", "t5", "t6"):
            assert transaction.task(name) == model.tasks.get(name)
        self.compare_timed(transaction.due_tasks, model.due_tasks(), lambda one: one.scheduled_time_ns)

    def compare_policies(self, transaction: Transaction) -> None:
        for name in "pqr":
            assert list(transaction.policy_versions(name)) == self.model.versions(name)
        assert len(self.model.policies) <= LIMITS.max_policies

    def compare_actions(self, transaction: Transaction) -> None:
        for name in ("a1", "a2", "a3", "a4", "a5", "a6"):
            assert transaction.action(name) == self.model.actions.get(name)
            ours = {one.group: one for one in transaction.deliveries(name)}
            assert ours == {one.group: one for one in self.model.of_action(name)}
            for group in GROUPS:
                assert transaction.delivery(name, group) == ours.get(group)
        assert len(self.model.actions) <= LIMITS.max_actions
        assert len(self.model.tasks) <= LIMITS.max_tasks

    def compare_group(self, transaction: Transaction, group: str) -> None:
        assert transaction.next_pending_ns(group) == self.model.next_pending_ns(group)
        assert transaction.group(group) == self.model.groups.get(group)
        assert {one.name: one for one in transaction.groups()} == self.model.groups
        if group in self.model.groups:
            assert transaction.counts(group) == self.model.counts(group)
        pending = self.model.pending(group)
        for limit in (0, 1, 2, 9):
            assert list(transaction.pending(group, limit)) == pending[:limit]

    def compare_timed(
        self, read: Callable[[int], Sequence[T]], expected: Sequence[T], time: Callable[[T], int]
    ) -> None:
        """What comes at one time may come in any order."""
        for limit in (0, 1, 2, 99):
            got = read(limit)
            assert [time(one) for one in got] == sorted(time(one) for one in expected)[:limit]
            assert len({repr(one) for one in got}) == len(got)
            assert all(one in expected for one in got)
