"""The event loop that programs run on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_new_loop: Callable[[], asyncio.AbstractEventLoop] | None
try:
    from uvloop import new_event_loop as _new_loop
except ImportError:  # there is none on Windows
    _new_loop = None


def make_runner() -> asyncio.Runner:
    """Return a runner on uvloop where there is one, else on asyncio's own loop."""
    return asyncio.Runner(loop_factory=_new_loop)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end on such a loop; Ctrl-C cancels it."""
    with make_runner() as runner:
        return runner.run(main)
