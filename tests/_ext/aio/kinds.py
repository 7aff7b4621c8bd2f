"""The two kinds of task that the tests run side by side, and what they run in them."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from tai_grpc._ext.aio.task import CallTask

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Reports = list[dict[str, Any]]

EAGER = sys.version_info >= (3, 12)
VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="outside")


@dataclass(frozen=True)
class Kind:
    name: str
    make: Callable[..., asyncio.Task[Any]]
    """Arguments: the coroutine, name=, context=, loop=; the loop is the running one unless it is given."""
    eager: bool

    def __call__(self, coro: Any, **arguments: Any) -> asyncio.Task[Any]:
        return self.make(coro, **arguments)

    async def begun(self) -> None:
        """Let tasks take their first step, if making them did not."""
        if not self.eager:
            await turn()


def make_asyncio(coro: Any, **arguments: Any) -> asyncio.Task[Any]:
    arguments.setdefault("loop", None)
    if arguments["loop"] is None:
        arguments["loop"] = asyncio.get_running_loop()
    if EAGER:
        arguments["eager_start"] = True
    return asyncio.Task(coro, **arguments)


def make_ours(coro: Any, **arguments: Any) -> Any:
    return CallTask(coro, **arguments)


THEIRS = Kind("asyncio.Task", make_asyncio, EAGER)
OURS = Kind("CallTask", make_ours, eager=True)


async def turn(turns: int = 1) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


async def forever() -> None:
    await asyncio.get_running_loop().create_future()
