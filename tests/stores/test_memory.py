"""The memory store: against the model, and what the model does not show: waiting, bounds, the end."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from stores import made
from stores.machine import MACHINE_SETTINGS, StoreMachine
from tai_grpc.config import StoreLimits
from tai_grpc.errors import StoreFullError, StoreUnavailableError
from tai_grpc.stores.base import TIMERS, Log, Moment, Store, Transaction, group_topic
from tai_grpc.stores.memory import MemoryStore
from tai_grpc.stores.records import NEVER_NS, ActionState, PolicyState, Record, TaskRecord, TaskState


class MemoryMachine(StoreMachine):
    def make_store(self, limits: StoreLimits, clock: Callable[[], int]) -> Store:
        return MemoryStore(limits, clock)


MemoryMachine.TestCase.settings = MACHINE_SETTINGS
TestAgainstTheModel = MemoryMachine.TestCase

ONE_OF_EACH: Sequence[Record] = [
    made.policy(1),
    made.group(2),
    made.action(3),
    made.delivery(4, created_revision=3),
    made.task(5),
]


async def put(store: Store, *records: Record) -> None:
    """Put records in one transaction."""

    def work(transaction: Transaction) -> None:
        for record in records:
            transaction.put(record)

    await store.run(work)


async def everything(store: Store) -> object:
    """Return all that a store with `ONE_OF_EACH` shows."""

    def read(transaction: Transaction) -> object:
        return (
            transaction.moment.revision,
            transaction.policy_versions("p"),
            transaction.action("a"),
            transaction.deliveries("a"),
            transaction.task("t"),
            transaction.groups(),
            transaction.group("g") and transaction.counts("g"),
            transaction.pending("g", 9),
            transaction.next_timer_ns(),
        )

    return (await store.run(read), [await store.read_log(log, 0, 99) for log in Log])


async def kept_task(store: Store, name: str) -> TaskRecord | None:
    return await store.run(lambda transaction: transaction.task(name))


async def waits(waiting: asyncio.Task[None]) -> bool:
    """Return whether a task still waits after everything else that can run has run."""
    for _ in range(5):
        await asyncio.sleep(0)
    return not waiting.done()


class TestTransaction:
    async def test_begins_with_the_clock_s_time_and_counts_revisions_as_it_puts(self) -> None:
        store = MemoryStore(clock=lambda: 77)

        def work(transaction: Transaction) -> list[Moment]:
            moments = [transaction.moment]
            for record in ONE_OF_EACH:
                transaction.put(record)
                moments.append(transaction.moment)
            return moments

        assert await store.run(work) == [Moment(77, revision) for revision in range(6)]
        assert (await store.run(lambda transaction: transaction.moment)).revision == 5

    async def test_reads_what_was_before_it_until_its_work_is_done(self) -> None:
        store = MemoryStore()

        def work(transaction: Transaction) -> object:
            transaction.put(made.task(1))
            return transaction.task("t")

        assert await store.run(work) is None
        assert await kept_task(store, "t") == made.task(1)

    async def test_whose_work_raises_changes_nothing(self) -> None:
        store = MemoryStore(clock=lambda: 0)
        before = await everything(store)

        def work(transaction: Transaction) -> None:
            for record in ONE_OF_EACH:
                transaction.put(record)
            raise LookupError

        with pytest.raises(LookupError):
            await store.run(work)
        assert await everything(store) == before

    @pytest.mark.parametrize("revision", [0, 1, 3, -1])
    async def test_refuses_a_revision_out_of_turn_and_changes_nothing(self, revision: int) -> None:
        store = MemoryStore(clock=lambda: 0)
        await put(store, made.task(1))
        before = await everything(store)
        with pytest.raises(ValueError, match=f"revision {revision} does not follow 1"):
            await put(store, made.task(revision))
        assert await everything(store) == before

    @pytest.mark.parametrize(
        ("limit", "one_more"),
        [
            ("max_policies", [made.policy(6, "q")]),
            ("max_groups", [made.group(6, "h")]),
            ("max_actions", [made.action(6, "b"), made.delivery(7, "b", created_revision=6)]),
            ("max_tasks", [made.task(6, "u")]),
        ],
    )
    async def test_that_does_not_fit_is_refused_as_a_whole(
        self, limit: str, one_more: Sequence[Record]
    ) -> None:
        store = MemoryStore(StoreLimits(**{limit: 1}), clock=lambda: 0)
        await put(store, *ONE_OF_EACH)
        before = await everything(store)
        records = [*one_more, made.policy(5 + len(one_more) + 1, "p", 2)]
        with pytest.raises(StoreFullError, match="limit reached: 1 "):
            await put(store, *records)
        assert await everything(store) == before


class TestChanged:
    TOPICS: ClassVar[dict[str, Record]] = {
        Log.POLICIES.value: made.policy(6, version=2),
        Log.ACTIONS.value: made.action(6, "b"),
        Log.TASKS.value: made.task(6, "u", TaskState.QUEUED),
        group_topic("g"): made.delivery(6, state=ActionState.FAILED, created_revision=3),
    }

    @pytest.fixture
    async def store(self) -> MemoryStore:
        store = MemoryStore(clock=lambda: 0)
        await put(store, *ONE_OF_EACH)
        return store

    @pytest.mark.parametrize("topic", TOPICS)
    async def test_returns_at_the_first_change_of_its_topic_and_of_no_other(
        self, store: MemoryStore, topic: str
    ) -> None:
        changes = [record for other, record in self.TOPICS.items() if other != topic]
        waiting = asyncio.create_task(store.changed(topic, 5, None))
        assert await waits(waiting)
        for revision, record in enumerate(changes, start=6):
            await put(store, _at(record, revision))
            assert await waits(waiting)
        await put(store, _at(self.TOPICS[topic], 6 + len(changes)))
        await waiting

    @pytest.mark.parametrize("topic", TOPICS)
    async def test_returns_at_once_when_the_change_was_before_it_was_asked(
        self, store: MemoryStore, topic: str
    ) -> None:
        await put(store, self.TOPICS[topic])
        await store.changed(topic, 5, None)
        waiting = asyncio.create_task(store.changed(topic, 6, None))
        assert await waits(waiting)
        waiting.cancel()

    async def test_wakes_all_who_wait_and_one_who_gives_up_takes_nobody_along(
        self, store: MemoryStore
    ) -> None:
        waiting = [asyncio.create_task(store.changed("tasks", 5, None)) for _ in range(3)]
        assert await waits(waiting[0])
        waiting[0].cancel()
        assert await waits(waiting[1])
        await put(store, made.task(6, "u"))
        await asyncio.gather(*waiting[1:])
        assert waiting[0].cancelled()

    async def test_returns_after_its_timeout_without_a_change(self, store: MemoryStore) -> None:
        await store.changed("tasks", 5, 0.01)
        await store.changed("tasks", 5, 0.0)

    async def test_sees_each_change_whether_the_wait_before_timed_out_or_not(
        self, store: MemoryStore
    ) -> None:
        await store.changed("tasks", 5, 0.0)
        for revision in (6, 7):
            waiting = asyncio.create_task(store.changed("tasks", revision - 1, None))
            assert await waits(waiting)
            await put(store, made.task(revision, "u"))
            await waiting

    async def test_is_not_woken_by_work_that_raises(self, store: MemoryStore) -> None:
        waiting = asyncio.create_task(store.changed("tasks", 5, None))

        def work(transaction: Transaction) -> None:
            transaction.put(made.task(6, "u"))
            raise LookupError

        with pytest.raises(LookupError):
            await store.run(work)
        assert await waits(waiting)
        waiting.cancel()

    async def test_ends_with_an_error_when_the_store_is_closed(self, store: MemoryStore) -> None:
        waiting = [asyncio.create_task(store.changed(topic, 5, None)) for topic in self.TOPICS]
        assert await waits(waiting[0])
        await store.close()
        ends = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(end) for end in ends] == [StoreUnavailableError] * len(waiting)

    async def test_of_the_timers_is_what_brings_the_next_one_forward(self, store: MemoryStore) -> None:
        await put(store, made.task(6, state=TaskState.QUEUED))
        await put(store, made.task(7, "u", due_ns=50))
        await store.changed(TIMERS, 6, None)
        waiting = asyncio.create_task(store.changed(TIMERS, 7, None))
        await put(store, made.task(8, "v", due_ns=60))
        await put(store, made.leased(9, until_ns=50))
        assert await waits(waiting)
        await put(store, made.leased(10, until_ns=49))
        await waiting


def _at(record: Record, revision: int) -> Record:
    return replace(record, revision=revision)


class TestLog:
    async def test_gives_pages_from_a_revision_on_and_says_how_much_is_left(self) -> None:
        store = MemoryStore()
        for revision in range(1, 6):
            await put(store, made.task(revision, f"t{revision}"))
        page = await store.read_log(Log.TASKS, 2, 2)
        assert [record.revision for record in page.records] == [2, 3]
        assert (page.first, page.revision, page.lag) == (1, 5, 4)
        page = await store.read_log(Log.TASKS, 6, 2)
        assert (page.records, page.lag) == ([], 0)

    async def test_is_compacted_by_itself_and_first_is_what_follows_the_last_record_dropped(self) -> None:
        store = MemoryStore(StoreLimits(history=4))
        await put(store, made.policy(1))
        # Four and a quarter of it is kept between two trims, so the sixth trims.
        for revision in range(2, 7):
            await put(store, made.task(revision, f"t{revision}"))
        assert (await store.read_log(Log.TASKS, 1, 9)).first == 1
        await put(store, made.task(7, "t7"))
        page = await store.read_log(Log.TASKS, 1, 9)
        assert page.first == 4
        assert [record.revision for record in page.records] == [4, 5, 6, 7]
        assert (await store.read_log(Log.POLICIES, 1, 9)).first == 1

    async def test_keeps_what_was_evicted_from_the_tables(self) -> None:
        store = MemoryStore(StoreLimits(max_tasks=1))
        await put(store, made.task(1, "t", TaskState.FAILED))
        await put(store, made.task(2, "u"))
        assert await kept_task(store, "t") is None
        assert len((await store.read_log(Log.TASKS, 1, 9)).records) == 2


class TestEviction:
    async def test_takes_the_longest_finished_and_never_what_is_unfinished(self) -> None:
        store = MemoryStore(StoreLimits(max_tasks=3))
        for revision, name in enumerate("abc", start=1):
            await put(store, made.task(revision, name))
        await put(store, made.task(4, "c", TaskState.SUCCEEDED))
        await put(store, made.task(5, "a", TaskState.CANCELLED))
        for revision, (new, gone) in enumerate([("d", "c"), ("e", "a")], start=6):
            await put(store, made.task(revision, new))
            assert await kept_task(store, gone) is None
        with pytest.raises(StoreFullError):
            await put(store, made.task(8, "f"))
        assert await kept_task(store, "b") == made.task(2, "b")

    async def test_an_action_goes_with_its_deliveries_once_every_group_is_done_with_it(self) -> None:
        store = MemoryStore(StoreLimits(max_actions=1))
        await put(store, made.group(1, "g"), made.group(2, "h"))
        await put(store, made.action(3), made.delivery(4, group="g"), made.delivery(5, group="h"))
        await put(store, made.delivery(6, group="g", state=ActionState.ACKNOWLEDGED))
        with pytest.raises(StoreFullError):
            await put(store, made.action(7, "b"))
        await put(store, made.delivery(7, group="h", state=ActionState.FAILED))
        await put(store, made.action(8, "b"))
        assert await store.run(lambda transaction: transaction.deliveries("a")) == ()
        counts = await store.run(lambda transaction: transaction.counts("g"))
        assert counts[ActionState.ACKNOWLEDGED] == 1

    async def test_cannot_take_what_the_same_transaction_brings_back_to_life(self) -> None:
        store = MemoryStore(StoreLimits(max_actions=2))
        await put(store, made.action(1, "a"), made.action(2, "b"), made.group(3))
        back = [made.delivery(4, "a"), made.delivery(5, "b")]
        with pytest.raises(StoreFullError):
            await put(store, *back, made.action(6, "c"))
        await put(store, *back)
        assert await store.run(lambda transaction: len(transaction.pending("g", 9))) == 2

    async def test_an_id_that_was_evicted_is_free_again(self) -> None:
        store = MemoryStore(StoreLimits(max_policies=1))
        await put(store, made.policy(1, state=PolicyState.REVOKED))
        await put(store, made.policy(2, "q", state=PolicyState.REVOKED))
        await put(store, made.policy(3))
        assert await store.run(lambda transaction: transaction.policy_versions("p")) == (made.policy(3),)


class TestClosed:
    async def test_answers_nothing(self) -> None:
        store = MemoryStore()
        await store.close()
        await store.close()
        for asked in (
            store.run(lambda transaction: transaction.moment),
            store.read_log(Log.TASKS, 1, 1),
            store.changed("tasks", 0, 0.0),
        ):
            with pytest.raises(StoreUnavailableError, match="the store is closed"):
                await asked


def weight(root: object) -> int:
    """Return how many objects a store holds on to, and how many entries its tables have."""
    seen: set[int] = set()
    entries = 0
    left: list[object] = [root]
    while left:
        one = left.pop()
        shared = inspect.isclass(one) or inspect.isroutine(one) or inspect.ismodule(one)
        if id(one) not in seen and not shared:
            seen.add(id(one))
            left += gc.get_referents(one)
            # A dictionary does not tell the collector of its keys when all of them are strings.
            entries += len(one) if isinstance(one, (dict, list, set)) else 0
    return len(seen) + entries


async def test_what_it_holds_on_to_does_not_grow_with_what_has_passed_through() -> None:
    """Groups stay, everything else passes: named, worked on, waited for, finished."""
    limits = StoreLimits(max_policies=20, max_actions=20, max_tasks=20, max_groups=2, history=20)
    store = MemoryStore(limits, clock=lambda: 0)
    await put(store, made.group(1))
    revision = 1

    async def step(record: Callable[..., Record], *fields: Any, **more: Any) -> None:
        nonlocal revision
        revision += 1
        await put(store, record(revision, *fields, **more))

    async def pass_through(count: int) -> int:
        """Return the most that it held on to after any of the last hundred rounds: heaps and logs breathe."""
        weights: list[int] = []
        for n in range(count):
            name = f"{revision}-{n}"
            await step(made.policy, name)
            await step(made.policy, name, state=PolicyState.REVOKED)
            await step(made.action, name)
            await step(made.delivery, name)
            await store.run(lambda transaction: transaction.pending("g", 1))
            await step(made.leased, name, holder=f"holder {name}", until_ns=10**9 - n)
            await step(made.delivery, name, not_before_ns=NEVER_NS - 1)
            await step(made.delivery, name, state=ActionState.FAILED)
            await step(made.task, name, due_ns=10**9 - n)
            await step(made.task, name, state=TaskState.QUEUED)
            await step(made.task, name, state=TaskState.SUCCEEDED)
            await store.changed("tasks", revision, 0.0)
            if n >= count - 100:
                weights.append(weight(store))
        return max(weights)

    early = await pass_through(200)
    assert await pass_through(1_000) < early + 200
