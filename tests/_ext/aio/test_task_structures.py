"""What asyncio builds on tasks, in a task and on tasks, asyncio's and ours."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from _ext.aio.kinds import VARIABLE, Kind, Run, forever, turn


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
            outcomes = await asyncio.gather(task(returns(2)), task(fails()), return_exceptions=True)
            return [outcomes[0], type(outcomes[1])]

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
