"""Workers: they run the actions of consumer groups, and so the tasks of the task types of the same names."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Collection
from inspect import iscoroutinefunction
from types import TracebackType
from typing import TypeVar

from grpc import aio

from tai_grpc.checks import check_float, check_int, check_type
from tai_grpc.client.control_plane import CoordinatorClient
from tai_grpc.client.grpc_client import GrpcClient
from tai_grpc.client.job import CANCEL_GRACE, HOPELESS, RESUME, Handler, Job, Postpone, Reject
from tai_grpc.errors import ConfigError, TaiGrpcError
from tai_grpc.resilience.retry import backoff
from tai_grpc.status import CallError
from tai_grpc.tai import Action, StreamActionsRequest

__all__ = ["Handler", "Postpone", "Reject", "Worker"]

AnyHandler = TypeVar("AnyHandler", bound=Handler)

_log = logging.getLogger(__name__)


class Worker:
    """Takes the actions of consumer groups, runs a handler for each, and says how it went.

        worker = Worker(client, concurrency=20)

        @worker.on("cleanup")
        async def cleanup(action: Action) -> bytes | None:
            return await remove(action.parameters["path"])

        await worker.run()      # or: async with worker: ...

    What a handler returns is the task's result (at most 64 KiB; None: none). An exception hands the action
    back, to be handed out again as often as its `max_deliveries` or the task's `max_attempts` allow;
    `Postpone` names the wait; `Reject` ends it for good. While a handler runs, its lease of `lease` seconds
    (0.01 to 43,200) is extended; when the lease is lost all the same, another worker may have the action, and
    the handler is cancelled. An action can therefore run twice: handlers should be idempotent.

    Each group has up to `concurrency` handlers running (1..10,000) and takes nothing beyond them. A stream
    that breaks is resumed, 5 s at most after the breaker of an endpoint admits it. `consumer` names this
    worker in the server's logs ("": host and process id).
    """

    def __init__(
        self,
        client: GrpcClient,
        *,
        concurrency: int = 10,
        lease: float = 30.0,
        grace: float = 10.0,
        consumer: str = "",
    ) -> None:
        check_type("client", client, GrpcClient)
        check_type("consumer", consumer, str)
        self._coordinator = client.coordinator
        self._concurrency = check_int("concurrency", concurrency, 1, 10_000)
        self._lease = check_float("lease", lease, 0.01, 43_200.0)
        self._grace = check_float("grace", grace, 0.0, 3600.0)
        self._consumer = consumer or f"{socket.gethostname()}:{os.getpid()}"
        self._groups: dict[str, _Group] = {}
        self._consuming: list[asyncio.Task[None]] = []
        self._ending = asyncio.Event()
        self._stopped: asyncio.Task[None] | None = None

    def on(self, group: str) -> Callable[[AnyHandler], AnyHandler]:
        """Return a decorator that makes a coroutine function the handler of a group, or of a task type.

        Raises:
            ConfigError: the name is not one, the group has a handler already, or the handler is not a
                coroutine function.
            TaiGrpcError: the worker has been started.
        """
        self._check_group(group)

        def register(handler: AnyHandler) -> AnyHandler:
            self._check_group(group)
            call = getattr(handler, "__call__", None)  # noqa: B004 - an object's may be a coroutine function
            if not iscoroutinefunction(handler) and not iscoroutinefunction(call):
                raise ConfigError("handler", handler, "a coroutine function: async def NAME(action)")
            self._groups[group] = _Group(group, handler, self._coordinator, self._concurrency, self._lease)
            return handler

        return register

    def _check_group(self, group: object) -> None:
        if not isinstance(group, str) or not group:
            raise ConfigError("group", group, 'the name of a group, as in @worker.on("cleanup")')
        if self._consuming:
            raise TaiGrpcError(f"handler of {group!r}: a worker's handlers are set before it is started")
        if group in self._groups:
            raise ConfigError("group", group, "a group that has no handler yet")

    async def run(self) -> None:
        """Work until `stop` is called.

        Raises:
            CallError: the server refuses a group's stream for good.
        """
        async with self:
            await self._ending.wait()

    async def __aenter__(self) -> Worker:
        if self._consuming:
            raise TaiGrpcError("this worker was started before: make a new one")
        if not self._groups:
            raise TaiGrpcError("this worker has no handlers: set one with worker.on(GROUP)(HANDLER)")
        for group in self._groups.values():
            task = asyncio.create_task(group.consume(self._consumer))
            task.add_done_callback(lambda _: self._ending.set())
            self._consuming.append(task)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()
        failures = [task.exception() for task in self._consuming if not task.cancelled()]
        if error is None and failures and failures[0] is not None:
            raise failures[0]

    async def stop(self, grace: float | None = None) -> None:
        """Take nothing more, give running handlers `grace` seconds (None: the worker's) to end, then cancel
        them and hand their actions back. What the server had sent but nobody had read yet is handed out again
        when its lease ends.
        """
        if self._stopped is None:
            self._stopped = asyncio.create_task(self._stop(self._grace if grace is None else grace))
        await asyncio.shield(self._stopped)

    async def _stop(self, grace: float) -> None:
        self._ending.set()
        for task in self._consuming:
            task.cancel()
        if self._consuming:
            await asyncio.wait(self._consuming)
        jobs = {job.task: job for group in self._groups.values() for job in group.jobs}
        late = await _late(jobs, grace)
        for task in late:
            jobs[task].stop()
        for task in await _late(late, CANCEL_GRACE):
            _log.error("a handler did not end when it was cancelled: its action is left to its lease")
            task.cancel()


async def _late(tasks: Collection[asyncio.Task[None]], seconds: float) -> set[asyncio.Task[None]]:
    """Return those that have not ended after so many seconds."""
    if not tasks:
        return set()
    _, late = await asyncio.wait(tasks, timeout=seconds)
    return late


class _Group:
    """One consumer group: its stream, and the handlers that are running."""

    def __init__(
        self, name: str, handler: Handler, coordinator: CoordinatorClient, concurrency: int, lease: float
    ) -> None:
        self._name = name
        self._handler = handler
        self._coordinator = coordinator
        self._concurrency = concurrency
        self._lease = lease
        self._free = asyncio.Semaphore(concurrency)
        self.jobs: set[Job] = set()

    async def consume(self, consumer: str) -> None:
        """Take actions from the stream, and from the next one when it breaks."""
        request = StreamActionsRequest(
            group=self._name,
            consumer=consumer,
            max_in_flight=self._concurrency,
            lease_ns=round(self._lease * 1e9),
        )
        breaks = 0
        while True:
            why = "the server ended it"
            stream = self._coordinator.stream_actions(request)
            try:
                while (action := await self._next(stream)) is not None:
                    breaks = 0
                    self._start(action)
            except CallError as error:
                if error.code() in HOPELESS:
                    raise
                why = str(error)
            breaks += 1
            wait = backoff(RESUME, breaks, 0.0)
            _log.warning("stream of group %s broke off, resumed in %.2f s: %s", self._name, wait, why)
            await asyncio.sleep(wait)

    async def _next(self, stream: aio.UnaryStreamCall[StreamActionsRequest, Action]) -> Action | None:
        """Wait for a free handler, which the next action then has, and for that action; None: no more."""
        await self._free.acquire()
        action = None
        try:
            message = await stream.read()
            if isinstance(message, Action):
                action = message
            return action
        finally:
            if action is None:
                self._free.release()

    def _start(self, action: Action) -> None:
        job = Job(action, self._handler, self._coordinator, self._lease)
        self.jobs.add(job)
        job.task.add_done_callback(lambda task: self._ended(job, task))

    def _ended(self, job: Job, task: asyncio.Task[None]) -> None:
        self.jobs.discard(job)
        self._free.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("an action of group %s is left to its lease", self._name, exc_info=error)
