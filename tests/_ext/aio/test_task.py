"""What a handler may expect of the task that it runs in: asyncio.Task and CallTask side by side.

One body of tests for both, in the modules test_task*, on asyncio's loop and on uvloop. asyncio.Task is eager
where Python has that (3.12); where the two differ on purpose, a test says so.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from _ext.aio.kinds import EAGER, OURS, THEIRS, VARIABLE, Kind, Reports, Run, forever, turn


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
                made.set_result(None)
            with pytest.raises(RuntimeError, match="Task does not support set_exception operation"):
                made.set_exception(ValueError())
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
        """A protocol's callback, where a server begins its calls, is in no task, before and after."""

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
        """Our first step is refused, and the maker remains current; Python 3.13 forgets who that was."""

        async def main() -> None:
            maker = asyncio.current_task()
            coro = turn()
            context = contextvars.copy_context()

            def makes() -> None:
                with pytest.raises(RuntimeError, match="is already entered"):
                    OURS(coro, context=context)

            context.run(makes)
            assert asyncio.current_task() is maker
            coro.close()

        run(main())

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
