"""What a handler may expect of the task that it runs in: asyncio.Task and CallTask side by side.

One body of tests for both, on asyncio's loop and on uvloop. asyncio.Task is eager where Python has that (3.12);
where the two differ on purpose, a test says so.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import io
import sys
import types
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

import pytest
import uvloop

from tai_grpc._ext.aio.task import CallTask
from tai_grpc._ext.primitives.breaker import CircuitBreaker

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


@pytest.fixture(params=[THEIRS, OURS], ids=lambda kind: kind.name)
def task(request: pytest.FixtureRequest) -> Kind:
    kind: Kind = request.param
    return kind


async def turn(turns: int = 1) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


class TestResult:
    def test_returned(self, run: Run, task: Kind) -> None:
        async def returns() -> str:
            await turn()
            return "returned"

        async def main() -> None:
            made = task(returns())
            assert not made.done()
            with pytest.raises(asyncio.InvalidStateError, match="Result is not set"):
                made.result()
            with pytest.raises(asyncio.InvalidStateError, match="Exception is not set"):
                made.exception()
            assert await made == "returned"
            assert made.done()
            assert not made.cancelled()
            assert (made.result(), made.exception(), await made) == ("returned", None, "returned")

        run(main())

    def test_returned_at_once(self, run: Run, task: Kind) -> None:
        async def returns() -> str:
            return "returned"

        async def main() -> None:
            made = task(returns())
            assert made.done() == task.eager
            assert await made == "returned"

        run(main())

    @pytest.mark.parametrize("turns", [0, 1])
    def test_raised(self, run: Run, task: Kind, turns: int) -> None:
        error = ValueError("raised")

        async def raises() -> None:
            await turn(turns)
            raise error

        async def main() -> None:
            made = task(raises())
            with pytest.raises(ValueError, match="raised") as caught:
                await made
            assert caught.value is error
            assert made.exception() is error
            assert not made.cancelled()

        run(main())

    def test_asking_again_does_not_make_the_traceback_longer(self, run: Run, task: Kind) -> None:
        async def raises() -> None:
            raise ValueError

        def depth(made: asyncio.Task[Any]) -> int:
            with pytest.raises(ValueError) as caught:
                made.result()
            return len(caught.traceback)

        async def main() -> None:
            made = task(raises())
            await asyncio.wait([made])
            first = depth(made)
            assert depth(made) <= first

        run(main())

    def test_a_stop_iteration_is_an_error_and_not_a_result(self, run: Run, task: Kind) -> None:
        async def raises() -> None:
            await turn()
            raise StopIteration("no result")

        async def main() -> None:
            with pytest.raises(RuntimeError, match="raised StopIteration"):
                await task(raises())

        run(main())

    @pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
    def test_an_interrupt_in_a_later_step_ends_the_loop(
        self, runner: asyncio.Runner, task: Kind, interrupt: type[BaseException]
    ) -> None:
        made: list[asyncio.Task[Any]] = []

        async def raises() -> None:
            await turn(2)
            raise interrupt

        async def main() -> None:
            made.append(task(raises()))
            await forever()

        loop = runner.get_loop()
        with pytest.raises(interrupt):
            loop.run_until_complete(main())
        assert isinstance(made[0].exception(), interrupt)

    @pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
    def test_an_interrupt_in_the_first_step_is_raised_to_the_maker(
        self, run: Run, interrupt: type[BaseException]
    ) -> None:
        """As with eager_start; without it the loop is where it comes out."""

        async def raises() -> None:
            raise interrupt

        async def main(kind: Kind) -> None:
            with pytest.raises(interrupt):
                kind(raises())
            assert asyncio.current_task() is not None

        for kind in (THEIRS, OURS) if EAGER else (OURS,):
            run(main(kind))

    def test_it_cannot_be_set(self, run: Run, task: Kind) -> None:
        async def main() -> None:
            made = task(turn())
            with pytest.raises(RuntimeError, match="Task does not support set_result operation"):
                made.set_result(None)  # type: ignore[attr-defined]
            with pytest.raises(RuntimeError, match="Task does not support set_exception operation"):
                made.set_exception(ValueError())  # type: ignore[attr-defined]
            await made

        run(main())

    def test_many_wait_for_one(self, run: Run, task: Kind) -> None:
        async def main() -> None:
            done = asyncio.get_running_loop().create_future()

            async def returns() -> object:
                return await done

            async def waits() -> object:
                return await made

            made = task(returns())
            waiting = [task(waits()) for _ in range(3)] + [asyncio.create_task(waits())]
            await turn()
            done.set_result("one")
            assert await asyncio.gather(*waiting) == ["one"] * 4

        run(main())


class TestCurrentTask:
    def test_it_is_current_at_each_step_and_never_after(self, run: Run, task: Kind) -> None:
        seen: list[asyncio.Task[Any] | None] = []

        async def looks() -> None:
            for _ in range(3):
                seen.append(asyncio.current_task())
                await turn()

        async def main() -> None:
            maker = asyncio.current_task()
            made = task(looks())
            assert asyncio.current_task() is maker
            at_callback: list[asyncio.Task[Any] | None] = []
            made.add_done_callback(lambda _: at_callback.append(asyncio.current_task()))
            await made
            assert asyncio.current_task() is maker
            await turn()
            assert seen == [made] * 3
            assert at_callback == [None]

        run(main())

    def test_a_maker_without_a_task(self, run: Run, task: Kind) -> None:
        """A protocol's callback, which is where a server begins its calls, is in no task, before and after."""

        async def main() -> None:
            loop = asyncio.get_running_loop()
            seen: list[asyncio.Task[Any] | None] = []
            ended = loop.create_future()

            async def looks() -> None:
                seen.append(asyncio.current_task())
                await turn()
                seen.append(asyncio.current_task())

            def received() -> None:
                seen.append(asyncio.current_task())
                made = task(looks())
                seen.append(asyncio.current_task())
                made.add_done_callback(ended.set_result)

            loop.call_soon(received)
            made = await ended
            assert sorted(seen, key=lambda which: which is made) == [None, None, made, made]

        run(main())

    def test_two_interleave(self, run: Run, task: Kind) -> None:
        trace: list[tuple[str, bool]] = []
        tasks: dict[str, asyncio.Task[Any]] = {}

        async def steps(name: str) -> None:
            await turn()
            for _ in range(3):
                trace.append((name, asyncio.current_task() is tasks[name]))
                await turn()

        async def main() -> None:
            for name in "ab":
                tasks[name] = task(steps(name))
            await asyncio.wait(tasks.values())

        run(main())
        assert trace == [("a", True), ("b", True)] * 3

    def test_tasks_made_in_first_steps(self, run: Run, task: Kind) -> None:
        """Each is current in its own step and its maker after that, however deep."""
        made: dict[int, asyncio.Task[Any]] = {}

        async def nest(depth: int) -> int:
            me = asyncio.current_task()
            if depth == 0:
                return 0
            made[depth] = task(nest(depth - 1))
            assert asyncio.current_task() is me
            below: int = await made[depth]
            assert asyncio.current_task() is me
            return below + 1

        async def main() -> None:
            assert await task(nest(50)) == 50

        run(main())

    def test_too_deep_is_a_recursion_error(self, run: Run) -> None:
        """And not the end of the process. A task that is not eager has no depth."""

        begun: list[Coroutine[Any, Any, None]] = []

        async def nest() -> None:
            begun.append(nest())
            await OURS(begun[-1])

        async def main() -> None:
            with pytest.raises(RecursionError):
                await OURS(nest())
            assert len(begun) > 50
            for coro in begun:  # not where they are refused: there is no depth left to do it in
                coro.close()

        run(main())

    def test_a_step_of_one_that_ends_another(self, run: Run, task: Kind) -> None:
        """What is done to others from within a step does not change whose step it is."""

        async def main() -> None:
            other = task(forever())

            async def ends_it() -> None:
                other.cancel()
                assert asyncio.current_task() is made
                await asyncio.wait([other])
                assert asyncio.current_task() is made

            await turn()
            made = task(turn())
            await made
            made = task(begin(ends_it))
            await made
            assert other.cancelled()

        async def begin(then: Callable[[], Awaitable[None]]) -> None:
            await turn()
            await then()

        run(main())


