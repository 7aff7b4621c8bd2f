"""Watches and action streams over sockets: resumed, filtered, fanned out, broken off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import grpc
import pytest

from services.conftest import Peer, Serve
from tai_grpc.config import StoreLimits
from tai_grpc.stores.base import Transaction
from tai_grpc.stores.memory import MemoryStore
from tai_grpc.tai import (
    AcknowledgeActionRequest,
    Action,
    GetPoliciesRequest,
    GetStatusRequest,
    Outcome,
    Policy,
    ScheduleTaskRequest,
    Signal,
    StreamActionsRequest,
    StreamPoliciesRequest,
    StreamTaskUpdatesRequest,
)

MS_NS = 10**6
T = TypeVar("T")


async def take(stream: AsyncIterator[Any], count: int) -> list[Any]:
    async with asyncio.timeout(20):
        return [await anext(aiter(stream)) for _ in range(count)]


async def acknowledge(peer: Peer, action: Action, outcome: Any, **fields: Any) -> Any:
    return await peer.coordinator.AcknowledgeAction(
        AcknowledgeActionRequest(
            action_id=action.id, group=action.group, lease_token=action.lease_token, outcome=outcome, **fields
        )
    )


async def consume(peer: Peer, group: str, **options: Any) -> Any:
    """A stream of which the server knows."""
    stream = peer.coordinator.StreamActions(StreamActionsRequest(group=group, **options))
    await stream.initial_metadata()
    return stream


async def test_a_read_and_a_watch_from_its_revision_miss_nothing_and_repeat_nothing(peer: Peer) -> None:
    for n in range(5):
        await peer.governor.ProposePolicy(Policy(id=f"p{n}", policy_type="t"))
    page = await peer.governor.GetPolicies(GetPoliciesRequest())
    for n in range(5):
        await peer.governor.EnforcePolicy(Policy(id=f"p{n}"))
    watch = peer.governor.StreamPolicies(StreamPoliciesRequest(from_revision=page.revision + 1))
    assert [update.revision for update in await take(watch, 5)] == [6, 7, 8, 9, 10]


async def test_a_watch_broken_anywhere_and_resumed_sees_every_change_once_and_in_order(peer: Peer) -> None:
    async def change() -> None:
        for n in range(100):
            await peer.governor.ProposePolicy(Policy(id=f"p{n}", policy_type="t"))

    changing = asyncio.create_task(change())
    seen: list[int] = []
    position = 1
    while len(seen) < 100:
        watch = peer.governor.StreamPolicies(StreamPoliciesRequest(from_revision=position))
        for update in await take(watch, min(7, 100 - len(seen))):
            seen.append(update.revision)
            position = update.revision + 1
        watch.cancel()
    await changing
    assert seen == list(range(1, 101))


async def test_a_watch_is_filtered_by_id_and_type(peer: Peer) -> None:
    by_id = peer.governor.StreamPolicies(StreamPoliciesRequest(ids=["b"]))
    by_type = peer.governor.StreamPolicies(StreamPoliciesRequest(policy_type="y"))
    for watch in (by_id, by_type):
        await watch.initial_metadata()
    for policy_id, policy_type in (("a", "x"), ("b", "x"), ("c", "y")):
        await peer.governor.ProposePolicy(Policy(id=policy_id, policy_type=policy_type))
    assert [update.policy.id for update in await take(by_id, 1)] == ["b"]
    assert [update.policy.id for update in await take(by_type, 1)] == ["c"]


async def test_the_initial_metadata_says_where_a_watch_begins(peer: Peer) -> None:
    await peer.governor.ProposePolicy(Policy(id="p", policy_type="t"))
    watch = peer.governor.StreamPolicies(StreamPoliciesRequest())
    assert ("tai-revision", "1") in tuple(await watch.initial_metadata())


async def test_pages_show_every_policy_once_in_order(peer: Peer) -> None:
    for n in range(25):
        for version in (1, 2):
            await peer.governor.ProposePolicy(Policy(id=f"p{n:02}", policy_type="t", version=version))
    found, token = [], ""
    while True:
        page = await peer.governor.GetPolicies(GetPoliciesRequest(page_size=7, page_token=token))
        assert len(page.policies) <= 7
        found += [(policy.id, policy.version) for policy in page.policies]
        if not (token := page.next_page_token):
            break
    assert found == [(f"p{n:02}", version) for n in range(25) for version in (1, 2)]


async def test_each_group_gets_every_action_and_within_a_group_one_consumer_does(peer: Peer) -> None:
    streams = {name: [await consume(peer, name), await consume(peer, name)] for name in ("g1", "g2")}
    for n in range(6):
        await peer.coordinator.SubmitSignal(Signal(id=f"s{n}", signal_type="t"))
    got: dict[str, list[str]] = {"g1": [], "g2": []}

    async def work(name: str, stream: Any) -> None:
        async for action in stream:
            got[name].append(action.id)
            await acknowledge(peer, action, Outcome.OUTCOME_ACK)
            if len(got[name]) == 6:
                for each in streams[name]:
                    each.cancel()

    workers = [work(name, stream) for name, pair in streams.items() for stream in pair]
    ends = await asyncio.wait_for(asyncio.gather(*workers, return_exceptions=True), 20)
    assert all(isinstance(end, asyncio.CancelledError) for end in ends)
    assert sorted(got["g1"]) == sorted(got["g2"]) == [f"s{n}" for n in range(6)]


async def test_higher_priority_first_then_the_oldest(peer: Peer) -> None:
    for name, priority in (("low", -1), ("old", 0), ("new", 0), ("high", 7)):
        await peer.coordinator.RequestAction(Action(id=name, action_type="t", group="g", priority=priority))
    stream = await consume(peer, "g", max_in_flight=4)
    assert [action.id for action in await take(stream, 4)] == ["high", "old", "new", "low"]


async def test_no_more_leases_than_the_consumer_asked_for(peer: Peer) -> None:
    stream = await consume(peer, "g", max_in_flight=2)
    for n in range(3):
        await peer.coordinator.RequestAction(Action(id=f"a{n}", action_type="t", group="g"))
    first, second = await take(stream, 2)
    status = await peer.coordinator.GetStatus(GetStatusRequest(group="g"))
    assert (status.groups[0].pending, status.groups[0].dispatched) == (1, 2)
    await acknowledge(peer, first, Outcome.OUTCOME_ACK)
    (third,) = await take(stream, 1)
    assert {first.id, second.id, third.id} == {"a0", "a1", "a2"}


async def test_a_broken_stream_keeps_its_lease_until_it_ends_then_another_gets_the_action(
    peer: Peer,
) -> None:
    await peer.coordinator.RequestAction(Action(id="a", action_type="t", group="g"))
    broken = await consume(peer, "g", lease_ns=300 * MS_NS)
    (lost,) = await take(broken, 1)
    broken.cancel()
    other = await consume(peer, "g")
    status = await peer.coordinator.GetStatus(GetStatusRequest(group="g", action_id="a"))
    assert status.groups[0].dispatched == 1
    (again,) = await take(other, 1)
    assert again.attempt == 2
    assert again.created_at_ns + 300 * MS_NS <= again.lease_deadline_ns
    assert again.lease_token != lost.lease_token


async def test_a_nak_comes_back_after_its_delay_and_a_term_never(peer: Peer) -> None:
    stream = await consume(peer, "g")
    await peer.coordinator.RequestAction(Action(id="a", action_type="t", group="g"))
    (action,) = await take(stream, 1)
    receipt = await acknowledge(peer, action, Outcome.OUTCOME_NAK, delay_ns=200 * MS_NS, reason="busy")
    (again,) = await take(stream, 1)
    assert again.attempt == 2
    assert again.lease_deadline_ns - 30_000 * MS_NS >= receipt.recorded_at_ns + 200 * MS_NS
    await acknowledge(peer, again, Outcome.OUTCOME_TERM, reason="never")
    status = await peer.coordinator.GetStatus(GetStatusRequest(action_id="a"))
    assert status.groups[0].failed == 1
    assert status.actions[0].reason == "never"


async def test_the_time_to_live_ends_what_nobody_took(peer: Peer) -> None:
    watch = peer.scheduler.StreamTaskUpdates(StreamTaskUpdatesRequest())
    await watch.initial_metadata()
    await peer.coordinator.RequestAction(Action(id="a", action_type="t", group="g", ttl_ns=50 * MS_NS))
    await peer.scheduler.SubmitTask(ScheduleTaskRequest(task_id="clock", task_type="other"))
    async with asyncio.timeout(20):
        while True:
            status = await peer.coordinator.GetStatus(GetStatusRequest(group="g"))
            if status.groups[0].expired == 1:
                break
    stream = await consume(peer, "g")
    await peer.coordinator.RequestAction(Action(id="b", action_type="t", group="g"))
    assert [action.id for action in await take(stream, 1)] == ["b"]


async def test_a_new_group_can_ask_for_what_came_before_it(serve: Serve) -> None:
    peer = await serve(store_limits=StoreLimits())
    for n in range(3):
        await peer.coordinator.SubmitSignal(Signal(id=f"s{n}", signal_type="t"))
    await peer.coordinator.RequestAction(Action(id="other", action_type="t", group="o"))
    late = await consume(peer, "late", from_revision=2, max_in_flight=5)
    assert [action.id for action in await take(late, 2)] == ["s1", "s2"]
    await peer.coordinator.SubmitSignal(Signal(id="s3", signal_type="t"))
    assert [action.id for action in await take(late, 1)] == ["s3"]


async def test_consumers_are_counted_while_their_streams_are_open(peer: Peer) -> None:
    async def consumers() -> int:
        status = await peer.coordinator.GetStatus(GetStatusRequest(group="g"))
        return int(status.groups[0].consumers)

    streams = [await consume(peer, "g") for _ in range(3)]
    assert await consumers() == 3
    for stream in streams:
        stream.cancel()
    async with asyncio.timeout(20):
        while await consumers():
            pass


async def test_a_task_update_stream_shows_each_step_once(peer: Peer) -> None:
    updates = peer.scheduler.StreamTaskUpdates(StreamTaskUpdatesRequest(task_ids=["t"]))
    await updates.initial_metadata()
    stream = await consume(peer, "g")
    task = ScheduleTaskRequest(task_id="t", task_type="g", max_attempts=2, retry_backoff_ns=MS_NS)
    await peer.scheduler.SubmitTask(task)
    for outcome in (Outcome.OUTCOME_NAK, Outcome.OUTCOME_ACK):
        (action,) = await take(stream, 1)
        await acknowledge(peer, action, outcome, result=b"r" if outcome == Outcome.OUTCOME_ACK else b"")
    steps = [(update.status.state, update.status.attempt) for update in await take(updates, 7)]
    assert steps == [(1, 0), (2, 0), (3, 1), (1, 1), (2, 1), (3, 2), (4, 2)]


async def test_two_clients_on_one_channel_do_not_block_each_other(peer: Peer) -> None:
    """A watcher that never reads leaves a healthy one beside it all its updates."""
    idle = peer.governor.StreamPolicies(StreamPoliciesRequest())
    healthy = peer.governor.StreamPolicies(StreamPoliciesRequest())
    for watch in (idle, healthy):
        await watch.initial_metadata()
    for n in range(50):
        await peer.governor.ProposePolicy(Policy(id=f"p{n}", policy_type="t", rules={"k": "x" * 16_000}))
        (update,) = await take(healthy, 1)
        assert update.policy.id == f"p{n}"
    assert isinstance(idle, grpc.aio.UnaryStreamCall)
    assert not idle.done()


async def test_a_stream_that_always_has_work_ends_with_the_drain_too(peer: Peer) -> None:
    for n in range(200):
        await peer.coordinator.RequestAction(
            Action(id=f"a{n}", action_type="t", group="g", payload=bytes(10_000))
        )
    stream = await consume(peer, "g", max_in_flight=10_000)
    await take(stream, 1)
    await asyncio.wait_for(peer.server.stop(grace=60), 20)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in stream:
            pass
    assert caught.value.details() == "the server is shutting down"


async def test_a_consumer_with_its_fill_costs_nothing_while_it_waits(serve: Serve) -> None:
    class Counted(MemoryStore):
        runs = 0

        async def run(self, work: Callable[[Transaction], T]) -> T:
            self.runs += 1
            return await super().run(work)

    store = Counted()
    peer = await serve(store)
    stream = await consume(peer, "g", max_in_flight=1)
    for name in ("a", "b"):
        await peer.coordinator.RequestAction(Action(id=name, action_type="t", group="g"))
    await take(stream, 1)
    # The loop turns at least once a call; a stream that span would run at each turn.
    before = store.runs
    for _ in range(50):
        await peer.coordinator.GetStatus(GetStatusRequest(group="g"))
    assert store.runs - before < 55


async def test_pages_end_before_they_are_more_than_a_client_takes(peer: Peer) -> None:
    rules = {str(n): "x" * 16_000 for n in range(60)}
    for n in range(6):
        await peer.governor.ProposePolicy(Policy(id=f"p{n}", policy_type="t", rules=rules))
    found: list[str] = []
    token = ""
    for ids in ([], [f"p{n}" for n in range(6)]):
        found.clear()
        while True:
            page = await peer.governor.GetPolicies(GetPoliciesRequest(page_token=token, ids=ids))
            found += [policy.id for policy in page.policies]
            if not (token := page.next_page_token):
                break
        assert found == [f"p{n}" for n in range(6)]
