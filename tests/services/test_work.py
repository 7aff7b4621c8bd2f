"""Actions and tasks together, on a memory store under a simulated clock: whatever workers do, and
whenever, nothing is lost, handed out twice at once, or tried too often.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from tai_grpc.config import StoreLimits
from tai_grpc.services import work
from tai_grpc.services.coordinator import machine as actions
from tai_grpc.services.coordinator.machine import Acknowledge, Outcome, Request
from tai_grpc.services.core import Core
from tai_grpc.services.errors import ServiceError
from tai_grpc.services.scheduler import machine as tasks
from tai_grpc.services.timers import run_timers
from tai_grpc.stores.base import Log, Transaction
from tai_grpc.stores.memory import MemoryStore
from tai_grpc.stores.records import (
    NEVER_NS,
    ActionRecord,
    ActionSource,
    ActionState,
    Delivery,
    TaskRecord,
    TaskState,
)
from tai_grpc.tai.v1 import coordinator_pb2, scheduler_pb2, types_pb2

T = TypeVar("T")
SECOND = 10**9
GROUPS = ("a", "b")
Handed = tuple[ActionRecord, Delivery]


class World:
    """A store with a clock that only moves when told to."""

    def __init__(self) -> None:
        self.now_ns = 1_000 * SECOND
        self.store = MemoryStore(clock=lambda: self.now_ns)

    def run(self, body: Callable[[Transaction], T]) -> T:
        # Work on a memory store never waits, so its coroutine ends with the first step.
        try:
            self.store.run(body).send(None)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        raise AssertionError("work on a memory store waited")

    def request(self, action_id: str, group: str, **settings: Any) -> None:
        fields: dict[str, Any] = {"priority": 0, "ttl_ns": 0, "max_deliveries": 3, **settings}
        command = Request(
            actions.REQUEST_ACTION, ActionSource.REQUEST, action_id, "t", {}, b"", group=group, **fields
        )
        self.run(
            lambda tx: actions.request(
                tx.action(action_id), {each.name for each in tx.groups()}, command, tx.moment
            ).apply(tx)
        )

    def submit(
        self, task_id: str, group: str, *, due_ns: int = 0, priority: int = 0, attempts: int = 3
    ) -> None:
        command = tasks.Submit(task_id, group, {}, due_ns, priority, attempts, SECOND)
        self.run(lambda tx: tasks.submit(tx.task(task_id), command, tx.moment).apply(tx))

    def lease(self, group: str, holder: str = "w", lease_ns: int = 10 * SECOND) -> Handed | None:
        return self.run(lambda tx: work.hand_out(tx, group, holder, 1000, lease_ns))

    def acknowledge(self, handed: Handed, outcome: Outcome, delay_ns: int = 0) -> None:
        _, delivery = handed
        command = Acknowledge(
            delivery.action_id, delivery.group, delivery.lease_token, outcome, delay_ns, "why", b"result"
        )
        self.run(lambda tx: work.acknowledge(tx, command))

    def tick(self) -> int:
        while (next_ns := self.run(lambda tx: work.tick(tx, 4))) <= self.now_ns:
            pass
        return next_ns

    def task(self, task_id: str) -> TaskRecord:
        task = self.run(lambda tx: tx.task(task_id))
        assert task is not None
        return task

    def counts(self, group: str) -> Mapping[ActionState, int] | None:
        return self.run(lambda tx: tx.counts(group) if tx.group(group) else None)

    def next_pending_ns(self, group: str) -> int:
        return self.run(lambda tx: tx.next_pending_ns(group))

    def find(self, action_id: str, group: str) -> Delivery | None:
        return self.run(lambda tx: tx.delivery(action_id, group))

    def delivery(self, action_id: str, group: str) -> Delivery:
        delivery = self.find(action_id, group)
        assert delivery is not None
        return delivery


class AnyWorkers(RuleBasedStateMachine):
    """Any requests, tasks, workers that ack, nak, give up, hold on or vanish, and steps of the clock."""

    leases: Bundle[Handed] = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.actions: set[tuple[str, str]] = set()
        self.tasks: dict[str, str] = {}
        self.cancelled: set[str] = set()

    @rule(group=st.sampled_from(GROUPS), priority=st.integers(-1, 1), ttl=st.sampled_from([0, 5 * SECOND]))
    def request(self, group: str, priority: int, ttl: int) -> None:
        action_id = f"action{len(self.actions)}"
        self.world.request(action_id, group, priority=priority, ttl_ns=ttl)
        self.actions.add((action_id, group))

    @rule(group=st.sampled_from(GROUPS), delay=st.integers(-5, 20), attempts=st.integers(1, 3))
    def submit(self, group: str, delay: int, attempts: int) -> None:
        task_id = f"task{len(self.tasks)}"
        self.world.submit(task_id, group, due_ns=self.world.now_ns + delay * SECOND, attempts=attempts)
        self.tasks[task_id] = group

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.tasks:
            task_id = data.draw(st.sampled_from(sorted(self.tasks)))
            try:
                self.world.run(lambda tx: work.cancel(tx, tasks.Cancel(task_id, "unwanted")))
                self.cancelled.add(task_id)
            except ServiceError:
                assert self.world.task(task_id).finished

    @rule(target=leases, group=st.sampled_from(GROUPS))
    def lease(self, group: str) -> Any:
        waiting = self.world.run(lambda tx: tx.pending(group, 1000))
        handed = self.world.lease(group)
        if handed is None:
            assert not waiting
            return multiple()
        _, delivery = handed
        assert delivery.priority == max(each.priority for each in waiting)
        assert all(each.lease_token < delivery.lease_token for each in waiting), "tokens grow"
        return handed

    @rule(handed=consumes(leases), outcome=st.sampled_from(Outcome), delay=st.integers(0, 3))
    def acknowledge(self, handed: Handed, outcome: Outcome, delay: int) -> None:
        _, leased = handed
        now = self.world.delivery(leased.action_id, leased.group)
        held = now.state is ActionState.DISPATCHED and now.lease_token == leased.lease_token
        try:
            self.world.acknowledge(handed, outcome, delay * SECOND)
        except ServiceError:
            assert not held, "a lease in force can be acknowledged"
        else:
            assert held, "a lease that is over cannot"

    @rule(seconds=st.integers(0, 30))
    def pass_time(self, seconds: int) -> None:
        self.world.now_ns += seconds * SECOND
        assert self.world.tick() > self.world.now_ns

    @invariant()
    def nothing_is_lost_or_tried_too_often(self) -> None:
        for action_id, group in self.actions:
            delivery = self.world.delivery(action_id, group)
            assert delivery.attempt <= 3
            assert (delivery.state is ActionState.DISPATCHED) == bool(delivery.lease_token)
        for task_id, group in self.tasks.items():
            task = self.world.task(task_id)
            assert task.attempt <= task.max_attempts
            action = self.world.find(f"task/{task_id}", group)
            if task.state is TaskState.RUNNING:
                assert action is not None
                assert action.state is ActionState.DISPATCHED
                assert action.attempt == task.attempt
            if task.state is TaskState.QUEUED:
                assert action is not None
                assert action.state is ActionState.PENDING
            if task.finished and action is not None:
                assert action.finished
            assert group == task.task_type

    @invariant()
    def counts_are_exact(self) -> None:
        for group in GROUPS:
            if (counts := self.world.counts(group)) is None:
                continue
            keys = [key for key in self.actions if key[1] == group]
            keys += [(f"task/{task}", group) for task, kind in self.tasks.items() if kind == group]
            found = [self.world.find(*key) for key in keys]
            states = [delivery.state for delivery in found if delivery is not None]
            assert counts == {state: states.count(state) for state in ActionState}

    def teardown(self) -> None:
        """With one faithful worker a group, everything comes to an end."""
        for _ in range(200):
            self.world.tick()
            for group in GROUPS:
                while (handed := self.world.lease(group)) is not None:
                    self.world.acknowledge(handed, Outcome.ACK)
            next_ns = self.world.tick()
            delays = [self.world.next_pending_ns(group) for group in GROUPS]
            soonest = min(next_ns, *delays)
            if soonest == NEVER_NS:
                break
            self.world.now_ns = max(soonest, self.world.now_ns)
        assert all(self.world.delivery(*key).finished for key in self.actions)
        assert all(self.world.task(task_id).finished for task_id in self.tasks)
        assert all(
            self.world.task(task_id).state in (TaskState.CANCELLED, TaskState.SUCCEEDED)
            for task_id in self.cancelled
        ), "what was cancelled did not fail: it was cancelled, or its worker was first"


AnyWorkers.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
TestAnyWorkers = AnyWorkers.TestCase


def test_a_task_runs_when_it_is_due_and_its_ack_finishes_it() -> None:
    world = World()
    world.submit("t", "g", due_ns=world.now_ns + 5 * SECOND)
    assert world.tick() == world.now_ns + 5 * SECOND
    assert world.lease("g") is None
    world.now_ns += 5 * SECOND
    world.tick()
    assert world.task("t").state is TaskState.QUEUED
    handed = world.lease("g")
    assert handed is not None
    assert handed[0].id == "task/t"
    assert world.task("t").state is TaskState.RUNNING
    world.acknowledge(handed, Outcome.ACK)
    task = world.task("t")
    assert (task.state, task.result, task.attempt) == (TaskState.SUCCEEDED, b"result", 1)


def test_a_long_delay_does_not_depend_on_a_lease() -> None:
    """A task far in the future waits by itself, not under a lease that would end and be handed out."""
    world = World()
    world.submit("t", "g", due_ns=world.now_ns + 86_400 * SECOND)
    world.now_ns += 86_399 * SECOND
    world.tick()
    assert world.task("t").state is TaskState.SCHEDULED
    assert world.lease("g") is None


def test_failed_attempts_back_off_and_double_until_none_is_left() -> None:
    world = World()
    world.submit("t", "g", attempts=3)
    for backoff in (1, 2, None):
        world.tick()
        handed = world.lease("g")
        assert handed is not None
        world.acknowledge(handed, Outcome.NAK)
        task = world.task("t")
        if backoff is None:
            assert task.state is TaskState.FAILED
        else:
            assert task.state is TaskState.SCHEDULED
            assert task.scheduled_time_ns == world.now_ns + backoff * SECOND
            world.now_ns = task.scheduled_time_ns
    assert world.task("t").attempt == 3


def test_a_lost_lease_is_redelivered_with_a_new_token_and_the_old_worker_is_fenced_off() -> None:
    world = World()
    world.submit("t", "g")
    world.tick()
    lost = world.lease("g", lease_ns=SECOND)
    assert lost is not None
    world.now_ns += SECOND
    world.tick()
    assert world.task("t").reason == "its lease ended"
    world.now_ns = world.task("t").scheduled_time_ns
    world.tick()
    again = world.lease("g")
    assert again is not None
    assert again[1].lease_token > lost[1].lease_token
    try:
        world.acknowledge(lost, Outcome.ACK)
    except ServiceError as error:
        assert error.code.name == "FAILED_PRECONDITION"
    else:
        raise AssertionError("a lease that was lost was acknowledged")
    world.acknowledge(again, Outcome.ACK)
    assert world.task("t").state is TaskState.SUCCEEDED


def test_in_progress_starts_the_lease_anew_every_time() -> None:
    world = World()
    world.request("a", "g")
    handed = world.lease("g", lease_ns=2 * SECOND)
    assert handed is not None
    for _ in range(5):
        world.now_ns += SECOND
        world.acknowledge(handed, Outcome.IN_PROGRESS)
        world.tick()
        assert world.delivery("a", "g").state is ActionState.DISPATCHED
        assert world.delivery("a", "g").lease_deadline_ns == world.now_ns + 2 * SECOND


def test_a_dead_letter_says_how_often_it_was_handed_out() -> None:
    world = World()
    world.request("a", "g", max_deliveries=2)
    for _ in range(2):
        handed = world.lease("g")
        assert handed is not None
        world.acknowledge(handed, Outcome.NAK)
    delivery = world.delivery("a", "g")
    assert delivery.state is ActionState.FAILED
    assert delivery.reason == "dead letter after 2 deliveries: why"


def test_cancel_while_running_lets_whichever_ends_first_win() -> None:
    for outcome, state in (
        (Outcome.ACK, TaskState.SUCCEEDED),
        (Outcome.NAK, TaskState.CANCELLED),
        (Outcome.TERM, TaskState.CANCELLED),
    ):
        world = World()
        world.submit("t", "g")
        world.tick()
        handed = world.lease("g")
        assert handed is not None
        world.run(lambda tx: work.cancel(tx, tasks.Cancel("t", "unwanted")))
        assert world.task("t").cancel_requested
        assert world.task("t").state is TaskState.RUNNING
        world.acknowledge(handed, outcome)
        assert world.task("t").state is state


def test_cancel_of_a_queued_task_takes_its_action_away() -> None:
    world = World()
    world.submit("t", "g")
    world.tick()
    world.run(lambda tx: work.cancel(tx, tasks.Cancel("t", "unwanted")))
    assert world.task("t").state is TaskState.CANCELLED
    assert world.lease("g") is None


def test_states_are_the_protos() -> None:
    for ours, theirs, prefix in (
        (ActionState, types_pb2.ActionState, "ACTION_STATE_"),
        (ActionSource, types_pb2.ActionSource, "ACTION_SOURCE_"),
        (TaskState, scheduler_pb2.TaskState, "TASK_STATE_"),
        (Outcome, coordinator_pb2.Outcome, "OUTCOME_"),
    ):
        assert {member.name: int(member) for member in ours} == {
            name.removeprefix(prefix): number for name, number in theirs.items() if number
        }


async def test_a_task_that_finds_no_room_is_put_off_and_holds_up_no_other() -> None:
    store = MemoryStore(StoreLimits(max_groups=1))

    def submit(tx: Transaction) -> None:
        for task_id, group in (("t1", "g1"), ("t2", "g2"), ("t3", "g1")):
            tasks.submit(None, tasks.Submit(task_id, group, {}, 0, 0, 1, SECOND), tx.moment).apply(tx)

    await store.run(submit)
    timers = asyncio.create_task(run_timers(Core(store, 100)))
    try:
        async with asyncio.timeout(20):
            revision, states = 0, list[TaskState]()
            while states != [TaskState.QUEUED, TaskState.SCHEDULED, TaskState.QUEUED]:
                await store.changed(Log.TASKS.value, revision, None)
                revision, found = await store.run(
                    lambda tx: (tx.moment.revision, [tx.task(task_id) for task_id in ("t1", "t2", "t3")])
                )
                states = [task.state for task in found if task is not None]
    finally:
        timers.cancel()
        await asyncio.wait([timers])
    put_off = await store.run(lambda tx: tx.task("t2"))
    assert put_off is not None
    assert put_off.reason == "limit reached: 1 consumer groups"
    assert put_off.attempt == 0


async def test_ten_thousand_tasks_without_room_leave_the_loop_its_turns() -> None:
    """They are put off, longer each time; meanwhile a task that fits runs, and the loop turns."""
    store = MemoryStore(StoreLimits(max_groups=1))

    def submit(tx: Transaction) -> None:
        for n in range(10_000):
            task = tasks.Submit(f"t{n}", f"group{n}", {}, 0, 0, 1, SECOND)
            tasks.submit(None, task, tx.moment).apply(tx)

    await store.run(submit)
    timers = asyncio.create_task(run_timers(Core(store, 100)))
    turns = 0
    try:
        async with asyncio.timeout(60):
            while await store.run(lambda tx: bool(tx.due_tasks(1))):
                await asyncio.sleep(0)
                turns += 1
    finally:
        timers.cancel()
        await asyncio.wait([timers])
    assert turns > 1_000
    assert await store.run(lambda tx: len(tx.groups())) == 1


def test_what_is_out_of_time_is_not_handed_out_even_before_a_timer_ends_it() -> None:
    world = World()
    world.request("late", "g", ttl_ns=SECOND, priority=1)
    world.request("fine", "g")
    world.now_ns += SECOND
    handed = world.lease("g")
    assert handed is not None
    assert handed[0].id == "fine"