class TestCancel:
    def test_while_it_waits_for_a_future(self, run: Run, task: Kind) -> None:
        async def main() -> None:
            future = asyncio.get_running_loop().create_future()

            async def waits() -> None:
                await future

            made = task(waits())
            await turn()
            assert made.cancel("why")
            assert future.cancelled()
            assert not made.cancelled()
            assert made.cancelling() == 1
            with pytest.raises(asyncio.CancelledError, match="why"):
                await made
            assert made.cancelled()
            assert made.done()
            with pytest.raises(asyncio.CancelledError):
                made.result()
            with pytest.raises(asyncio.CancelledError):
                made.exception()

        run(main())

    def test_between_two_turns(self, run: Run, task: Kind) -> None:
        async def main() -> None:
            made = task(turn(10))
            await turn()
            assert made.cancel("why")
            with pytest.raises(asyncio.CancelledError, match="why"):
                await made

        run(main())

    def test_right_after_it_was_made(self, run: Run, task: Kind) -> None:
        began: list[str] = []

        async def waits() -> None:
            began.append("began")
            await forever()

        async def main() -> None:
            made = task(waits())
            assert made.cancel()
            with pytest.raises(asyncio.CancelledError):
                await made

        run(main())
        assert bool(began) == task.eager

    def test_while_it_waits_for_a_task(self, run: Run, task: Kind) -> None:
        """The innermost one is cancelled, and the others end because of it."""

        async def main() -> None:
            inner = task(forever())

            async def waits(other: asyncio.Task[Any]) -> None:
                await other

            middle = task(waits(inner))
            outer = task(waits(middle))
            await turn(2)
            outer.cancel("from outside")
            with pytest.raises(asyncio.CancelledError):
                await outer
            assert inner.cancelled()
            assert middle.cancelled()

        run(main())

    @pytest.mark.parametrize("cancel_first", [False, True])
    def test_in_the_turn_in_which_the_future_is_done(self, run: Run, task: Kind, cancel_first: bool) -> None:
        """Cancelled first, the future cannot be done any more; cancelled second, the result is lost."""

        async def main() -> None:
            future = asyncio.get_running_loop().create_future()
            caught: list[str] = []

            async def waits() -> str:
                try:
                    return str(await future)
                except asyncio.CancelledError as error:
                    caught.append(str(error))
                    raise

            made = task(waits())
            await turn()
            if cancel_first:
                assert made.cancel("why")
                assert future.cancelled()
            else:
                future.set_result("lost")
                assert made.cancel("why")
                assert future.result() == "lost"
            with pytest.raises(asyncio.CancelledError, match="why"):
                await made
            assert caught == ["why"]

        run(main())

    @pytest.mark.parametrize("turns", [0, 1])
    def test_by_itself_before_it_waits(self, run: Run, task: Kind, turns: int) -> None:
        """In the first step and in a later one: what it waits for next is cancelled."""

        async def main() -> None:
            future = asyncio.get_running_loop().create_future()

            async def cancels() -> None:
                await turn(turns)
                me = asyncio.current_task()
                assert me is not None
                me.cancel("myself")
                await future

            made = task(cancels())
            with pytest.raises(asyncio.CancelledError, match="myself"):
                await made
            assert future.cancelled()

        run(main())

    @pytest.mark.parametrize("turns", [0, 1])
    def test_by_itself_before_it_yields(self, run: Run, task: Kind, turns: int) -> None:
        async def cancels() -> None:
            await turn(turns)
            me = asyncio.current_task()
            assert me is not None
            me.cancel("myself")
            await turn()

        async def main() -> None:
            with pytest.raises(asyncio.CancelledError, match="myself"):
                await task(cancels())

        run(main())

    @pytest.mark.parametrize("turns", [0, 1])
    def test_by_itself_before_it_returns(self, run: Run, task: Kind, turns: int) -> None:
        async def cancels() -> str:
            await turn(turns)
            me = asyncio.current_task()
            assert me is not None
            me.cancel("myself")
            return "not returned"

        async def main() -> None:
            made = task(cancels())
            with pytest.raises(asyncio.CancelledError, match="myself"):
                await made
            assert made.cancelled()

        run(main())

    def test_raised_by_itself(self, run: Run, task: Kind) -> None:
        """A handler may end as cancelled without having been asked."""
        error = asyncio.CancelledError("of its own accord")

        async def raises() -> None:
            raise error

        async def main() -> None:
            made = task(raises())
            with pytest.raises(asyncio.CancelledError) as caught:
                await made
            assert caught.value is error
            assert made.cancelled()
            assert made.cancelling() == 0

        run(main())

    def test_one_that_is_done(self, run: Run, task: Kind) -> None:
        async def main() -> None:
            made = task(turn())
            await made
            assert not made.cancel()
            assert made.cancelling() == 0
            assert not made.cancelled()

        run(main())

    def test_one_that_does_not_give_in(self, run: Run, task: Kind) -> None:
        async def main() -> None:
            release = asyncio.get_running_loop().create_future()

            async def resists() -> str:
                for _ in range(2):
                    with suppress(asyncio.CancelledError):
                        await forever()
                await release
                return "still here"

            made = task(resists())
            for request in (1, 2):
                await turn()
                assert made.cancel()
                assert made.cancelling() == request
            await turn()
            release.set_result(None)
            assert await made == "still here"
            assert not made.cancelled()
            assert made.cancelling() == 2

        run(main())

    def test_an_error_instead_of_giving_in(self, run: Run, task: Kind) -> None:
        async def fails() -> None:
            try:
                await forever()
            finally:
                raise ValueError("instead")

        async def main() -> None:
            made = task(fails())
            await turn()
            made.cancel()
            with pytest.raises(ValueError, match="instead") as caught:
                await made
            assert isinstance(caught.value.__context__, asyncio.CancelledError)

        run(main())

    def test_cleaning_up_may_wait(self, run: Run, task: Kind) -> None:
        cleaned: list[str] = []

        async def waits() -> None:
            try:
                await forever()
            finally:
                await turn(3)
                cleaned.append("up")

        async def main() -> None:
            made = task(waits())
            await turn()
            made.cancel()
            await asyncio.wait([made])
            assert made.cancelled()

        run(main())
        assert cleaned == ["up"]

    def test_uncancel_counts_down_to_zero(self, run: Run, task: Kind) -> None:
        async def resists() -> None:
            with suppress(asyncio.CancelledError):
                await forever()
            await turn()

        async def main() -> None:
            made = task(resists())
            await turn()
            assert made.uncancel() == 0
            made.cancel()
            made.cancel()
            assert made.cancelling() == 2
            assert made.uncancel() == 1
            assert made.uncancel() == 0
            assert made.uncancel() == 0
            await made

        run(main())

    def test_a_request_taken_back_before_it_is_delivered(self, run: Run, task: Kind) -> None:
        """Since Python 3.13 that is no request."""

        async def takes_back() -> str:
            me = asyncio.current_task()
            assert me is not None
            me.cancel()
            me.uncancel()
            await turn()
            return "not cancelled"

        async def main() -> None:
            made = task(takes_back())
            await asyncio.wait([made])
            assert made.cancelled() == (sys.version_info < (3, 13))

        run(main())


