"""A thousand tasks: by priority, some due later, some cancelled, some failing at first; workers run them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from typing import Final

from tai_grpc import CallError, GrpcClient, Worker
from tai_grpc.cli.demo.checks import Receipts, StepFailedError, Watch, expect, stands
from tai_grpc.cli.demo.display import Display
from tai_grpc.cli.demo.stage import Stage, StepResult
from tai_grpc.client.control_plane import SchedulerClient
from tai_grpc.status import StatusCode
from tai_grpc.tai import (
    Action,
    CancelTaskRequest,
    GetTaskStatusRequest,
    ScheduleTaskRequest,
    StreamTaskUpdatesRequest,
    TaskState,
    TaskUpdate,
)

_TOTAL: Final = 1_000
_TYPES: Final = ("demo-resize", "demo-index")
_SUBMIT_AT_ONCE: Final = 32
_LATER_NS: Final = 2_000_000_000
_NEVER_NS: Final = 3_600_000_000_000
_BACKOFF_NS: Final = 100_000_000
_AT_ONCE: Final = 16
"""Handlers of one worker for one type."""
_FINAL: Final = (
    TaskState.TASK_STATE_SUCCEEDED,
    TaskState.TASK_STATE_FAILED,
    TaskState.TASK_STATE_CANCELLED,
)


class _Plan:
    """The tasks, and what must become of each."""

    def __init__(self) -> None:
        now_ns = time.time_ns()
        self.tasks = [self._task(number, now_ns) for number in range(_TOTAL)]
        self.cancelled = {task.task_id for task in self.tasks[1::25]}
        self.later = {task.task_id: task.scheduled_time_ns for task in self.tasks[::10]}
        self.fail_once = {task.task_id for task in self.tasks[2::100]}
        self.at_once = {task.task_id for task in self.tasks} - self.cancelled - self.later.keys()

    @staticmethod
    def _task(number: int, now_ns: int) -> ScheduleTaskRequest:
        due_ns = 0
        if number % 10 == 0:
            due_ns = now_ns + _LATER_NS
        elif number % 25 == 1:
            due_ns = now_ns + _NEVER_NS
        return ScheduleTaskRequest(
            task_id=f"demo-task-{number}",
            task_type=_TYPES[number // 10 % 2],
            parameters={"number": str(number)},
            scheduled_time_ns=due_ns,
            priority=number * 7 % 5 - 2,
            retry_backoff_ns=_BACKOFF_NS,
        )


class _Ledger:
    """What the watch told: each task's state, and which was started when."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self.states: dict[str, TaskState.ValueType] = {}
        self.counts: Counter[TaskState.ValueType] = Counter()
        self.started: list[TaskUpdate] = []
        self.resumed = 0

    @property
    def ended(self) -> int:
        """How many tasks are in a final state."""
        return sum(self.counts[state] for state in _FINAL)

    async def follow(self, scheduler: SchedulerClient, from_revision: int) -> AsyncIterator[TaskUpdate]:
        """Watch, and resume after the last update when the watch was cut off for falling behind."""
        while True:
            request = StreamTaskUpdatesRequest(from_revision=from_revision)
            try:
                async for update in scheduler.stream_task_updates(request):
                    from_revision = update.revision + 1
                    self._note(update)
                    yield update
            except CallError as error:
                if error.code() is not StatusCode.RESOURCE_EXHAUSTED:
                    raise
                self.resumed += 1

    def told(self) -> dict[str, int]:
        """How many tasks are in which state."""
        return {_name(state): count for state, count in sorted(self.counts.items()) if count}

    def _note(self, update: TaskUpdate) -> None:
        status = update.status
        if (before := self.states.get(status.task_id)) is not None:
            self.counts[before] -= 1
        self.states[status.task_id] = status.state
        self.counts[status.state] += 1
        if status.state == TaskState.TASK_STATE_RUNNING:
            self.started.append(update)
        self._display.progress(self.ended, _TOTAL, "tasks ended")


class _Runs:
    """The workers' side: which task was run when, by which worker."""

    def __init__(self, plan: _Plan) -> None:
        self._plan = plan
        self.begun_ns: dict[str, list[int]] = defaultdict(list)
        self.by_worker: Counter[str] = Counter()

    def worker(self, client: GrpcClient, consumer: str) -> Worker:
        """A worker for every type of task."""
        worker = Worker(client, concurrency=_AT_ONCE, consumer=consumer)

        async def handle(action: Action) -> bytes:
            name = action.id.removeprefix("task/")
            begun_ns = self.begun_ns[name]
            begun_ns.append(time.time_ns())
            if name in self._plan.fail_once and len(begun_ns) == 1:
                raise RuntimeError("fails at first, as planned")
            self.by_worker[consumer] += 1
            return _result(action.parameters["number"])

        for task_type in _TYPES:
            worker.on(task_type)(handle)
        return worker


