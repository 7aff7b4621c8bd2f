"""What a step holds its results against. Nothing here waits for time to pass, only for things to happen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

from tai_grpc.errors import TaiGrpcError
from tai_grpc.status import CallError, StatusCode
from tai_grpc.tai import Receipt

T = TypeVar("T")

PATIENCE: Final = 30.0
"""Seconds after which what has not happened is taken to have failed."""


class StepFailedError(TaiGrpcError):
    """A step did not hold: says what was expected and what was seen."""


def expect(what: str, expected: object, seen: object) -> None:
    """Hold what was seen against what was expected."""
    if seen != expected:
        raise StepFailedError(f"{what}: expected {expected}, saw {seen}")


class News:
    """Lets coroutines wait until something is true; it is looked at again at each `tell`."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def tell(self) -> None:
        """Something may have become true."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def until(
        self, true: Callable[[], bool], what: str, seen: Callable[[], object], seconds: float = PATIENCE
    ) -> None:
        """Wait until `true()`, at most `seconds`; `what` says in words what is waited for."""
        try:
            async with asyncio.timeout(seconds):
                while not true():
                    await self._changed.wait()
        except TimeoutError:
            raise StepFailedError(f"{what}: expected within {seconds:g} s, saw {seen()}") from None


class Watch(Generic[T]):
    """Reads a stream from entry to exit, and keeps what it brought."""

    def __init__(self, stream: AsyncIterable[T]) -> None:
        self.items: list[T] = []
        self._stream = stream
        self._news = News()
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._reading = asyncio.create_task(self._read())
        self._reading.add_done_callback(lambda _: self._news.tell())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reading is not None:
            self._reading.cancel()
            with suppress(asyncio.CancelledError):
                await self._reading

    async def _read(self) -> None:
        async for item in self._stream:
            self.items.append(item)
            self._news.tell()

    async def until(self, true: Callable[[], bool], what: str, seen: Callable[[], object]) -> None:
        """Wait until `true()`; the stream's own failure is raised."""
        await self._news.until(lambda: true() or self._ended(), what, seen)
        if not true():
            raise StepFailedError(f"{what}: expected from a stream that ended, saw {seen()}")

    def _ended(self) -> bool:
        if self._reading is None or not self._reading.done():
            return False
        self._reading.result()
        return True


class Receipts:
    """Checks receipts and counts them."""

    def __init__(self) -> None:
        self.count = 0

    def take(self, receipt: Receipt, operation: str, subject_id: str) -> Receipt:
        """Return the receipt, which must be that of this operation ("Service/Method") on this subject."""
        expect("the receipt's operation", f"tai.v1.{operation}", receipt.operation)
        expect(f"the subject of the receipt of {operation}", subject_id, receipt.subject_id)
        if not (receipt.id and receipt.revision > 0 and len(receipt.digest) == 64):
            raise StepFailedError(
                f"the receipt of {operation}: expected an id, a revision and a SHA-256, saw {receipt}"
            )
        self.count += 1
        return receipt


async def stands(stream: Any, what: str) -> int:
    """Wait until the server has said that a stream stands; return the store's revision that it begins at."""
    metadata = await stream.initial_metadata()
    if "tai-revision" not in metadata:
        seen = f"{(await stream.code()).name}: {await stream.details()}"
        expect(f"{what}'s initial metadata", "tai-revision", seen)
    return int(metadata["tai-revision"])


async def refused(what: str, code: StatusCode, call: Awaitable[object]) -> None:
    """Wait for a call that must fail with `code`."""
    try:
        answer = await call
    except CallError as error:
        expect(what, code.name, error.code().name)
    else:
        raise StepFailedError(f"{what}: expected {code.name}, saw the answer {answer}")