class TestStructures:
    """What asyncio builds on tasks, used in a task and on tasks."""

    def test_a_timeout_in_it(self, run: Run, task: Kind) -> None:
        async def waits() -> str:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await forever()
            me = asyncio.current_task()
            assert me is not None
            assert me.cancelling() == 0
            return "went on"

        async def main() -> None:
            assert await task(waits()) == "went on"

        run(main())

    @pytest.mark.parametrize("shorter", ["inner", "outer"])
    def test_timeouts_in_each_other(self, run: Run, task: Kind, shorter: str) -> None:
        async def waits() -> list[str]:
            expired = []
            try:
                async with asyncio.timeout(0.001 if shorter == "outer" else 60) as outer:
                    try:
                        async with asyncio.timeout(0.001 if shorter == "inner" else 60) as inner:
                            await forever()
                    except TimeoutError:
                        assert inner.expired()
                        expired.append("inner")
            except TimeoutError:
                assert outer.expired()
                expired.append("outer")
            return expired

        async def main() -> None:
            assert await task(waits()) == [shorter]

        run(main())

    def test_a_timeout_and_a_cancellation_at_once(self, run: Run, task: Kind) -> None:
        """Whoever cancelled from outside wins: it is no TimeoutError."""

        async def main() -> None:
            inside = asyncio.get_running_loop().create_future()

            async def waits() -> None:
                async with asyncio.timeout(60) as timeout:
                    inside.set_result(timeout)
                    await forever()

            made = task(waits())
            timeout = await inside
            timeout.reschedule(asyncio.get_running_loop().time() - 1)
            while not timeout.expired() and not made.done() and made.cancelling() == 0:
                await turn()
            made.cancel("from outside")
            await asyncio.wait([made])
            assert made.cancelled()

        run(main())

    def test_a_group_of_tasks_in_it(self, run: Run, task: Kind) -> None:
        async def doubles(number: int) -> int:
            await turn()
            return number * 2

        async def groups() -> list[int]:
            async with asyncio.TaskGroup() as group:
                children = [group.create_task(doubles(number)) for number in range(3)]
            return [child.result() for child in children]

        async def main() -> None:
            assert await task(groups()) == [0, 2, 4]

        run(main())

    def test_a_group_with_a_child_that_fails(self, run: Run, task: Kind) -> None:
        """The body and the other children are cancelled, and the task itself is not marked by that."""
        cancelled: list[str] = []

        async def fails() -> None:
            await turn()
            raise ValueError("child")

        async def waits(name: str) -> None:
            try:
                await forever()
            except asyncio.CancelledError:
                cancelled.append(name)
                raise

        async def groups() -> str:
            with pytest.raises(ExceptionGroup) as caught:
                async with asyncio.TaskGroup() as group:
                    group.create_task(waits("child"))
                    group.create_task(fails())
                    await waits("body")
            assert [str(error) for error in caught.value.exceptions] == ["child"]
            me = asyncio.current_task()
            assert me is not None
            assert me.cancelling() == 0
            await turn()
            return "went on"

        async def main() -> None:
            assert await task(groups()) == "went on"

        run(main())
        assert sorted(cancelled) == ["body", "child"]

    def test_a_group_in_one_that_is_cancelled(self, run: Run, task: Kind) -> None:
        ended: list[str] = []

        async def child() -> None:
            try:
                await forever()
            finally:
                ended.append("child")

        async def groups() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(child())
                group.create_task(child())

        async def main() -> None:
            made = task(groups())
            await turn(2)
            made.cancel("from outside")
            with pytest.raises(asyncio.CancelledError):
                await made
            assert made.cancelling() == 1

        run(main())
        assert ended == ["child", "child"]

    def test_a_group_whose_children_are_of_its_kind(self, runner: asyncio.Runner, task: Kind) -> None:
        """A loop's task factory may make them."""

        def factory(loop: asyncio.AbstractEventLoop, coro: Any, **arguments: Any) -> asyncio.Task[Any]:
            arguments.pop("eager_start", None)
            return task(coro, loop=loop, **arguments)

        async def fails() -> None:
            await turn()
            raise ValueError

        async def main() -> str:
            assert asyncio.current_task() is not None
            with pytest.raises(ExceptionGroup):
                async with asyncio.TaskGroup() as group:
                    children = [group.create_task(forever()), group.create_task(turn())]
                    group.create_task(fails(), name="named")
            assert [child.cancelled() for child in children] == [True, False]
            return "ran"

        runner.get_loop().set_task_factory(factory)
        assert runner.run(main()) == "ran"

    def test_shield(self, run: Run, task: Kind) -> None:
        async def main() -> None:
            release = asyncio.get_running_loop().create_future()

            async def works() -> str:
                await release
                return "worked"

            work = task(works())

            async def waits() -> object:
                return await asyncio.shield(work)

            made = task(waits())
            await turn(2)
            made.cancel()
            with pytest.raises(asyncio.CancelledError):
                await made
            assert not work.done()
            release.set_result(None)
            assert await work == "worked"

        run(main())

    def test_wait_for(self, run: Run, task: Kind) -> None:
        async def returns() -> str:
            await turn()
            return "in time"

        async def waits() -> None:
            assert await asyncio.wait_for(task(returns()), 60) == "in time"
            late = task(forever())
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(late, 0.001)
            assert late.cancelled()

        async def main() -> None:
            await task(waits())

        run(main())

    def test_gather(self, run: Run, task: Kind) -> None:
        async def returns(value: int) -> int:
            await turn(value)
            return value

        async def fails() -> None:
            await turn()
            raise ValueError

        async def main() -> None:
            assert await asyncio.gather(*[task(returns(value)) for value in range(3)]) == [0, 1, 2]
            assert await task(gathers()) == [2, ValueError]
            both = [task(forever()), task(forever())]
            gathered = asyncio.gather(*both)
            await turn()
            gathered.cancel()
            with pytest.raises(asyncio.CancelledError):
                await gathered
            assert all(made.cancelled() for made in both)

        async def gathers() -> list[object]:
            value, error = await asyncio.gather(task(returns(2)), task(fails()), return_exceptions=True)
            return [value, type(error)]

        run(main())

    def test_wait_and_as_completed(self, run: Run, task: Kind) -> None:
        async def returns(turns: int) -> int:
            await turn(turns)
            return turns

        async def main() -> None:
            never = task(forever())
            done, pending = await asyncio.wait([task(returns(1)), never], return_when=asyncio.FIRST_COMPLETED)
            assert ([made.result() for made in done], pending) == ([1], {never})
            done, pending = await asyncio.wait([never], timeout=0.001)
            assert (done, pending) == (set(), {never})
            never.cancel()
            await asyncio.wait([never])
            completed = [await next_ for next_ in asyncio.as_completed([task(returns(n)) for n in (3, 1)])]
            assert completed == [1, 3]

        run(main())

    def test_locks_queues_and_events(self, run: Run, task: Kind) -> None:
        async def main() -> None:
            queue: asyncio.Queue[int] = asyncio.Queue(maxsize=1)
            lock, event = asyncio.Lock(), asyncio.Event()
            got: list[int] = []

            async def puts() -> None:
                for number in range(5):
                    await queue.put(number)

            async def gets() -> None:
                while len(got) < 5:
                    async with lock:
                        got.append(await queue.get())
                event.set()

            async def waits() -> None:
                async with asyncio.timeout(60):
                    await event.wait()

            await asyncio.gather(task(puts()), task(gets()), task(waits()))
            assert got == [0, 1, 2, 3, 4]

        run(main())

    def test_an_executor(self, run: Run, task: Kind) -> None:
        """Plain functions run in threads, in a copy of the task's context."""

        async def asks() -> str:
            VARIABLE.set("task")
            return await asyncio.to_thread(VARIABLE.get)

        async def main() -> None:
            assert await task(asks()) == "task"

        run(main())

    def test_asynchronous_generators(self, run: Run, task: Kind) -> None:
        closed: list[asyncio.Task[Any] | None] = []

        async def numbers() -> AsyncIterator[int]:
            try:
                for number in range(10):
                    yield number
                    await turn()
            finally:
                await turn()
                closed.append(asyncio.current_task())

        async def iterates() -> list[int]:
            taken = []
            async with aclosing(numbers()) as iterator:  # type: ignore[type-var]
                async for number in iterator:
                    taken.append(number)
                    if number == 3:
                        break
            return taken

        async def main() -> None:
            made = task(iterates())
            assert await made == [0, 1, 2, 3]
            assert closed == [made]

        run(main())

    def test_a_generator_left_open_is_closed_by_the_loop(self, run: Run, task: Kind) -> None:
        closed: list[str] = []

        async def numbers() -> AsyncIterator[int]:
            try:
                yield 1
                yield 2
            finally:
                closed.append("closed")

        async def iterates() -> None:
            iterator = numbers()
            assert await anext(iterator) == 1

        async def main() -> None:
            await task(iterates())
            gc.collect()
            await turn(2)

        run(main())
        assert closed == ["closed"]