async def run(stage: Stage) -> StepResult:
    plan, receipts, ledger = _Plan(), Receipts(), _Ledger(stage.display)
    runs = _Runs(plan)
    async with stage.client() as client:
        updates = client.scheduler.stream_task_updates(StreamTaskUpdatesRequest())
        revision = await stands(updates, "the watch")
        updates.cancel()
        async with Watch(ledger.follow(client.scheduler, revision + 1)) as watch:
            await _submit(client.scheduler, plan, receipts)
            await watch.until(
                lambda: ledger.counts[TaskState.TASK_STATE_QUEUED] >= len(plan.at_once),
                f"{len(plan.at_once)} tasks QUEUED",
                ledger.told,
            )
            async with runs.worker(client, "worker-1"), runs.worker(client, "worker-2"):
                await watch.until(lambda: ledger.ended == _TOTAL, f"{_TOTAL} tasks ended", ledger.told)
        _check(plan, ledger, runs)
        await _check_results(client.scheduler, plan)
        share = ", ".join(f"{count} run by {name}" for name, count in sorted(runs.by_worker.items()))
        stage.display.say(
            f"  {share}; {len(plan.cancelled)} cancelled, {len(plan.fail_once)} took two attempts"
        )
        return StepResult("tasks", client.stats(), receipts.count)


async def _submit(scheduler: SchedulerClient, plan: _Plan, receipts: Receipts) -> None:
    places = asyncio.Semaphore(_SUBMIT_AT_ONCE)

    async def submit(task: ScheduleTaskRequest) -> None:
        async with places:
            receipts.take(await scheduler.submit_task(task), "Scheduler/SubmitTask", task.task_id)
            if task.task_id in plan.cancelled:
                request = CancelTaskRequest(task_id=task.task_id, reason="no longer wanted")
                receipts.take(await scheduler.cancel_task(request), "Scheduler/CancelTask", task.task_id)

    async with asyncio.TaskGroup() as group:
        for task in plan.tasks:
            group.create_task(submit(task))


def _check(plan: _Plan, ledger: _Ledger, runs: _Runs) -> None:
    done = {"SUCCEEDED": _TOTAL - len(plan.cancelled), "CANCELLED": len(plan.cancelled)}
    expect("tasks by their last state", done, ledger.told())
    wrong = [name for name in plan.cancelled if ledger.states[name] != TaskState.TASK_STATE_CANCELLED]
    expect("tasks that were cancelled and not CANCELLED", [], wrong)
    for task in plan.tasks:
        name = task.task_id
        times = 0 if name in plan.cancelled else 2 if name in plan.fail_once else 1
        begun_ns = runs.begun_ns[name]
        expect(f"how often {name} was run", times, len(begun_ns))
        if name in plan.later and begun_ns[0] < task.scheduled_time_ns:
            raise StepFailedError(
                f"{name}: expected when due, saw it {task.scheduled_time_ns - begun_ns[0]} ns too early"
            )
    # All of these were waiting before the first worker came, so nothing but the priority decides.
    for task_type in _TYPES:
        order = [
            update.status.priority
            for update in ledger.started
            if update.status.task_type == task_type
            and update.status.task_id in plan.at_once
            and update.status.attempt == 1
        ]
        expect(
            f"the priorities of {task_type} tasks in the order they were started", sorted(order)[::-1], order
        )


async def _check_results(scheduler: SchedulerClient, plan: _Plan) -> None:
    """Ask for each task that took two attempts, and as many others."""
    others = [task.task_id for task in plan.tasks if task.task_id in plan.later][: len(plan.fail_once)]
    for name in (*sorted(plan.fail_once), *others):
        status = await scheduler.get_task_status(GetTaskStatusRequest(task_id=name))
        number = name.rpartition("-")[2]
        expect(f"the result of {name}", _result(number), status.result)
        expect(f"the attempts at {name}", 2 if name in plan.fail_once else 1, status.attempt)


def _result(number: str) -> bytes:
    return f"result {number}".encode()


def _name(state: TaskState.ValueType) -> str:
    return TaskState.Name(state).removeprefix("TASK_STATE_")
