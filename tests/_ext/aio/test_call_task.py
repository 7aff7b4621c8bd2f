"""What CallTask has beyond asyncio's Task: compiled code begins it, hears of its end, sets its deadline."""

from __future__ import annotations

import asyncio
import contextvars
import gc
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tai_grpc._ext.aio.task import CallTask
from tai_grpc._ext.aio.timers import timers_of
from tai_grpc._ext.primitives.clock import FrozenClock

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Told = list[tuple[Any, ...]]


async def works(turns: int, outcome: object = "worked") -> object:
    for _ in range(turns):
        await asyncio.sleep(0)
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


def monotonic_ns() -> int:
    """What the primitives' clock says."""
    with FrozenClock() as clock:
        return clock.now_ns


@pytest.mark.parametrize("turns", [0, 2])
def test_finished_is_called_once_and_at_once(run: Run, derived: Any, turns: int) -> None:
    """In the step in which the coroutine ends, before anything else of the loop and before done-callbacks."""
    told: Told = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        error = ValueError("no")
        for outcome, end in (
            ("worked", ("finished", "worked", None)),
            (error, ("finished", None, error)),
            (asyncio.CancelledError(), ("cancelled", None, None)),
        ):
            call = derived.call(works(turns, outcome), loop, lambda *end: told.append(end))
            call.add_done_callback(lambda _: told.append(("callback",)))
            assert (told == [end]) == (turns == 0)
            await asyncio.wait([call])
            await asyncio.sleep(0)
            assert told == [end, ("callback",)]
            told.clear()
            assert call.cancelled() or call.exception() in (None, error)

    run(main())


@pytest.mark.parametrize("turns", [0, 2])
def test_when_finished_is_called_the_call_is_no_longer_current(run: Run, derived: Any, turns: int) -> None:
    seen: list[object] = []

    async def main() -> None:
        maker = asyncio.current_task()
        loop = asyncio.get_running_loop()
        call = derived.call(works(turns), loop, lambda *_: seen.append(asyncio.current_task()))
        await call
        assert seen == [maker if turns == 0 else None]

    run(main())


def test_an_error_in_finished_is_reported(run: Run, derived: Any, reports: list[dict[str, Any]]) -> None:
    """The call has ended all the same, and whoever waits for it is told."""
    mistake = ValueError("in finished")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for turns in (0, 2):
            call = derived.call(works(turns), loop, lambda *_: None, mistake=mistake)
            assert await call == "worked"

    run(main())
    assert [report["exception"] for report in reports] == [mistake, mistake]
    assert reports[0]["message"].startswith("Exception at the end of <Call finished ")


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_finished_is_raised(run: Run, derived: Any, interrupt: type[BaseException]) -> None:
    async def main() -> None:
        with pytest.raises(interrupt):
            derived.call(works(0), asyncio.get_running_loop(), lambda *_: None, mistake=interrupt())

    run(main())


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_finished_hears_of_an_interrupt_before_the_maker(
    run: Run, derived: Any, interrupt: type[BaseException]
) -> None:
    told: Told = []

    async def main() -> None:
        with pytest.raises(interrupt):
            derived.call(works(0, interrupt()), asyncio.get_running_loop(), lambda *end: told.append(end))

    run(main())
    assert [(how, type(error)) for how, _, error in told] == [("finished", interrupt)]


@pytest.mark.parametrize("dealt_with", [False, True])
def test_an_error_that_finished_deals_with_is_not_reported_as_never_retrieved(
    run: Run, derived: Any, reports: list[dict[str, Any]], dealt_with: bool
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        derived.call(works(0, ValueError()), loop, lambda *_: None, dealt_with=dealt_with)

    run(main())
    gc.collect()
    assert [report["message"] for report in reports] == (
        [] if dealt_with else ["Call exception was never retrieved"]
    )


def test_it_begins_once(run: Run, derived: Any) -> None:
    async def main() -> None:
        call = derived.call(works(0), asyncio.get_running_loop(), lambda *_: None)
        coro = works(0)
        with pytest.raises(RuntimeError, match="a task begins once"):
            derived.begin_again(call, coro)
        coro.close()

    run(main())


def test_one_that_never_begins_is_no_report(run: Run, derived: Any, reports: list[dict[str, Any]]) -> None:
    """A call that was refused before its handler ran."""

    async def main() -> None:
        call = derived.never_begun()
        assert not call.done()
        del call

    run(main())
    assert reports == []


def test_a_context_of_its_makers(run: Run, derived: Any) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    context = contextvars.copy_context()
    context.run(variable.set, "given")

    async def looks() -> str:
        await asyncio.sleep(0)
        return variable.get()

    async def main() -> None:
        call = derived.call(looks(), asyncio.get_running_loop(), lambda *_: None, context=context)
        assert await call == "given"

    run(main())


def test_compiled_code_cancels_it(run: Run, derived: Any) -> None:
    told: Told = []

    async def main() -> None:
        call = derived.call(forever(), asyncio.get_running_loop(), lambda *end: told.append(end))
        assert derived.cancel(call, "disconnected") == 1
        with pytest.raises(asyncio.CancelledError, match="disconnected"):
            await call
        assert derived.cancel(call, "again") == 0

    run(main())
    assert told == [("cancelled", None, None)]


def test_its_deadline_cancels_it(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        timers = timers_of(loop)
        call = CallTask(forever(), loop)
        timers.arm(call, monotonic_ns() + 2_000_000)
        assert (call.armed, len(timers)) == (True, 1)
        with pytest.raises(asyncio.CancelledError):
            await call
        assert monotonic_ns() >= call.deadline_ns
        assert (call.armed, len(timers)) == (False, 0)

    run(main())


def test_a_deadline_after_the_end_is_nothing(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        timers = timers_of(loop)
        call = CallTask(works(0), loop)
        timers.arm(call, 0)
        while len(timers):  # noqa: ASYNC110  # turn by turn, until nothing is armed
            await asyncio.sleep(0)
        assert call.result() == "worked"

    run(main())


def test_arming_in_compiled_code(run: Run, derived: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        calls = [CallTask(works(0), loop) for _ in range(10)]
        assert derived.arm_and_disarm(loop, calls, monotonic_ns() + 10**12, 1000) == 0

    run(main())