class TestContext:
    def test_each_has_a_copy_of_its_makers(self, run: Run, task: Kind) -> None:
        seen: dict[str, list[str]] = {"a": [], "b": []}

        async def changes(name: str) -> None:
            seen[name].append(VARIABLE.get())
            VARIABLE.set(name)
            for _ in range(2):
                await turn()
                seen[name].append(VARIABLE.get())

        async def main() -> None:
            VARIABLE.set("maker")
            both = [task(changes("a")), task(changes("b"))]
            assert VARIABLE.get() == "maker"
            await asyncio.wait(both)
            assert VARIABLE.get() == "maker"

        run(main())
        assert seen == {"a": ["maker", "a", "a"], "b": ["maker", "b", "b"]}

    def test_one_that_is_given(self, run: Run, task: Kind) -> None:
        context = contextvars.copy_context()

        async def changes() -> None:
            VARIABLE.set("first")
            await turn()
            assert VARIABLE.get() == "first"
            VARIABLE.set("second")

        async def main() -> None:
            made = task(changes(), context=context)
            await made
            if task is OURS or EAGER:
                assert made.get_context() is context  # type: ignore[attr-defined,unused-ignore]
            assert VARIABLE.get() == "outside"

        run(main())
        assert context[VARIABLE] == "second"

    def test_one_that_is_entered_already(self, run: Run) -> None:
        """The first step cannot run in it, now; the maker is told and remains the current task."""

        async def main(kind: Kind) -> None:
            maker = asyncio.current_task()
            coro = turn()
            context = contextvars.copy_context()

            def makes() -> None:
                with pytest.raises(RuntimeError, match="is already entered"):
                    kind(coro, context=context)

            context.run(makes)
            assert asyncio.current_task() is maker
            coro.close()

        for kind in (THEIRS, OURS) if EAGER else (OURS,):
            run(main(kind))

    def test_of_callbacks(self, run: Run, task: Kind) -> None:
        async def main() -> None:
            context = contextvars.copy_context()
            context.run(VARIABLE.set, "given")
            seen: list[str] = []
            VARIABLE.set("adder")
            made = task(turn())
            made.add_done_callback(lambda _: seen.append(VARIABLE.get()))
            made.add_done_callback(lambda _: seen.append(VARIABLE.get()), context=context)
            VARIABLE.set("later")
            await made
            await turn()
            assert seen == ["adder", "given"]

        run(main())


