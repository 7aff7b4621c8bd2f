"""Loops that differ in one statement, so that what it costs can be told from what the loop costs."""

import asyncio
import gc
import inspect
import sys
from collections.abc import Callable, Coroutine, Mapping
from itertools import repeat
from textwrap import indent
from time import perf_counter, perf_counter_ns

Loop = Callable[[], int]
"""Runs its statement many times and returns how many nanoseconds that took."""


def settle() -> None:
    """Leave what there is to no collection: those to come are of what the calls leave, and are theirs."""
    gc.collect()
    gc.freeze()


def looped(
    statement: str, names: dict[str, object], calls: int, runner: asyncio.Runner | None = None
) -> Loop:
    """A loop that runs `statement` `calls` times with `names` as its local variables.

    A statement that awaits needs a `runner`; the time begins and ends inside its event loop.
    """
    namespace: dict[str, object] = {"repeat": repeat, "now": perf_counter_ns}
    namespace |= {f"_{name}": value for name, value in names.items()}
    lines = [
        f"{'async ' if runner else ''}def loop({', '.join(f'{name}=_{name}' for name in names)}):",
        " start = now()",
        f" for _ in repeat(None, {calls}):",
        indent(statement, "  "),
        " return now() - start",
    ]
    exec("\n".join(lines), namespace)
    loop = namespace["loop"]
    assert inspect.isfunction(loop)
    if runner is None:
        return loop

    def run() -> int:
        coroutine: Coroutine[object, object, int] = loop()
        return runner.run(coroutine)

    return run


def least_of(loops: Mapping[str, Loop], seconds: float, rounds: int) -> dict[str, int]:
    """Run all in turns for so long, so many times at least, and return the least that each has taken."""
    least = dict.fromkeys(loops, sys.maxsize)
    end, done = perf_counter() + seconds, 0
    while done < rounds or perf_counter() < end:
        for name, run in loops.items():
            least[name] = min(least[name], run())
        done += 1
    return least
