"""What is seen of a task from outside, what it reports, and what it leaves, asyncio's and ours."""

from __future__ import annotations

import asyncio
import gc
import io
import sys
import types
import weakref
from contextlib import suppress
from typing import Any

import pytest
import uvloop

from _ext.aio.kinds import OURS, Kind, Reports, Run, forever, turn
from tai_grpc._ext.aio.task import CallTask


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
            assert isinstance(type(made)[int], types.GenericAlias)  # type: ignore[index]
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
        """Ended at once, later, by an error, by cancellation: not a block more in the end than early on."""

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