class TestCallbacks:
    def test_in_order_and_a_turn_later(self, run: Run, task: Kind) -> None:
        async def main() -> None:
            called: list[object] = []
            made = task(turn())
            made.add_done_callback(lambda done: called.append(("first", done)))
            made.add_done_callback(lambda done: called.append(("second", done)))
            await made
            await turn()
            assert called == [("first", made), ("second", made)]
            made.add_done_callback(lambda _: called.append("late"))
            assert len(called) == 2
            await turn()
            assert called[2:] == ["late"]

        run(main())

    def test_removed(self, run: Run, task: Kind) -> None:
        async def main() -> None:
            called: list[str] = []

            def unwanted(_: object) -> None:
                called.append("unwanted")

            made = task(turn())
            made.add_done_callback(unwanted)
            made.add_done_callback(lambda _: called.append("wanted"))
            made.add_done_callback(unwanted)
            assert made.remove_done_callback(unwanted) == 2
            assert made.remove_done_callback(unwanted) == 0
            await made
            await turn()
            assert called == ["wanted"]
            assert made.remove_done_callback(unwanted) == 0

        run(main())

    def test_one_that_fails_is_reported(self, run: Run, task: Kind, reports: Reports) -> None:
        called: list[str] = []

        def fails(_: object) -> None:
            raise ValueError("callback")

        async def main() -> None:
            made = task(turn())
            made.add_done_callback(fails)
            made.add_done_callback(lambda _: called.append("still"))
            await made
            await turn()

        run(main())
        assert [str(report["exception"]) for report in reports] == ["callback"]
        assert called == ["still"]


