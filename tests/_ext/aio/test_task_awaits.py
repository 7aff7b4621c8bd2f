"""What a task can run and wait for, and its words for what it cannot, asyncio's and ours."""

from __future__ import annotations

import asyncio
import contextvars
import types
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from typing import Any

import pytest

from _ext.aio.kinds import OURS, Kind, Run, forever, turn
from tai_grpc._ext.primitives.breaker import CircuitBreaker


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
        self.refused(run, task, lambda: (number for number in range(0)), words)

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
            with pytest.raises(TypeError, match=r"^a coroutine was expected, got "):
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
