"""What the three servicers share: the store, watches over its logs, and how a refusal is answered."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, TypeVar

import grpc

from tai_grpc.errors import StoreFullError, StoreUnavailableError
from tai_grpc.services.errors import ServiceError
from tai_grpc.status import StatusCode
from tai_grpc.stores.base import Log, LogPage, Store, Transaction
from tai_grpc.stores.records import NEVER_NS, Record

T = TypeVar("T")
S = TypeVar("S")
Request = TypeVar("Request")
Response = TypeVar("Response")
Context = grpc.aio.ServicerContext[Any, Any]

REVISION_KEY: Final = "tai-revision"
"""Initial metadata of a watch: the store's revision when it began."""

_WATCH_BATCH: Final = 256


class Core:
    """The store as the servicers see it: its errors are `ServiceError`s, and waiting ends with the drain.

    A watcher more than `watch_backlog` records behind is cut off.
    """

    def __init__(self, store: Store, watch_backlog: int) -> None:
        self.store = store
        self._watch_backlog = watch_backlog
        self._drained = asyncio.Event()
        self._broken = ""

    @property
    def draining(self) -> bool:
        return self._drained.is_set()

    def drain(self) -> None:
        """End every watch and stream; calls that wait for nothing go on."""
        self._drained.set()

    def check_drain(self) -> None:
        """For whatever goes on without end, before each step.

        Raises:
            ServiceError: UNAVAILABLE when the server drains.
        """
        if self.draining:
            raise ServiceError(StatusCode.UNAVAILABLE, "the server is shutting down")

    def report_broken(self, why: str) -> None:
        """Be unhealthy from now on."""
        self._broken = why

    async def run(self, work: Callable[[Transaction], T]) -> T:
        try:
            return await self.store.run(work)
        except StoreFullError as error:
            raise ServiceError(StatusCode.RESOURCE_EXHAUSTED, str(error)) from error
        except StoreUnavailableError as error:
            raise ServiceError(StatusCode.UNAVAILABLE, str(error)) from error

    async def wait(self, topic: str, since_revision: int, timeout: float | None) -> None:
        """Wait for a change of `topic` after `since_revision`, `timeout` seconds at most.

        Raises:
            ServiceError: UNAVAILABLE when the server drains or the store is closed.
        """
        changed = asyncio.ensure_future(self.store.changed(topic, since_revision, timeout))
        drained = asyncio.ensure_future(self._drained.wait())
        try:
            await asyncio.wait((changed, drained), return_when=asyncio.FIRST_COMPLETED)
            self.check_drain()
            changed.result()
        except StoreUnavailableError as error:
            raise ServiceError(StatusCode.UNAVAILABLE, str(error)) from error
        finally:
            changed.cancel()
            drained.cancel()

    async def read_log(self, log: Log, from_revision: int, limit: int) -> LogPage:
        """Read on from a revision that a caller asked for; 0 is the next one to come.

        Raises:
            ServiceError: OUT_OF_RANGE when it is compacted or in the future.
        """
        page = await self._read(log, from_revision or NEVER_NS, limit)
        if from_revision > page.revision + 1:
            problem = f"from_revision: {from_revision} is in the future, the newest is {page.revision}"
            raise ServiceError(StatusCode.OUT_OF_RANGE, problem)
        if from_revision and from_revision < page.first:
            problem = f"from_revision: {from_revision} is compacted, the oldest kept is {page.first}"
            raise ServiceError(StatusCode.OUT_OF_RANGE, problem)
        return page

    async def watch(self, log: Log, from_revision: int, context: Context) -> AsyncIterator[Record]:
        """Yield every record of `log` from `from_revision` on (0: from now on), once and in order.

        Raises:
            ServiceError: OUT_OF_RANGE as `read_log`; RESOURCE_EXHAUSTED when the watcher is too slow.
        """
        page = await self.read_log(log, from_revision, 0)
        position = from_revision or page.revision + 1
        await context.send_initial_metadata(((REVISION_KEY, str(page.revision)),))
        allowed = self._watch_backlog
        if from_revision:
            allowed = max(allowed, page.lag)
        while True:
            self.check_drain()
            page = await self._read(log, position, _WATCH_BATCH)
            if page.lag > allowed or position < page.first:
                problem = f"too slow: {page.lag} updates behind; resume from revision {position}"
                raise ServiceError(StatusCode.RESOURCE_EXHAUSTED, problem)
            # One that resumes far back may be as far behind as it was, but no farther.
            allowed = max(self._watch_backlog, page.lag)
            for record in page.records:
                yield record
                position = record.revision + 1
            if page.records:
                # A filter may let none of them through, and nothing else here need ever wait.
                await asyncio.sleep(0)
            else:
                await self.wait(log.value, position - 1, None)

    async def _read(self, log: Log, from_revision: int, limit: int) -> LogPage:
        try:
            return await self.store.read_log(log, from_revision, limit)
        except StoreUnavailableError as error:
            raise ServiceError(StatusCode.UNAVAILABLE, str(error)) from error

    async def health(self) -> tuple[bool, str]:
        """Return whether calls can be served, and if not, why."""
        if self.draining:
            return False, "the server is shutting down"
        if self._broken:
            return False, self._broken
        try:
            await self.run(lambda transaction: transaction.moment)
        except ServiceError as error:
            return False, error.details
        return True, ""


def answers(
    method: Callable[[S, Request, Context], Awaitable[Response]],
) -> Callable[[S, Request, Context], Awaitable[Response]]:
    """Turn a `ServiceError` of a unary method into its status."""

    @functools.wraps(method)
    async def answer(self: S, request: Request, context: Context) -> Response:
        try:
            return await method(self, request, context)
        except ServiceError as error:
            await context.abort(error.code, error.details)

    return answer


def streams(
    method: Callable[[S, Request, Context], AsyncIterator[Response]],
) -> Callable[[S, Request, Context], AsyncIterator[Response]]:
    """Turn a `ServiceError` of a server-streaming method into its status."""

    @functools.wraps(method)
    async def stream(self: S, request: Request, context: Context) -> AsyncIterator[Response]:
        try:
            async for response in method(self, request, context):
                yield response
        except ServiceError as error:
            await context.abort(error.code, error.details)

    return stream