class TestWhatIsAwaited:
    """Errors for what no task can wait for, in the task's next step, in asyncio's words."""

    @staticmethod
    @types.coroutine
    def gives(value: object) -> Generator[object, None, None]:
        yield value

    def refused(self, run: Run, kind: Kind, value: Callable[[], object], words: str) -> None:
        async def awaits() -> str:
            with pytest.raises(RuntimeError, match=words):
                await self.gives(value())
            await turn()
            return "went on"

        async def main() -> None:
            assert await kind(awaits()) == "went on"

        run(main())

    def test_a_value(self, run: Run, task: Kind) -> None:
        self.refused(run, task, lambda: 17, "^Task got bad yield: 17$")

    def test_a_generator(self, run: Run, task: Kind) -> None:
        words = "^yield was used instead of yield from for generator in task <.*> with <generator"
        self.refused(run, task, lambda: (number for number in ()), words)

    def test_a_future_that_is_not_awaited(self, run: Run, task: Kind) -> None:
        words = "^yield was used instead of yield from in task <.*> with <Future"
        self.refused(run, task, lambda: asyncio.get_running_loop().create_future(), words)

    def test_a_future_of_another_loop(self, run: Run, task: Kind) -> None:
        other = asyncio.new_event_loop()
        words = "^Task <.*> got Future <.*> attached to a different loop$"
        self.refused(run, task, other.create_future, words)
        other.close()

    def test_itself(self, run: Run, task: Kind) -> None:
        async def awaits() -> str:
            await turn()
            me = asyncio.current_task()
            assert me is not None
            with pytest.raises(RuntimeError, match=r"^Task cannot await on itself: <"):
                await me
            return "went on"

        async def main() -> None:
            assert await task(awaits()) == "went on"

        run(main())

    def test_a_bare_yield_is_the_next_turn(self, run: Run, task: Kind) -> None:
        trace: list[str] = []

        async def yields() -> None:
            for _ in range(2):
                trace.append("task")
                asyncio.get_running_loop().call_soon(trace.append, "loop")
                await self.gives(None)

        async def main() -> None:
            await task(yields())

        run(main())
        assert trace == ["task", "loop"] * 2

    def test_a_future_of_somebody_elses(self, run: Run, task: Kind) -> None:
        """A class with the protocol of a future: told its loop by an attribute only, or by get_loop()."""

        class Foreign:
            _asyncio_future_blocking = False

            def __init__(self) -> None:
                self._loop = asyncio.get_running_loop()
                self.callbacks: list[tuple[Callable[[Any], object], contextvars.Context]] = []
                self.value: str | None = None

            def add_done_callback(
                self, callback: Callable[[Any], object], *, context: contextvars.Context
            ) -> None:
                self.callbacks.append((callback, context))

            def finish(self, value: str) -> None:
                self.value = value
                for callback, context in self.callbacks:
                    self._loop.call_soon(callback, self, context=context)

            def result(self) -> str:
                assert self.value is not None
                return self.value

            def __await__(self) -> Generator[Foreign, None, str]:
                self._asyncio_future_blocking = True
                yield self
                return self.result()

        async def waits(future: Foreign) -> str:
            return await future

        async def main() -> None:
            future = Foreign()
            made = task(waits(future))
            await turn()
            assert not future._asyncio_future_blocking
            future.finish("foreign")
            assert await made == "foreign"

        run(main())


