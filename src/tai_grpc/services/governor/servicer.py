"""tai.v1.Governor: requests to commands, changes to receipts."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import AsyncIterator, Sequence
from typing import Final

from tai_grpc.services.core import Context, Core, answers, streams
from tai_grpc.services.errors import invalid, not_found
from tai_grpc.services.fields import (
    check_default,
    check_id,
    check_ids,
    check_map,
    check_range,
    check_revision,
    check_text,
)
from tai_grpc.services.governor import machine
from tai_grpc.services.messages import health_message, receipt_message
from tai_grpc.stores.base import Log, Transaction
from tai_grpc.stores.records import PolicyRecord, PolicyState
from tai_grpc.tai.v1 import governor_pb2, governor_pb2_grpc, types_pb2

MAX_VERSION: Final = 2**53
MAX_PAGE: Final = 1000
# A page ends before it would be more than half of what a client takes by default.
MAX_PAGE_BYTES: Final = 2 * 1024 * 1024
MAX_PAGE_TOKEN_BYTES: Final = 1024


class GovernorServicer(governor_pb2_grpc.GovernorServicer):
    def __init__(self, core: Core) -> None:
        self._core = core

    @answers
    async def ProposePolicy(self, request: types_pb2.Policy, context: Context) -> types_pb2.Receipt:
        command = machine.Propose(
            id=check_id("id", request.id),
            version=check_default("version", request.version, 1, MAX_VERSION, 1),
            policy_type=check_text("policy_type", request.policy_type, required=True),
            policy_name=check_text("policy_name", request.policy_name),
            rules=check_map("rules", request.rules),
            enabled=request.enabled,
            expected_version=_expected_version(request),
        )
        return receipt_message(
            await self._core.run(
                lambda tx: machine.propose(tx.policy_versions(command.id), command, tx.moment).apply(tx)
            )
        )

    @answers
    async def EnforcePolicy(self, request: types_pb2.Policy, context: Context) -> types_pb2.Receipt:
        command = _select(request)
        return receipt_message(
            await self._core.run(
                lambda tx: machine.enforce(tx.policy_versions(command.id), command, tx.moment).apply(tx)
            )
        )

    @answers
    async def RevokePolicy(self, request: types_pb2.Policy, context: Context) -> types_pb2.Receipt:
        command = _select(request)
        return receipt_message(
            await self._core.run(
                lambda tx: machine.revoke(tx.policy_versions(command.id), command, tx.moment).apply(tx)
            )
        )

    @answers
    async def GetPolicies(
        self, request: governor_pb2.GetPoliciesRequest, context: Context
    ) -> governor_pb2.GetPoliciesResponse:
        ids = check_ids("ids", request.ids)
        states = frozenset(PolicyState(check_range("states", state, 1, 4)) for state in request.states)
        size = check_default("page_size", request.page_size, 1, MAX_PAGE, 100)
        after = _page_position(request.page_token)

        def matches(policy: PolicyRecord) -> bool:
            return _selected(policy, ids, request.policy_type) and (not states or policy.state in states)

        def read(tx: Transaction) -> tuple[int, Sequence[PolicyRecord]]:
            if not ids:
                return tx.moment.revision, tx.policies(after, matches, size + 1)
            found: list[PolicyRecord] = []
            for policy_id in sorted(ids):
                versions = tx.policy_versions(policy_id)
                if not versions:
                    raise not_found(f"policy {policy_id!r}")
                found += (each for each in versions if (each.id, each.version) > after and matches(each))
            return tx.moment.revision, found[: size + 1]

        revision, found = await self._core.run(read)
        answer = governor_pb2.GetPoliciesResponse(revision=revision)
        total_bytes = 0
        for policy in found[:size]:
            message = _policy_message(policy)
            total_bytes += message.ByteSize()
            if answer.policies and total_bytes > MAX_PAGE_BYTES:
                break
            answer.policies.append(message)
        if (shown := len(answer.policies)) < len(found):
            answer.next_page_token = _page_token(found[shown - 1])
        return answer

    @streams
    async def StreamPolicies(
        self, request: governor_pb2.StreamPoliciesRequest, context: Context
    ) -> AsyncIterator[governor_pb2.PolicyUpdate]:
        ids = check_ids("ids", request.ids)
        from_revision = check_revision("from_revision", request.from_revision)
        async for record in self._core.watch(Log.POLICIES, from_revision, context):
            if isinstance(record, PolicyRecord) and _selected(record, ids, request.policy_type):
                yield governor_pb2.PolicyUpdate(revision=record.revision, policy=_policy_message(record))

    async def HealthCheck(
        self, request: types_pb2.HealthCheckRequest, context: Context
    ) -> types_pb2.HealthStatus:
        return health_message(await self._core.health())


def _expected_version(request: types_pb2.Policy) -> int | None:
    if not request.HasField("expected_version"):
        return None
    return check_range("expected_version", request.expected_version, 0, MAX_VERSION)


def _select(request: types_pb2.Policy) -> machine.Select:
    return machine.Select(
        id=check_id("id", request.id),
        version=check_range("version", request.version, 0, MAX_VERSION),
        expected_version=_expected_version(request),
    )


def _selected(policy: PolicyRecord, ids: frozenset[str], policy_type: str) -> bool:
    return (not ids or policy.id in ids) and (not policy_type or policy.policy_type == policy_type)


def _page_token(last: PolicyRecord) -> str:
    return base64.urlsafe_b64encode(json.dumps([last.id, last.version]).encode()).decode()


def _page_position(token: str) -> tuple[str, int]:
    if not token:
        return ("", 0)
    check_text("page_token", token, MAX_PAGE_TOKEN_BYTES)
    try:
        policy_id, version = json.loads(base64.urlsafe_b64decode(token))
        return (str(policy_id), int(version))
    except (binascii.Error, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise invalid("page_token", "is not the next_page_token of an earlier answer") from error


def _policy_message(policy: PolicyRecord) -> types_pb2.Policy:
    return types_pb2.Policy(
        id=policy.id,
        policy_type=policy.policy_type,
        policy_name=policy.policy_name,
        version=policy.version,
        rules=policy.rules,
        enabled=policy.enabled,
        created_at_ns=policy.created_at_ns,
        updated_at_ns=policy.updated_at_ns,
        state=types_pb2.PolicyState.ValueType(policy.state),
        revision=policy.revision,
    )
