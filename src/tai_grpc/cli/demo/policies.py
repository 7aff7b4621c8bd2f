"""Policies are proposed, enforced, superseded and revoked, while a stream watches."""

from __future__ import annotations

from typing import Final

from tai_grpc.cli.demo.checks import Receipts, Watch, expect, refused, stands
from tai_grpc.cli.demo.stage import Stage, StepResult
from tai_grpc.status import StatusCode
from tai_grpc.tai import GetPoliciesRequest, Policy, PolicyState, PolicyUpdate, StreamPoliciesRequest

_ID: Final = "demo-egress"
_STORY: Final = [
    (1, "PROPOSED"),
    (1, "ENFORCED"),
    (2, "PROPOSED"),
    (1, "SUPERSEDED"),
    (2, "ENFORCED"),
    (2, "REVOKED"),
]
"""Every change that the watch must see, once and in order: version and state."""


async def run(stage: Stage) -> StepResult:
    receipts = Receipts()
    async with stage.client() as client:
        governor = client.governor
        updates = governor.stream_policies(StreamPoliciesRequest(ids=[_ID]))
        await stands(updates, "the watch")
        async with Watch(updates) as watch:
            first = Policy(
                id=_ID, policy_type="network", version=1, rules={"allow": "10.0.0.0/8"}, enabled=True
            )
            second = Policy(id=_ID, policy_type="network", version=2, rules={"allow": "none"}, enabled=True)
            proposed = receipts.take(await governor.propose_policy(first), "Governor/ProposePolicy", _ID)
            again = receipts.take(await governor.propose_policy(first), "Governor/ProposePolicy", _ID)
            expect("the receipt of a proposal made twice", proposed, again)
            receipts.take(
                await governor.enforce_policy(Policy(id=_ID, version=1)), "Governor/EnforcePolicy", _ID
            )
            stale = Policy(id=_ID, policy_type="network", version=2, expected_version=0)
            await refused(
                "a proposal that expects no version yet", StatusCode.ABORTED, governor.propose_policy(stale)
            )
            receipts.take(await governor.propose_policy(second), "Governor/ProposePolicy", _ID)
            receipts.take(
                await governor.enforce_policy(Policy(id=_ID, version=2)), "Governor/EnforcePolicy", _ID
            )
            receipts.take(
                await governor.revoke_policy(Policy(id=_ID, version=2)), "Governor/RevokePolicy", _ID
            )
            await watch.until(
                lambda: len(watch.items) >= len(_STORY),
                f"{len(_STORY)} changes in the watch",
                lambda: _told(watch.items),
            )
        expect("the changes in the watch", _STORY, _told(watch.items))
        revisions = [update.revision for update in watch.items]
        expect("the revisions of the watch, ascending", sorted(set(revisions)), revisions)
        kept = await governor.get_policies(GetPoliciesRequest(ids=[_ID]))
        states = [(policy.version, _state(policy)) for policy in kept.policies]
        expect("the policies kept", [(1, "SUPERSEDED"), (2, "REVOKED")], states)
        stage.display.say(f"  the watch saw {len(revisions)} changes, once and in order")
        return StepResult("policies", client.stats(), receipts.count, refused=1)


def _told(updates: list[PolicyUpdate]) -> list[tuple[int, str]]:
    return [(update.policy.version, _state(update.policy)) for update in updates]


def _state(policy: Policy) -> str:
    return PolicyState.Name(policy.state).removeprefix("POLICY_STATE_")