class TestCoroutines:
    """Native ones are in every other test."""

    def test_a_generator_as_coroutine(self, run: Run, task: Kind) -> None:
        @types.coroutine
        def old(future: asyncio.Future[str]) -> Generator[Any, None, str]:
            yield
            return (yield from future)

        async def around(future: asyncio.Future[str]) -> str:
            return await old(future)

        async def main() -> None:
            future = asyncio.get_running_loop().create_future()
            made = [task(around(future))]
            if task is OURS:  # asyncio stopped to take the bare generator in 3.12
                made.append(task(old(future)))
            await turn(2)
            future.set_result("old")
            assert {await which for which in made} == {"old"}

        run(main())

    def test_a_compiled_one(self, run: Run, task: Kind) -> None:
        """It returns, raises and is cancelled like any other; the loop's own are compiled in uvloop."""
        breaker = CircuitBreaker()

        async def main() -> None:
            loop = asyncio.get_running_loop()
            assert await task(breaker.__aenter__()) is breaker
            assert not await task(breaker.__aexit__(None, None, None))
            server = await task(loop.create_server(asyncio.Protocol, "127.0.0.1", 0))
            server.close()
            await server.wait_closed()
            with pytest.raises(OSError):
                await task(loop.create_connection(asyncio.Protocol, "127.0.0.1", 1))
            made = task(loop.create_connection(asyncio.Protocol, "127.0.0.1", 1))
            made.cancel()
            with pytest.raises(asyncio.CancelledError):
                await made

        run(main())

    def test_an_object_with_the_methods_of_one(self, run: Run, task: Kind) -> None:
        class Wrapped(Coroutine[Any, Any, str]):
            def __init__(self, inner: Coroutine[Any, Any, str]) -> None:
                self.inner = inner

            def send(self, value: Any) -> Any:
                return self.inner.send(value)

            def throw(self, *error: Any) -> Any:
                return self.inner.throw(*error)

            def close(self) -> None:
                self.inner.close()

            def __await__(self) -> Generator[Any, Any, str]:
                return self.inner.__await__()

        async def works(turns: int) -> str:
            await turn(turns)
            return "wrapped"

        async def gives_in() -> str:
            with suppress(asyncio.CancelledError):
                await forever()
            return "gave in"

        async def main() -> None:
            for turns in (0, 2):
                assert await task(Wrapped(works(turns))) == "wrapped"
            made = task(Wrapped(gives_in()))
            await turn()
            made.cancel()
            assert await made == "gave in"

        run(main())

    @pytest.mark.parametrize("value", [None, 17, turn], ids=["None", "number", "function"])
    def test_no_coroutine(self, run: Run, task: Kind, value: object) -> None:
        async def main() -> None:
            maker = asyncio.current_task()
            with pytest.raises(TypeError, match="^a coroutine was expected, got "):
                task(value)
            assert asyncio.current_task() is maker

        run(main())

    def test_one_that_was_awaited_before(self, run: Run, task: Kind) -> None:
        async def main() -> None:
            coro = turn(0)
            await coro
            with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
                await task(coro)

        run(main())


class TestReports:
    @pytest.mark.parametrize("turns", [0, 1])
    def test_an_error_that_nobody_retrieves(self, run: Run, task: Kind, reports: Reports, turns: int) -> None:
        error = ValueError("unseen")

        async def raises() -> None:
            await turn(turns)
            raise error

        async def main() -> None:
            made: asyncio.Task[Any] | None = task(raises())
            await turn(3)
            assert made is not None
            assert made.done()
            assert reports == []
            made = None
            gc.collect()
            assert [report["exception"] for report in reports] == [error]
            assert reports[0]["message"].endswith("Task exception was never retrieved")
            assert isinstance(reports[0]["future"], CallTask if task is OURS else asyncio.Task)
            reports.clear()

        run(main())

    @pytest.mark.parametrize("retrieve", ["result", "exception", "await", "cancel"])
    def test_an_error_that_was_retrieved(self, run: Run, task: Kind, reports: Reports, retrieve: str) -> None:
        async def raises() -> None:
            raise ValueError("seen")

        async def main() -> None:
            made = task(raises())
            await turn(2)
            with suppress(ValueError):
                if retrieve == "await":
                    await made
                else:
                    getattr(made, retrieve)()
            del made
            gc.collect()

        run(main())
        assert reports == []

    def test_a_pending_one_that_is_dropped(self, run: Run, task: Kind, reports: Reports) -> None:
        async def main() -> None:
            made: asyncio.Task[Any] | None = task(forever())
            await turn()
            gone = weakref.ref(made)
            made = None
            gc.collect()
            assert gone() is None or reports
            assert [report["message"] for report in reports] == ["Task was destroyed but it is pending!"]
            assert reports[0]["task"].get_coro() is not None
            reports.clear()
            gc.collect()

        run(main())

    def test_a_cancelled_one_is_no_report(self, run: Run, task: Kind, reports: Reports) -> None:
        async def main() -> None:
            made = task(forever())
            await turn()
            made.cancel()
            await turn(2)
            assert made.cancelled()

        run(main())
        gc.collect()
        assert reports == []

    def test_in_debug_mode_it_says_where_it_was_made(
        self, runner: asyncio.Runner, task: Kind, reports: Reports
    ) -> None:
        async def raises() -> None:
            await turn()
            raise ValueError

        async def main() -> None:
            made: asyncio.Task[Any] | None = task(raises())
            await turn(3)
            made = None
            gc.collect()
            assert made is None

        runner.get_loop().set_debug(True)
        runner.run(main())
        (report,) = reports
        assert any(frame.name == "main" for frame in report["source_traceback"])
        assert "created at" in repr(report["future"])


