"""Records: the states have the wire's numbers, and what is finished stays finished."""

from enum import IntEnum
from typing import Any

import pytest

from stores import made
from tai_grpc import tai
from tai_grpc.stores.records import NEVER_NS, ActionSource, ActionState, PolicyState, TaskState


@pytest.mark.parametrize(
    ("ours", "wire", "prefix"),
    [
        (PolicyState, tai.PolicyState, "POLICY_STATE_"),
        (ActionSource, tai.ActionSource, "ACTION_SOURCE_"),
        (ActionState, tai.ActionState, "ACTION_STATE_"),
        (TaskState, tai.TaskState, "TASK_STATE_"),
    ],
)
def test_states_are_the_wire_s(ours: type[IntEnum], wire: Any, prefix: str) -> None:
    on_the_wire = dict(wire.items())
    assert on_the_wire.pop(f"{prefix}UNSPECIFIED") == 0
    assert {f"{prefix}{member.name}": member.value for member in ours} == on_the_wire


@pytest.mark.parametrize("state", PolicyState)
def test_a_policy_is_finished_when_superseded_or_revoked(state: PolicyState) -> None:
    finished = state in (PolicyState.SUPERSEDED, PolicyState.REVOKED)
    assert made.policy(1, state=state).finished is finished


@pytest.mark.parametrize("state", ActionState)
def test_a_delivery_is_finished_when_nobody_will_work_on_it(state: ActionState) -> None:
    finished = state in (ActionState.ACKNOWLEDGED, ActionState.FAILED, ActionState.EXPIRED)
    assert made.delivery(1, state=state).finished is finished


@pytest.mark.parametrize("state", TaskState)
def test_a_task_is_finished_when_it_has_an_outcome(state: TaskState) -> None:
    finished = state in (TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED)
    assert made.task(1, state=state).finished is finished


@pytest.mark.parametrize(
    ("state", "lapses_ns"),
    [
        (ActionState.PENDING, 70),
        (ActionState.DISPATCHED, 50),
        (ActionState.ACKNOWLEDGED, NEVER_NS),
        (ActionState.FAILED, NEVER_NS),
        (ActionState.EXPIRED, NEVER_NS),
    ],
)
def test_a_delivery_lapses_with_its_lease_or_else_with_its_time_to_live(
    state: ActionState, lapses_ns: int
) -> None:
    assert made.delivery(1, state=state, expires_at_ns=70, lease_deadline_ns=50).lapses_ns == lapses_ns


def test_a_delivery_without_a_time_to_live_never_lapses_while_it_waits() -> None:
    assert made.delivery(1, expires_at_ns=0).lapses_ns == NEVER_NS
