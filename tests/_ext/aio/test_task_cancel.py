"""Cancelling a task in every state that it can be in, asyncio's and ours."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import Any

import pytest

from _ext.aio.kinds import Kind, Run, forever, turn


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
