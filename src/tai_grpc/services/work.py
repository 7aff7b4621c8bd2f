"""Where the state machines of actions and tasks meet: leases are handed out, settled and timed here.

A due task becomes an action for the group named after its type. From then on the two move together: a
lease makes the task RUNNING, an acknowledgement ends it, a nak or a lost lease schedules its next attempt.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tai_grpc.services.coordinator import machine as actions
from tai_grpc.services.coordinator.machine import Acknowledge, Outcome
from tai_grpc.services.errors import not_found
from tai_grpc.services.scheduler import machine as tasks
from tai_grpc.stores.base import Transaction
from tai_grpc.stores.records import (
    NEVER_NS,
    ActionRecord,
    ActionSource,
    ActionState,
    Delivery,
    GroupRecord,
    Receipt,
    TaskRecord,
    TaskState,
)

TASK_PREFIX: Final = "task/"
"""The id of a task's action is this and the task's id; no other action's id begins so."""

_PASSED_OVER: Final = 64
"""How many deliveries are looked at for one whose time to live is not over."""


def hand_out(
    transaction: Transaction, group: str, holder: str, max_in_flight: int, lease_ns: int
) -> tuple[ActionRecord, Delivery] | None:
    """Lease to `holder` the group's next delivery, None when it has none or `holder` has its fill."""
    if transaction.held_by(holder) >= max_in_flight:
        return None
    for pending in transaction.pending(group, _PASSED_OVER):
        if pending.lapses_ns <= transaction.moment.now_ns:
            continue  # the timers end it
        action = _action(transaction, pending)
        if action.source is ActionSource.TASK:
            transaction.put(tasks.started(_task(transaction, action), transaction.moment))
        leased = actions.lease(pending, holder, lease_ns, transaction.moment)
        transaction.put(leased)
        return action, leased
    return None


def acknowledge(transaction: Transaction, command: Acknowledge) -> Receipt:
    """Settle a lease, and with it the task that the action stands for."""
    delivery = transaction.delivery(command.action_id, command.group)
    if delivery is None:
        raise not_found(f"action {command.action_id!r} in group {command.group!r}")
    action = _action(transaction, delivery)
    if action.source is not ActionSource.TASK or command.outcome is Outcome.IN_PROGRESS:
        return actions.acknowledge(action, delivery, command, transaction.moment).apply(transaction)

    if (settled := actions.check_lease(delivery, command)) is not None:
        return settled
    task = _task(transaction, action)
    if command.outcome is Outcome.ACK:
        task = tasks.succeeded(task, command.result, transaction.moment)
    elif command.outcome is Outcome.TERM:
        task = tasks.failed(task, command.reason, transaction.moment)
    else:
        task = tasks.retried(task, command.reason, command.delay_ns, transaction.moment)
    transaction.put(task)
    after = _following(delivery, task, transaction.moment.revision + 1)
    receipt = actions.acknowledged(command, transaction.moment)
    transaction.put(replace(after, settled=receipt))
    return receipt


def cancel(transaction: Transaction, command: tasks.Cancel) -> Receipt:
    """Cancel a task, and take its action out of its group when it is not leased."""
    change = tasks.cancel(transaction.task(command.task_id), command, transaction.moment)
    change.apply(transaction)
    for task in change.records:
        if isinstance(task, TaskRecord) and task.finished:
            delivery = transaction.delivery(TASK_PREFIX + task.task_id, task.task_type)
            if delivery is not None and not delivery.finished:
                transaction.put(_following(delivery, task, transaction.moment.revision + 1))
    return change.receipt


def tick(transaction: Transaction, limit: int) -> int:
    """Do what is due, up to `limit` things of each kind, and return when to tick next, in epoch ns."""
    lapsed = transaction.lapsed(limit)
    for delivery in lapsed:
        action = _action(transaction, delivery)
        if action.source is ActionSource.TASK:
            task = tasks.retried(_task(transaction, action), "its lease ended", 0, transaction.moment)
            transaction.put(task)
            transaction.put(_following(delivery, task, transaction.moment.revision + 1))
        else:
            transaction.put(actions.lapse(action, delivery, transaction.moment))
    due = transaction.due_tasks(limit)
    made: set[str] = set()
    for task in due:
        _queue(transaction, task, made)
    return transaction.moment.now_ns if lapsed or due else transaction.next_timer_ns()


def put_off(transaction: Transaction, reason: str) -> None:
    """Let the task that is longest due wait a little more, for a reason that its watchers see."""
    for task in transaction.due_tasks(1):
        transaction.put(tasks.put_off(task, reason, transaction.moment))


def _queue(transaction: Transaction, task: TaskRecord, made: set[str]) -> None:
    """Make a due task an action for its group (in `made` when this transaction makes it), or bring back the
    action of its earlier attempt.
    """
    action_id = TASK_PREFIX + task.task_id
    delivery = transaction.delivery(action_id, task.task_type)
    if delivery is None or delivery.finished:
        if task.task_type not in made and transaction.group(task.task_type) is None:
            made.add(task.task_type)
            transaction.put(GroupRecord(task.task_type, transaction.moment.revision + 1))
        revision = transaction.moment.revision + 1
        action = ActionRecord(
            id=action_id,
            action_type=task.task_type,
            parameters=task.parameters,
            payload=b"",
            priority=task.priority,
            group=task.task_type,
            expires_at_ns=0,
            max_deliveries=task.max_attempts,
            source=ActionSource.TASK,
            created_at_ns=transaction.moment.now_ns,
            revision=revision,
            receipt=task.receipts[tasks.SUBMIT],
        )
        transaction.put(action)
        (delivery,) = actions.fan_out(action, [task.task_type], revision)
    else:
        revision = transaction.moment.revision + 1
        delivery = actions.waiting(delivery, transaction.moment.now_ns, delivery.reason, revision)
    transaction.put(delivery)
    transaction.put(tasks.queued(task, transaction.moment))


def _following(delivery: Delivery, task: TaskRecord, revision: int) -> Delivery:
    """Return the delivery of a task's action as its task has become."""
    if task.state is TaskState.SUCCEEDED:
        return actions.ended(delivery, ActionState.ACKNOWLEDGED, "", revision)
    if task.finished:
        return actions.ended(delivery, ActionState.FAILED, task.reason, revision)
    # The task's own time, not the delivery's, brings it back.
    return actions.waiting(delivery, NEVER_NS, task.reason, revision)


def _action(transaction: Transaction, delivery: Delivery) -> ActionRecord:
    action = transaction.action(delivery.action_id)
    if action is None:
        raise LookupError(f"the store lost action {delivery.action_id!r} of a delivery that it keeps")
    return action


def _task(transaction: Transaction, action: ActionRecord) -> TaskRecord:
    task = transaction.task(action.id.removeprefix(TASK_PREFIX))
    if task is None:
        raise LookupError(f"the store lost the task of action {action.id!r}")
    return task
