"""The three services' calls under Python names, typed as their messages are.

Each attribute is the call itself: `await client.governor.propose_policy(policy, timeout=5.0)`, and
`async for update in client.governor.stream_policies(request)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tai_grpc.tai.v1.coordinator_pb2_grpc import CoordinatorStub
from tai_grpc.tai.v1.governor_pb2_grpc import GovernorStub
from tai_grpc.tai.v1.scheduler_pb2_grpc import SchedulerStub

if TYPE_CHECKING:
    import grpc
    from grpc import aio


class GovernorClient:
    """Policies: see tai/v1/governor.proto for what each call requires and answers."""

    def __init__(self, channel: aio.Channel) -> None:
        stub = GovernorStub(channel)
        self.propose_policy = stub.ProposePolicy
        self.enforce_policy = stub.EnforcePolicy
        self.revoke_policy = stub.RevokePolicy
        self.get_policies = stub.GetPolicies
        self.stream_policies = stub.StreamPolicies
        self.health_check = stub.HealthCheck


class CoordinatorClient:
    """Signals and actions: see tai/v1/coordinator.proto for what each call requires and answers."""

    def __init__(self, channel: aio.Channel) -> None:
        stub = CoordinatorStub(channel)
        self.submit_signal = stub.SubmitSignal
        self.request_action = stub.RequestAction
        self.stream_actions = stub.StreamActions
        self.acknowledge_action = stub.AcknowledgeAction
        self.get_status = stub.GetStatus
        self.health_check = stub.HealthCheck


class SchedulerClient:
    """Tasks: see tai/v1/scheduler.proto for what each call requires and answers."""

    def __init__(self, channel: aio.Channel) -> None:
        stub = SchedulerStub(channel)
        self.submit_task = stub.SubmitTask
        self.cancel_task = stub.CancelTask
        self.get_task_status = stub.GetTaskStatus
        self.stream_task_updates = stub.StreamTaskUpdates
        self.health_check = stub.HealthCheck


class BlockingGovernorClient:
    """As `GovernorClient`, without await."""

    def __init__(self, channel: grpc.Channel) -> None:
        stub = GovernorStub(channel)
        self.propose_policy = stub.ProposePolicy
        self.enforce_policy = stub.EnforcePolicy
        self.revoke_policy = stub.RevokePolicy
        self.get_policies = stub.GetPolicies
        self.stream_policies = stub.StreamPolicies
        self.health_check = stub.HealthCheck


class BlockingCoordinatorClient:
    """As `CoordinatorClient`, without await."""

    def __init__(self, channel: grpc.Channel) -> None:
        stub = CoordinatorStub(channel)
        self.submit_signal = stub.SubmitSignal
        self.request_action = stub.RequestAction
        self.stream_actions = stub.StreamActions
        self.acknowledge_action = stub.AcknowledgeAction
        self.get_status = stub.GetStatus
        self.health_check = stub.HealthCheck


class BlockingSchedulerClient:
    """As `SchedulerClient`, without await."""

    def __init__(self, channel: grpc.Channel) -> None:
        stub = SchedulerStub(channel)
        self.submit_task = stub.SubmitTask
        self.cancel_task = stub.CancelTask
        self.get_task_status = stub.GetTaskStatus
        self.stream_task_updates = stub.StreamTaskUpdates
        self.health_check = stub.HealthCheck
