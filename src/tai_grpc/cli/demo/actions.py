"""Signals and actions reach two consumer groups; one delivery is handed back, one lease runs out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Set
from typing import Final

from tai_grpc import GrpcClient
from tai_grpc.cli.demo.checks import PATIENCE, Receipts, StepFailedError, expect, refused, stands
from tai_grpc.cli.demo.stage import Stage, StepResult
from tai_grpc.status import StatusCode
from tai_grpc.tai import (
    AcknowledgeActionRequest,
    Action,
    GetStatusRequest,
    Outcome,
    Signal,
    StreamActionsRequest,
)

_SIGNALS: Final = [f"demo-signal-{n}" for n in range(20)]
"""For every group."""
_ACTIONS: Final = [f"demo-action-{n}" for n in range(10)]
"""For the group "audit" only."""
_HANDED_BACK: Final = _SIGNALS[3]
_LEFT_LYING: Final = _ACTIONS[3]
_LEASE_NS: Final = 2_000_000_000
_DELAY_NS: Final = 200_000_000


class _Consumer:
    """A group's one member. It acknowledges what it is handed, but for the first delivery of `odd_id`."""

    def __init__(
        self, client: GrpcClient, receipts: Receipts, group: str, ids: Set[str], odd_id: str
    ) -> None:
        self._coordinator = client.coordinator
        self._receipts = receipts
        self._to_do = set(ids)
        self._odd_id = odd_id
        self.group = group
        self.odd: list[Action] = []
        self.odd_came_ns: list[int] = []
        self.stream = self._coordinator.stream_actions(
            StreamActionsRequest(group=group, consumer="demo", max_in_flight=4, lease_ns=_LEASE_NS)
        )

    async def work(self, odd_outcome: Outcome.ValueType | None) -> None:
        """Settle every action; the odd one at first with `odd_outcome`, or not at all."""
        try:
            async with asyncio.timeout(PATIENCE):
                async for action in self.stream:
                    outcome: Outcome.ValueType | None = Outcome.OUTCOME_ACK
                    if action.id == self._odd_id:
                        self.odd.append(action)
                        self.odd_came_ns.append(time.time_ns())
                        if len(self.odd) == 1:
                            outcome = odd_outcome
                    if outcome is not None:
                        await self._settle(action, outcome)
                    if not self._to_do:
                        break
        except TimeoutError:
            raise StepFailedError(
                f"the group {self.group}: expected all settled within {PATIENCE:g} s, "
                f"saw {sorted(self._to_do)} open"
            ) from None
        finally:
            self.stream.cancel()
        expect(f"the group {self.group}'s open actions when its stream ended", set(), self._to_do)
        expect(f"the attempts at {self._odd_id}", [1, 2], [action.attempt for action in self.odd])

    def request(self, action: Action, outcome: Outcome.ValueType) -> AcknowledgeActionRequest:
        """The acknowledgement of an action as it was delivered."""
        delay_ns = _DELAY_NS if outcome == Outcome.OUTCOME_NAK else 0
        return AcknowledgeActionRequest(
            action_id=action.id,
            group=self.group,
            lease_token=action.lease_token,
            outcome=outcome,
            delay_ns=delay_ns,
        )

    async def _settle(self, action: Action, outcome: Outcome.ValueType) -> None:
        receipt = await self._coordinator.acknowledge_action(self.request(action, outcome))
        self._receipts.take(receipt, "Coordinator/AcknowledgeAction", action.id)
        if outcome == Outcome.OUTCOME_ACK:
            self._to_do.discard(action.id)


async def run(stage: Stage) -> StepResult:
    receipts = Receipts()
    async with stage.client() as client:
        mail = _Consumer(client, receipts, "mail", {*_SIGNALS}, _HANDED_BACK)
        audit = _Consumer(client, receipts, "audit", {*_SIGNALS, *_ACTIONS}, _LEFT_LYING)
        for consumer in (mail, audit):
            await stands(consumer.stream, f"the stream of the group {consumer.group}")
        await _submit(client, receipts, audit.group)
        async with asyncio.TaskGroup() as group:
            group.create_task(mail.work(Outcome.OUTCOME_NAK))
            group.create_task(audit.work(None))
        _check_delay(stage, mail)
        _check_lease(stage, audit)
        await refused(
            "an acknowledgement under a lease that ran out",
            StatusCode.FAILED_PRECONDITION,
            client.coordinator.acknowledge_action(audit.request(audit.odd[0], Outcome.OUTCOME_ACK)),
        )
        status = await client.coordinator.get_status(GetStatusRequest())
        counts = {
            entry.group: (entry.pending, entry.dispatched, entry.acknowledged) for entry in status.groups
        }
        all_done = {mail.group: (0, 0, len(_SIGNALS)), audit.group: (0, 0, len(_SIGNALS) + len(_ACTIONS))}
        expect("pending, dispatched and acknowledged by group", all_done, counts)
        return StepResult("actions", client.stats(), receipts.count, refused=1)


async def _submit(client: GrpcClient, receipts: Receipts, group: str) -> None:
    for name in _SIGNALS:
        signal = Signal(id=name, signal_type="cpu-high", metadata={"host": "a"}, payload=b"97 %")
        receipts.take(await client.coordinator.submit_signal(signal), "Coordinator/SubmitSignal", name)
    for name in _ACTIONS:
        action = Action(id=name, action_type="restart", group=group)
        receipts.take(await client.coordinator.request_action(action), "Coordinator/RequestAction", name)


def _check_delay(stage: Stage, consumer: _Consumer) -> None:
    first_ns, second_ns = consumer.odd_came_ns
    seconds = (second_ns - first_ns) / 1e9
    if seconds < _DELAY_NS / 1e9:
        raise StepFailedError(f"the nak's delay: expected {_DELAY_NS / 1e9:g} s at least, saw {seconds:g} s")
    stage.display.say(f"  {_HANDED_BACK} was handed back, and came again after {seconds:.2f} s")


def _check_lease(stage: Stage, consumer: _Consumer) -> None:
    first, second = consumer.odd
    early_ns = first.lease_deadline_ns - consumer.odd_came_ns[1]
    if early_ns > 0:
        raise StepFailedError(f"{_LEFT_LYING}: expected after its lease, saw it {early_ns} ns before its end")
    expect("whether the second lease has a token of its own", True, first.lease_token != second.lease_token)
    stage.display.say(
        f"  the lease of {_LEFT_LYING} ran out, and it came again {-early_ns / 1e6:.0f} ms later"
    )
