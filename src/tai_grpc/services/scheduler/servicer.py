"""tai.v1.Scheduler: requests to commands, changes to receipts."""

from __future__ import annotations

from collections.abc import AsyncIterator

from tai_grpc.services import work
from tai_grpc.services.core import Context, Core, answers, streams
from tai_grpc.services.errors import not_found
from tai_grpc.services.fields import (
    MAX_REASON_BYTES,
    check_default,
    check_id,
    check_ids,
    check_map,
    check_priority,
    check_revision,
    check_text,
    check_time_ns,
)
from tai_grpc.services.messages import health_message, receipt_message
from tai_grpc.services.scheduler import machine
from tai_grpc.stores.base import Log
from tai_grpc.stores.records import TaskRecord
from tai_grpc.tai.v1 import scheduler_pb2, scheduler_pb2_grpc, types_pb2


class SchedulerServicer(scheduler_pb2_grpc.SchedulerServicer):
    def __init__(self, core: Core) -> None:
        self._core = core

    @answers
    async def SubmitTask(
        self, request: scheduler_pb2.ScheduleTaskRequest, context: Context
    ) -> types_pb2.Receipt:
        command = machine.Submit(
            task_id=check_id("task_id", request.task_id),
            task_type=check_id("task_type", request.task_type),
            parameters=check_map("parameters", request.parameters),
            scheduled_time_ns=check_time_ns("scheduled_time_ns", request.scheduled_time_ns),
            priority=check_priority("priority", request.priority),
            max_attempts=check_default("max_attempts", request.max_attempts, 1, 1000, 3),
            retry_backoff_ns=check_default(
                "retry_backoff_ns", request.retry_backoff_ns, 1_000_000, machine.MAX_BACKOFF_NS, 1_000_000_000
            ),
        )
        return receipt_message(
            await self._core.run(
                lambda tx: machine.submit(tx.task(command.task_id), command, tx.moment).apply(tx)
            )
        )

    @answers
    async def CancelTask(
        self, request: scheduler_pb2.CancelTaskRequest, context: Context
    ) -> types_pb2.Receipt:
        command = machine.Cancel(
            task_id=check_id("task_id", request.task_id),
            reason=check_text("reason", request.reason, MAX_REASON_BYTES),
        )
        return receipt_message(await self._core.run(lambda tx: work.cancel(tx, command)))

    @answers
    async def GetTaskStatus(
        self, request: scheduler_pb2.GetTaskStatusRequest, context: Context
    ) -> scheduler_pb2.TaskStatus:
        task_id = check_id("task_id", request.task_id)
        task = await self._core.run(lambda tx: tx.task(task_id))
        if task is None:
            raise not_found(f"task {task_id!r}")
        return _status_message(task)

    @streams
    async def StreamTaskUpdates(
        self, request: scheduler_pb2.StreamTaskUpdatesRequest, context: Context
    ) -> AsyncIterator[scheduler_pb2.TaskUpdate]:
        ids = check_ids("task_ids", request.task_ids)
        from_revision = check_revision("from_revision", request.from_revision)
        async for record in self._core.watch(Log.TASKS, from_revision, context):
            if (
                isinstance(record, TaskRecord)
                and (not ids or record.task_id in ids)
                and request.task_type in ("", record.task_type)
            ):
                yield scheduler_pb2.TaskUpdate(revision=record.revision, status=_status_message(record))

    async def HealthCheck(
        self, request: types_pb2.HealthCheckRequest, context: Context
    ) -> types_pb2.HealthStatus:
        return health_message(await self._core.health())


def _status_message(task: TaskRecord) -> scheduler_pb2.TaskStatus:
    return scheduler_pb2.TaskStatus(
        task_id=task.task_id,
        task_type=task.task_type,
        state=scheduler_pb2.TaskState.ValueType(task.state),
        attempt=task.attempt,
        max_attempts=task.max_attempts,
        scheduled_time_ns=task.scheduled_time_ns,
        priority=task.priority,
        cancel_requested=task.cancel_requested,
        reason=task.reason,
        result=task.result,
        created_at_ns=task.created_at_ns,
        updated_at_ns=task.updated_at_ns,
        revision=task.revision,
    )
