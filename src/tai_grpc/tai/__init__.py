"""The messages of the three services, generated from protos/tai/v1; their stubs and servicers are in `v1`."""

from tai_grpc.tai.v1.coordinator_pb2 import (
    AcknowledgeActionRequest,
    CoordinationStatus,
    GetStatusRequest,
    GroupStatus,
    Outcome,
    StreamActionsRequest,
)
from tai_grpc.tai.v1.governor_pb2 import (
    GetPoliciesRequest,
    GetPoliciesResponse,
    PolicyUpdate,
    StreamPoliciesRequest,
)
from tai_grpc.tai.v1.scheduler_pb2 import (
    CancelTaskRequest,
    GetTaskStatusRequest,
    ScheduleTaskRequest,
    StreamTaskUpdatesRequest,
    TaskState,
    TaskStatus,
    TaskUpdate,
)
from tai_grpc.tai.v1.types_pb2 import (
    Action,
    ActionSource,
    ActionState,
    HealthCheckRequest,
    HealthStatus,
    Policy,
    PolicyState,
    Receipt,
    Signal,
)

__all__ = [
    "AcknowledgeActionRequest",
    "Action",
    "ActionSource",
    "ActionState",
    "CancelTaskRequest",
    "CoordinationStatus",
    "GetPoliciesRequest",
    "GetPoliciesResponse",
    "GetStatusRequest",
    "GetTaskStatusRequest",
    "GroupStatus",
    "HealthCheckRequest",
    "HealthStatus",
    "Outcome",
    "Policy",
    "PolicyState",
    "PolicyUpdate",
    "Receipt",
    "ScheduleTaskRequest",
    "Signal",
    "StreamActionsRequest",
    "StreamPoliciesRequest",
    "StreamTaskUpdatesRequest",
    "TaskState",
    "TaskStatus",
    "TaskUpdate",
]