class TestSeenFromOutside:
    def test_all_tasks(self, run: Run, task: Kind) -> None:
        async def main() -> None:
            before = asyncio.all_tasks()
            made = task(turn(2))
            await turn()
            assert asyncio.all_tasks() - before == {made}
            await made
            assert asyncio.all_tasks() == before

        run(main())

    def test_all_tasks_does_not_show_one_in_its_first_step(self, run: Run) -> None:
        """It would cost as much as the step; whoever cancels all tasks does so in a later turn."""
        shown: list[bool] = []

        async def looks() -> None:
            for _ in range(2):
                shown.append(asyncio.current_task() in asyncio.all_tasks())
                await turn()

        async def main() -> None:
            await OURS(looks())

        run(main())
        assert shown == [False, True]

    def test_the_end_of_the_loop_cancels_it(self, task: Kind) -> None:
        ended: list[str] = []

        async def waits() -> None:
            try:
                await forever()
            finally:
                ended.append("cancelled")

        async def main() -> None:
            waiting.append(task(waits()))
            await turn()

        waiting: list[asyncio.Task[Any]] = []
        for loop_factory in (asyncio.new_event_loop, uvloop.new_event_loop):
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                runner.run(main())
        assert ended == ["cancelled"] * 2

    def test_names(self, run: Run, task: Kind) -> None:
        async def main() -> None:
            named, unnamed, other = task(turn(), name="call 7"), task(turn()), task(turn())
            assert named.get_name() == "call 7"
            assert unnamed.get_name() != other.get_name()
            assert unnamed.get_name() == unnamed.get_name()
            assert unnamed.get_name().rstrip("0123456789") == f"{'Call' * (task is OURS)}Task-"
            unnamed.set_name(17)
            assert unnamed.get_name() == "17"
            await asyncio.wait([named, unnamed, other])

        run(main())

    def test_repr(self, run: Run, task: Kind) -> None:
        async def fails() -> None:
            raise ValueError("no")

        async def main() -> None:
            kind = task.name.removeprefix("asyncio.")
            made = task(forever(), name="seven")
            await turn()
            words = repr(made)
            assert words.startswith(f"<{kind} pending name='seven' coro=<forever() running at ")
            assert "wait_for=<Future pending" in words
            made.cancel()
            assert repr(made).startswith(f"<{kind} cancelling name='seven'")
            await asyncio.wait([made])
            assert repr(made).startswith(f"<{kind} cancelled name='seven'")
            made = task(turn(), name="eight")
            await made
            assert repr(made).startswith(f"<{kind} finished name='eight'")
            assert repr(made).endswith("result=None>")
            made = task(fails(), name="nine")
            await asyncio.wait([made])
            assert repr(made).endswith("exception=ValueError('no')>")
            made.exception()

        run(main())

    def test_stacks(self, run: Run, task: Kind) -> None:
        async def fails() -> None:
            await turn()
            raise ValueError("no")

        async def main() -> None:
            made = task(fails())
            await task.begun()
            assert [frame.f_code.co_name for frame in made.get_stack()] == ["fails"]
            assert made.get_stack(limit=0) == []
            printed = io.StringIO()
            made.print_stack(file=printed)
            assert printed.getvalue().startswith("Stack for <")
            await asyncio.wait([made])
            assert made.get_stack()[-1].f_code.co_name == "fails"
            printed = io.StringIO()
            made.print_stack(file=printed)
            assert printed.getvalue().startswith("Traceback for <")
            assert printed.getvalue().endswith("ValueError: no\n")
            made.exception()

        run(main())

    def test_what_it_is_made_of(self, run: Run, task: Kind) -> None:
        async def main() -> None:
            coro = turn()
            made = task(coro)
            assert made.get_loop() is asyncio.get_running_loop()
            assert made.get_coro() is coro
            assert asyncio.isfuture(made)
            assert asyncio.ensure_future(made) is made
            assert isinstance(type(made)[int], types.GenericAlias)
            await made

        run(main())

    def test_it_is_no_instance_of_asyncios(self, run: Run) -> None:
        """The memory of those is asyncio's own; code that asks for isinstance() sees the difference."""

        async def main() -> None:
            made = OURS(turn())
            assert not isinstance(made, asyncio.Task | asyncio.Future)
            await made

        run(main())

    def test_a_loop_that_does_not_run_yet(self, runner: asyncio.Runner, task: Kind) -> None:
        """The first step follows when it does."""

        async def returns() -> str:
            assert asyncio.current_task() is made
            return "later"

        loop = runner.get_loop()
        made = task(returns(), loop=loop)
        assert not made.done()
        assert loop.run_until_complete(made) == "later"

    def test_no_loop(self) -> None:
        coro = turn()
        with pytest.raises(RuntimeError, match="no running event loop"):
            CallTask(coro)
        coro.close()


class TestMemory:
    def test_a_weak_reference(self, run: Run, task: Kind) -> None:
        async def main() -> None:
            made = task(turn())
            gone = weakref.ref(made)
            await made
            assert gone() is made
            await turn()
            del made
            assert gone() is None

        run(main())

    def test_cycles_are_collected(self, run: Run, task: Kind) -> None:
        class Node:
            task: asyncio.Task[Any]

        async def keeps(node: Node, turns: int) -> Node:
            await turn(turns)
            return node

        async def main() -> None:
            gone = []
            for turns in (0, 2):
                node = Node()
                node.task = task(keeps(node, turns))
                node.task.add_done_callback(lambda _, node=node: node)  # type: ignore[misc]
                await node.task
                await turn(2)
                gone.append(weakref.ref(node))
                del node
            gc.collect()
            assert [reference() for reference in gone] == [None, None]

        run(main())

    def test_a_hundred_thousand_leave_nothing(self, run: Run, task: Kind) -> None:
        """Ended at once, later, by an error, by cancellation: not a block more after the last than early on."""

        async def returns(turns: int) -> int:
            await turn(turns)
            return turns

        async def raises(turns: int) -> None:
            await turn(turns)
            raise ValueError

        async def round_of_250() -> None:
            made = [task(work(turns)) for work in (returns, raises) for turns in (0, 1) for _ in range(50)]
            made += [task(forever()) for _ in range(50)]
            await turn(2)
            for which in made[200:]:
                which.cancel()
            await asyncio.wait(made)
            assert sum(which.cancelled() for which in made) == 50
            assert sum(which.exception() is not None for which in made[:200]) == 100

        async def main() -> int:
            for _ in range(40):
                await round_of_250()
            gc.collect()
            before = sys.getallocatedblocks()
            for _ in range(360):
                await round_of_250()
            gc.collect()
            return sys.getallocatedblocks() - before

        assert run(main()) < 500
