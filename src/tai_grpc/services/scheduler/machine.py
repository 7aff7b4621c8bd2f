"""The task's state machine.

SCHEDULED -> QUEUED -> RUNNING -> SUCCEEDED | FAILED | CANCELLED; a retry or a lost lease -> SCHEDULED with
backoff until the attempts run out.

Each function takes what is kept, a command and a moment, and returns the change or raises `ServiceError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from tai_grpc.services.change import Change, content_digest
from tai_grpc.services.errors import already_exists, not_found, wrong_state
from tai_grpc.stores.base import Moment
from tai_grpc.stores.records import Receipt, TaskRecord, TaskState

SUBMIT: Final = "tai.v1.Scheduler/SubmitTask"
CANCEL: Final = "tai.v1.Scheduler/CancelTask"
MAX_BACKOFF_NS: Final = 3_600_000_000_000
MIN_PUT_OFF_NS: Final = 1_000_000_000
MAX_PUT_OFF_NS: Final = 60_000_000_000


@dataclass(frozen=True, slots=True)
class Submit:
    task_id: str
    task_type: str
    parameters: Mapping[str, str]
    scheduled_time_ns: int
    priority: int
    max_attempts: int
    retry_backoff_ns: int

    @property
    def digest(self) -> str:
        return content_digest(
            SUBMIT,
            [
                self.task_id,
                self.task_type,
                dict(self.parameters),
                self.scheduled_time_ns,
                self.priority,
                self.max_attempts,
                self.retry_backoff_ns,
            ],
        )


@dataclass(frozen=True, slots=True)
class Cancel:
    task_id: str
    reason: str

    @property
    def digest(self) -> str:
        return content_digest(CANCEL, [self.task_id, self.reason])


def submit(existing: TaskRecord | None, command: Submit, moment: Moment) -> Change:
    """Add a task, SCHEDULED; a time in the past means now."""
    if existing is not None:
        receipt = existing.receipts[SUBMIT]
        if receipt.digest != command.digest:
            raise already_exists(f"task {command.task_id!r}")
        return Change((), receipt)
    revision = moment.revision + 1
    receipt = Receipt(SUBMIT, command.task_id, revision, moment.now_ns, command.digest)
    task = TaskRecord(
        task_id=command.task_id,
        task_type=command.task_type,
        parameters=command.parameters,
        scheduled_time_ns=max(command.scheduled_time_ns, moment.now_ns),
        priority=command.priority,
        max_attempts=command.max_attempts,
        retry_backoff_ns=command.retry_backoff_ns,
        created_at_ns=moment.now_ns,
        updated_at_ns=moment.now_ns,
        state=TaskState.SCHEDULED,
        revision=revision,
        receipts={SUBMIT: receipt},
    )
    return Change((task,), receipt)


def cancel(task: TaskRecord | None, command: Cancel, moment: Moment) -> Change:
    """End a task that does not run yet; ask for the end of one that does."""
    if task is None:
        raise not_found(f"task {command.task_id!r}")
    earlier = task.receipts.get(CANCEL)
    if earlier is not None and earlier.digest == command.digest:
        return Change((), earlier)
    if task.finished:
        raise wrong_state(f"task {task.task_id!r} is {task.state.name} already")
    if earlier is not None:
        raise wrong_state(f"task {task.task_id!r}: its end was asked for already, for another reason")
    revision = moment.revision + 1
    receipt = Receipt(CANCEL, task.task_id, revision, moment.now_ns, command.digest)
    runs = task.state is TaskState.RUNNING
    cancelled = replace(
        task,
        state=TaskState.RUNNING if runs else TaskState.CANCELLED,
        cancel_requested=runs,
        reason=command.reason,
        updated_at_ns=moment.now_ns,
        revision=revision,
        receipts={**task.receipts, CANCEL: receipt},
    )
    return Change((cancelled,), receipt)


def queued(task: TaskRecord, moment: Moment) -> TaskRecord:
    """The task is due: it waits for a worker."""
    return _moved(task, TaskState.QUEUED, moment)


def put_off(task: TaskRecord, reason: str, moment: Moment) -> TaskRecord:
    """There is no room for its action: it is due again after as long as it has waited. That is no attempt."""
    after = _moved(task, TaskState.SCHEDULED, moment)
    waited_ns = moment.now_ns - task.created_at_ns
    delay_ns = min(max(waited_ns, MIN_PUT_OFF_NS), MAX_PUT_OFF_NS)
    return replace(after, scheduled_time_ns=moment.now_ns + delay_ns, reason=reason)


def started(task: TaskRecord, moment: Moment) -> TaskRecord:
    """A worker has leased it."""
    return replace(_moved(task, TaskState.RUNNING, moment), attempt=task.attempt + 1)


def succeeded(task: TaskRecord, result: bytes, moment: Moment) -> TaskRecord:
    return replace(_moved(task, TaskState.SUCCEEDED, moment), result=result, reason="")


def failed(task: TaskRecord, reason: str, moment: Moment) -> TaskRecord:
    """The worker gave it up for good; CANCELLED when that was asked for."""
    state = TaskState.CANCELLED if task.cancel_requested else TaskState.FAILED
    return replace(_moved(task, state, moment), reason=task.reason if task.cancel_requested else reason)


def retried(task: TaskRecord, reason: str, delay_ns: int, moment: Moment) -> TaskRecord:
    """The attempt came to nothing: the next one is due after `delay_ns`, or after the task's backoff when
    that is 0, unless no attempt is left or the end was asked for.
    """
    if task.cancel_requested or task.attempt >= task.max_attempts:
        return failed(task, reason, moment)
    backoff_ns = delay_ns or min(task.retry_backoff_ns << min(task.attempt - 1, 32), MAX_BACKOFF_NS)
    after = _moved(task, TaskState.SCHEDULED, moment)
    return replace(after, scheduled_time_ns=moment.now_ns + backoff_ns, reason=reason)


def _moved(task: TaskRecord, state: TaskState, moment: Moment) -> TaskRecord:
    return replace(task, state=state, updated_at_ns=moment.now_ns, revision=moment.revision + 1)
