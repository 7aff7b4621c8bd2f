"""The policy's state machine: PROPOSED -> ENFORCED -> SUPERSEDED | REVOKED, and PROPOSED -> REVOKED.

Each function takes the versions kept of one id, a command and a moment, and returns the change or raises
`ServiceError`. At most one version of an id is ENFORCED.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tai_grpc.services.change import Change, content_digest
from tai_grpc.services.errors import ServiceError, already_exists, not_found, wrong_state
from tai_grpc.status import StatusCode
from tai_grpc.stores.base import Moment
from tai_grpc.stores.records import PolicyRecord, PolicyState, Receipt

PROPOSE: Final = "tai.v1.Governor/ProposePolicy"
ENFORCE: Final = "tai.v1.Governor/EnforcePolicy"
REVOKE: Final = "tai.v1.Governor/RevokePolicy"


@dataclass(frozen=True, slots=True)
class Propose:
    id: str
    version: int
    policy_type: str
    policy_name: str
    rules: Mapping[str, str]
    enabled: bool
    expected_version: int | None

    @property
    def digest(self) -> str:
        content = [self.id, self.version, self.policy_type, self.policy_name, dict(self.rules), self.enabled]
        return content_digest(PROPOSE, content)


@dataclass(frozen=True, slots=True)
class Select:
    """Names the version to enforce or revoke; version 0 is the newest."""

    id: str
    version: int
    expected_version: int | None


def propose(versions: Sequence[PolicyRecord], command: Propose, moment: Moment) -> Change:
    """Add a version."""
    same = next((policy for policy in versions if policy.version == command.version), None)
    if same is not None:
        receipt = same.receipts[PROPOSE]
        if receipt.digest != command.digest:
            raise already_exists(f"policy {command.id!r} version {command.version}")
        return Change((), receipt)
    _check_expected(versions, command.id, command.expected_version)
    if versions and command.version < versions[-1].version:
        newest = versions[-1].version
        raise wrong_state(
            f"policy {command.id!r}: version {command.version} is older than the newest, {newest}"
        )
    revision = moment.revision + 1
    receipt = Receipt(PROPOSE, command.id, revision, moment.now_ns, command.digest, command.version)
    policy = PolicyRecord(
        id=command.id,
        version=command.version,
        policy_type=command.policy_type,
        policy_name=command.policy_name,
        rules=command.rules,
        enabled=command.enabled,
        created_at_ns=moment.now_ns,
        updated_at_ns=moment.now_ns,
        state=PolicyState.PROPOSED,
        revision=revision,
        receipts={PROPOSE: receipt},
    )
    return Change((policy,), receipt)


def enforce(versions: Sequence[PolicyRecord], command: Select, moment: Moment) -> Change:
    """Put a PROPOSED version in force in place of the one that is."""
    policy = _select(versions, command)
    if policy.state is PolicyState.ENFORCED:
        return Change((), policy.receipts[ENFORCE])
    _check_expected(versions, command.id, command.expected_version)
    if policy.state is not PolicyState.PROPOSED:
        raise wrong_state(
            f"policy {policy.id!r} version {policy.version} is {policy.state.name}, not PROPOSED"
        )
    superseded = [
        _moved(other, PolicyState.SUPERSEDED, moment, moment.revision + 1)
        for other in versions
        if other.state is PolicyState.ENFORCED
    ]
    revision = moment.revision + len(superseded) + 1
    enforced = _moved(policy, PolicyState.ENFORCED, moment, revision, ENFORCE)
    return Change((*superseded, enforced), enforced.receipts[ENFORCE])


def revoke(versions: Sequence[PolicyRecord], command: Select, moment: Moment) -> Change:
    """Withdraw a PROPOSED or ENFORCED version."""
    policy = _select(versions, command)
    if policy.state is PolicyState.REVOKED:
        return Change((), policy.receipts[REVOKE])
    _check_expected(versions, command.id, command.expected_version)
    if policy.state is PolicyState.SUPERSEDED:
        raise wrong_state(f"policy {policy.id!r} version {policy.version} is SUPERSEDED already")
    revoked = _moved(policy, PolicyState.REVOKED, moment, moment.revision + 1, REVOKE)
    return Change((revoked,), revoked.receipts[REVOKE])


def _select(versions: Sequence[PolicyRecord], command: Select) -> PolicyRecord:
    if not versions:
        raise not_found(f"policy {command.id!r}")
    if command.version == 0:
        return versions[-1]
    for policy in versions:
        if policy.version == command.version:
            return policy
    raise not_found(f"version {command.version} of policy {command.id!r}")


def _check_expected(versions: Sequence[PolicyRecord], policy_id: str, expected: int | None) -> None:
    newest = versions[-1].version if versions else 0
    if expected is not None and expected != newest:
        raise ServiceError(
            StatusCode.ABORTED,
            f"expected_version: the newest version of policy {policy_id!r} is {newest}, not {expected}",
        )


def _moved(
    policy: PolicyRecord, state: PolicyState, moment: Moment, revision: int, operation: str = ""
) -> PolicyRecord:
    receipts = policy.receipts
    if operation:
        digest = content_digest(operation, [policy.id, policy.version])
        receipt = Receipt(operation, policy.id, revision, moment.now_ns, digest, policy.version)
        receipts = {**receipts, operation: receipt}
    return replace(policy, state=state, updated_at_ns=moment.now_ns, revision=revision, receipts=receipts)
