"""The policy machine against a plain model, over arbitrary commands."""

from dataclasses import dataclass, field
from typing import Final

import pytest
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st

from tai_grpc.services.errors import ServiceError
from tai_grpc.services.governor import machine
from tai_grpc.services.governor.machine import Propose, Select
from tai_grpc.stores.base import Moment
from tai_grpc.stores.records import PolicyRecord, PolicyState, Receipt
from tai_grpc.tai.v1 import types_pb2

LEGAL: Final = {
    None: {PolicyState.PROPOSED},
    PolicyState.PROPOSED: {PolicyState.ENFORCED, PolicyState.REVOKED},
    PolicyState.ENFORCED: {PolicyState.SUPERSEDED, PolicyState.REVOKED},
    PolicyState.SUPERSEDED: set[PolicyState](),
    PolicyState.REVOKED: set[PolicyState](),
}


@dataclass
class World:
    """The versions of one policy, and every receipt given, by what was asked."""

    versions: list[PolicyRecord] = field(default_factory=list)
    revision: int = 0
    clock: int = 1000
    receipts: dict[object, Receipt] = field(default_factory=dict)

    def do(self, command: Propose | tuple[str, Select]) -> Receipt | StatusCode:
        self.clock += 1
        moment = Moment(self.clock, self.revision)
        try:
            if isinstance(command, Propose):
                change = machine.propose(self.versions, command, moment)
            else:
                operation = machine.enforce if command[0] == "enforce" else machine.revoke
                change = operation(self.versions, command[1], moment)
        except ServiceError as error:
            return error.code
        for record in change.records:
            assert isinstance(record, PolicyRecord)
            assert record.revision == self.revision + 1
            self.revision = record.revision
            before = next((policy for policy in self.versions if policy.version == record.version), None)
            assert record.state in LEGAL[before.state if before else None]
            self.versions = sorted(
                [policy for policy in self.versions if policy.version != record.version] + [record],
                key=lambda policy: policy.version,
            )
        if change.records:
            assert change.receipt.revision == self.revision
            assert change.receipt.recorded_at_ns == self.clock
        return change.receipt


def proposal(version: int, rules: int = 0, expected: int | None = None) -> Propose:
    return Propose("p", version, "t", "", {"n": str(rules)}, True, expected)


versions = st.integers(1, 5)
expected = st.none() | st.integers(0, 5)
commands = st.one_of(
    st.builds(proposal, versions, st.integers(0, 1), expected),
    st.tuples(
        st.sampled_from(["enforce", "revoke"]), st.builds(Select, st.just("p"), st.integers(0, 5), expected)
    ),
)


@given(st.lists(commands, max_size=30))
def test_any_commands_keep_one_version_in_force_and_only_legal_moves(script: list[Propose]) -> None:
    """Legal moves and revisions are asserted in World.do, after every command."""
    world = World()
    for command in script:
        before = list(world.versions)
        answer = world.do(command)
        assert sum(policy.state is PolicyState.ENFORCED for policy in world.versions) <= 1
        if isinstance(answer, StatusCode):
            assert world.versions == before


@given(st.lists(commands, max_size=20), commands)
def test_a_command_repeated_at_once_changes_nothing_and_has_the_same_receipt(
    script: list[Propose], last: Propose
) -> None:
    world = World()
    for command in script:
        world.do(command)
    answer = world.do(last)
    newest = isinstance(last, tuple) and last[1].version == 0
    after = list(world.versions)
    if isinstance(answer, Receipt):
        assert world.do(last) == answer
        assert world.versions == after
        assert newest or answer.subject_id == "p"


def test_enforcing_supersedes_the_version_in_force() -> None:
    world = World()
    world.do(proposal(1))
    world.do(("enforce", Select("p", 1, None)))
    world.do(proposal(2))
    world.do(("enforce", Select("p", 0, None)))
    assert [policy.state for policy in world.versions] == [PolicyState.SUPERSEDED, PolicyState.ENFORCED]
    assert [policy.revision for policy in world.versions] == [4, 5]


@pytest.mark.parametrize(
    ("setup", "command", "code"),
    [
        ([], ("enforce", Select("p", 0, None)), StatusCode.NOT_FOUND),
        ([proposal(1)], ("enforce", Select("p", 2, None)), StatusCode.NOT_FOUND),
        ([proposal(1)], proposal(1, rules=1), StatusCode.ALREADY_EXISTS),
        ([proposal(2)], proposal(1), StatusCode.FAILED_PRECONDITION),
        ([proposal(1)], proposal(2, expected=0), StatusCode.ABORTED),
        ([], proposal(1, expected=1), StatusCode.ABORTED),
    ],
)
def test_refusals(setup: list[Propose], command: Propose, code: StatusCode) -> None:
    world = World()
    for step in setup:
        assert isinstance(world.do(step), Receipt)
    assert world.do(command) is code


def test_the_digest_is_over_the_values_not_their_order() -> None:
    one = Propose("p", 1, "t", "", {"a": "1", "b": "2"}, True, None)
    other = Propose("p", 1, "t", "", {"b": "2", "a": "1"}, True, 7)
    assert one.digest == other.digest
    assert one.digest != Propose("p", 1, "t", "", {"a": "2", "b": "1"}, True, None).digest


def test_states_are_the_protos() -> None:
    assert {state.name: int(state) for state in PolicyState} == {
        name.removeprefix("POLICY_STATE_"): number for name, number in types_pb2.PolicyState.items() if number
    }
