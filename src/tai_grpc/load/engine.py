"""Runs a plan and says what happened."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from types import TracebackType
from typing import Final, Self

import grpc

from tai_grpc.errors import DeadlineError
from tai_grpc.load.channels import open_channel
from tai_grpc.load.payload import one_line
from tai_grpc.load.plan import LoadPlan
from tai_grpc.resilience import LatencyHistogram

MAX_DISTINCT_ERRORS: Final = 100
"""Error messages that are counted one by one; those of every further kind are counted together."""
OTHER_ERRORS: Final = "other errors"

_Send = Callable[..., Awaitable[object]]


class EndReason(Enum):
    """Why a run ended, in ghz's words: all calls made, the duration over, or stopped."""

    NORMAL = "normal"
    TIMEOUT = "timeout"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What a run saw.

    `latencies` holds, in whole microseconds, the calls that ended with OK and no others: from just before the
    request is handed to the transport until its response is there. `statuses` counts every call that ended,
    by status name, and `errors` the failed ones by "CODE: details". `abandoned` calls were in flight when the
    run was stopped. `elapsed_ns` runs from the first request to the last response.
    """

    plan: LoadPlan
    started: datetime
    elapsed_ns: int
    end_reason: EndReason
    latencies: LatencyHistogram
    statuses: Counter[str]
    errors: Counter[str]
    abandoned: int

    @property
    def count(self) -> int:
        """Calls that ended, whatever their status."""
        return self.statuses.total()


class LoadRun:
    """One run of a plan: `async with LoadRun(plan) as run: result = await run.run()`.

    Entering makes the connections. Responses are taken as bytes and not parsed.

    Raises:
        DeadlineError: on entering, when there is no connection within the plan's `connect_timeout`.
    """

    def __init__(self, plan: LoadPlan) -> None:
        self._plan = plan
        self._stack = AsyncExitStack()
        self._sends: list[_Send] = []
        self._workers: list[asyncio.Task[None]] = []
        self._issued = 0
        self._deadline_ns: int | None = None
        self._end_reason = EndReason.NORMAL
        # Twice the timeout: a call that ends late by the machine's fault is still inside.
        self._latencies = LatencyHistogram(1, max(60_000_000, int(plan.timeout * 2e6)), 3)
        self._statuses: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()

    @property
    def completed(self) -> int:
        """Calls that have ended so far."""
        return self._statuses.total()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for _ in range(self._plan.connections):
                channel = await stack.enter_async_context(open_channel(self._plan.host, self._plan.transport))
                self._sends.append(channel.unary_unary(self._plan.method.path))
                try:
                    await asyncio.wait_for(channel.channel_ready(), self._plan.connect_timeout)
                except TimeoutError:
                    raise DeadlineError(
                        f"no connection to {self._plan.host} within {self._plan.connect_timeout:g} s"
                    ) from None
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def run(self) -> LoadResult:
        """Make the calls, until the plan is done or `stop()`."""
        plan = self._plan
        started = datetime.now(UTC)
        begin_ns = time.monotonic_ns()
        if plan.duration is not None:
            self._deadline_ns = begin_ns + int(plan.duration * 1e9)
        workers = plan.concurrency if plan.duration is not None else min(plan.concurrency, plan.total)
        async with asyncio.TaskGroup() as group:
            for index in range(workers):
                send = self._sends[index % len(self._sends)]
                self._workers.append(group.create_task(self._work(send)))
        return LoadResult(
            plan=plan,
            started=started,
            elapsed_ns=time.monotonic_ns() - begin_ns,
            end_reason=self._end_reason,
            latencies=self._latencies,
            statuses=self._statuses,
            errors=self._errors,
            abandoned=self._issued - self.completed,
        )

    def stop(self) -> None:
        """End the run now; calls in flight are cancelled and counted as abandoned."""
        self._end_reason = EndReason.CANCEL
        for worker in self._workers:
            worker.cancel()

    def _next(self) -> bytes | None:
        """The next request to send, or None when there is none."""
        if self._deadline_ns is None:
            if self._issued == self._plan.total:
                return None
        elif time.monotonic_ns() >= self._deadline_ns:
            self._end_reason = EndReason.TIMEOUT
            return None
        request = self._plan.requests[self._issued % len(self._plan.requests)]
        self._issued += 1
        return request

    async def _work(self, send: _Send) -> None:
        timeout, metadata = self._plan.timeout, self._plan.metadata
        while (request := self._next()) is not None:
            begin_ns = time.monotonic_ns()
            try:
                await send(request, timeout=timeout, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                self._fail(error)
            else:
                # To the nearest microsecond: what is left out is far below what a call takes.
                self._latencies.record((time.monotonic_ns() - begin_ns + 500) // 1000)
                self._statuses["OK"] += 1

    def _fail(self, error: grpc.aio.AioRpcError) -> None:
        code = error.code().name
        self._statuses[code] += 1
        message = f"{code}: {one_line(error.details() or 'no details given')}"
        known = message in self._errors or len(self._errors) < MAX_DISTINCT_ERRORS
        self._errors[message if known else OTHER_ERRORS] += 1
