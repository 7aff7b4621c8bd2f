"""The call objects: grpc.aio's surface, through a stub that protoc generated."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from grpc import StatusCode, aio

from client.kinds import Context, Item, Kinds, KindsStub, failing, serve, until
from tai_grpc.client.grpc_client import GrpcClient
from tai_grpc.config import GrpcClientConfig
from tai_grpc.status import CallError


@pytest.fixture
async def kinds() -> Kinds:
    return Kinds()


@pytest.fixture
async def client(kinds: Kinds) -> AsyncIterator[GrpcClient]:
    async with serve(kinds) as address, GrpcClient(GrpcClientConfig(server_addresses=(address,))) as client:
        yield client


def items(*words: str) -> list[Any]:
    return [Item(text=word) for word in words]


class TestKinds:
    async def test_unary_unary(self, client: GrpcClient) -> None:
        call = client.stub(KindsStub).One(Item(text="a"))
        assert (await call).text == "a"
        assert (await call).text == "a"
        assert (await call.code(), await call.details()) == (StatusCode.OK, "")
        assert (call.done(), call.cancelled(), call.cancel()) == (True, False, False)

    async def test_unary_stream(self, client: GrpcClient) -> None:
        stub = client.stub(KindsStub)
        assert [item.text async for item in stub.Split(Item(text="a b c"))] == ["a", "b", "c"]
        call = stub.Split(Item(text="a b"))
        assert [await call.read() for _ in range(4)] == [*items("a", "b"), aio.EOF, aio.EOF]
        assert await call.code() is StatusCode.OK

    @pytest.mark.parametrize("kind", ["async", "plain"])
    async def test_stream_unary_with_an_iterator(self, client: GrpcClient, kind: str) -> None:
        async def async_words() -> AsyncIterator[Any]:
            for item in items("a", "b"):
                yield item

        def plain_words() -> Iterator[Any]:
            yield from items("a", "b")

        words = async_words() if kind == "async" else plain_words()
        assert (await client.stub(KindsStub).Collect(words)).text == "a b"

    async def test_stream_unary_with_write(self, client: GrpcClient) -> None:
        call = client.stub(KindsStub).Collect()
        for item in items("a", "b"):
            await call.write(item)
        await call.done_writing()
        assert (await call).text == "a b"

    async def test_stream_stream_with_an_iterator(self, client: GrpcClient) -> None:
        async def words() -> AsyncIterator[Any]:
            for item in items("a", "b"):
                yield item

        assert [item.text async for item in client.stub(KindsStub).Chat(words())] == ["A", "B"]

    async def test_stream_stream_one_by_one(self, client: GrpcClient) -> None:
        """Each answer is there before the next request is written."""
        call = client.stub(KindsStub).Chat()
        for word in ("a", "b", "c"):
            await call.write(Item(text=word))
            assert (await call.read()).text == word.upper()
        await call.done_writing()
        assert await call.read() is aio.EOF
        assert await call.code() is StatusCode.OK

    async def test_without_serializers_it_carries_bytes(self, client: GrpcClient) -> None:
        channel = client.stub(lambda channel: channel)
        one: Any = channel.unary_unary("/kinds.v1.Kinds/One")
        assert await one(Item(text="a").SerializeToString()) == Item(text="a").SerializeToString()

    async def test_nothing_is_left_in_flight(self, client: GrpcClient) -> None:
        stub = client.stub(KindsStub)
        await asyncio.gather(*(stub.One(Item()) for _ in range(20)))
        _ = [item async for item in stub.Split(Item(text="a"))]
        await stub.Collect(items("a"))
        _ = [item async for item in stub.Chat(items("a"))]
        stats = client.stats()
        assert (stats.calls, stats.attempts, stats.failed, stats.cancelled) == (23, 23, 0, 0)
        assert (stats.endpoints[0].active_connections, stats.endpoints[0].total_requests) == (0, 23)
        assert 0 < stats.p50_us <= stats.p99_us <= stats.p999_us


class TestMetadata:
    async def test_both_sides_metadata_arrive(self, kinds: Kinds, client: GrpcClient) -> None:
        async def one(request: Any, context: Context) -> Any:
            await context.send_initial_metadata((("early", "1"), ("raw-bin", b"\x00\xff")))
            context.set_trailing_metadata((("late", "2"),))
            return request

        kinds.one = one
        call = client.stub(KindsStub).One(
            Item(), metadata=aio.Metadata(("asked", "yes"), ("asked-bin", b"\xff"))
        )
        assert (await call.initial_metadata())["early"] == "1"
        assert (await call.initial_metadata())["raw-bin"] == b"\x00\xff"
        assert (await call.trailing_metadata())["late"] == "2"
        assert (kinds.calls[0]["asked"], kinds.calls[0]["asked-bin"]) == ("yes", b"\xff")

    async def test_a_streams_headers_are_there_before_its_first_message(
        self, kinds: Kinds, client: GrpcClient
    ) -> None:
        go_on = asyncio.Event()

        async def split(request: Any, context: Context) -> AsyncIterator[Any]:
            await context.send_initial_metadata((("tai-revision", "7"),))
            await go_on.wait()
            yield request

        kinds.split = split
        call = client.stub(KindsStub).Split(Item(text="a"))
        assert (await call.initial_metadata())["tai-revision"] == "7"
        await call.wait_for_connection()
        assert not call.done()
        go_on.set()
        assert (await anext(call)).text == "a"

    async def test_metadata_that_cannot_be_sent_is_the_callers_mistake(self, client: GrpcClient) -> None:
        with pytest.raises(Exception, match=r"[Mm]etadata"):
            await client.stub(KindsStub).One(Item(), metadata=(("Not A Key", "x"),))
        stats = client.stats()
        # Whether that was a call that failed, or none: nothing is left of it.
        assert (stats.calls - stats.failed, stats.endpoints[0].active_connections) == (0, 0)

    async def test_a_request_of_another_type_fails_where_it_is_made(self, client: GrpcClient) -> None:
        with pytest.raises(TypeError):
            client.stub(KindsStub).One("not a message")
        assert client.stats().calls == 0

    async def test_a_response_that_cannot_be_read_is_an_error_of_the_call(self, client: GrpcClient) -> None:
        channel = client.stub(lambda channel: channel)
        one: Any = channel.unary_unary(
            "/kinds.v1.Kinds/One", Item.SerializeToString, lambda data: data.decode()
        )
        with pytest.raises(CallError, match="cannot be read") as caught:
            await one(Item(text="\u00e9" * 100))
        assert caught.value.code() is StatusCode.INTERNAL


class TestFailure:
    async def test_it_is_raised_by_every_way_to_read(self, kinds: Kinds, client: GrpcClient) -> None:
        kinds.one = failing(StatusCode.NOT_FOUND)

        async def split(_request: Any, context: Context) -> AsyncIterator[Any]:
            await context.abort(StatusCode.NOT_FOUND, "no such thing")
            yield

        kinds.split = split
        stub = client.stub(KindsStub)
        call = stub.One(Item())
        assert await call.code() is StatusCode.NOT_FOUND
        for wait in (call, call.wait_for_connection(), anext(stub.Split(Item())), stub.Split(Item()).read()):
            with pytest.raises(CallError) as caught:
                await wait
            assert caught.value.code() is StatusCode.NOT_FOUND

    async def test_what_the_request_iterator_raises_reaches_the_caller(
        self, kinds: Kinds, client: GrpcClient
    ) -> None:
        async def words() -> AsyncIterator[Any]:
            yield Item(text="a")
            raise KeyError("the source broke")

        stub = client.stub(KindsStub)
        with pytest.raises(KeyError, match="the source broke"):
            await stub.Collect(words())
        with pytest.raises(KeyError, match="the source broke"):
            async for _ in stub.Chat(words()):
                pass
        await until(lambda: kinds.ended == 2)
        assert client.endpoint_stats()[0].active_connections == 0

    async def test_the_request_iterator_is_ended_with_its_call(self, client: GrpcClient) -> None:
        """Also when it waits for something that never comes."""
        asked, ended = asyncio.Event(), asyncio.Event()

        async def words() -> AsyncIterator[bytes]:
            asked.set()
            try:
                await asyncio.Event().wait()
                yield b""
            finally:
                ended.set()

        channel: Any = client.stub(lambda channel: channel)
        call = channel.stream_unary("/kinds.v1.Kinds/Unheard")(words())
        assert await call.code() is StatusCode.UNIMPLEMENTED
        if asked.is_set():
            await ended.wait()

    async def test_writing_to_a_call_that_failed_raises_its_error(self, client: GrpcClient) -> None:
        channel = client.stub(lambda channel: channel)
        call: Any = channel.stream_stream("/kinds.v1.Kinds/Unheard")()
        assert await call.code() is StatusCode.UNIMPLEMENTED
        with pytest.raises(CallError) as caught:
            await call.write(b"")
        assert caught.value.code() is StatusCode.UNIMPLEMENTED
        await call.done_writing()

    async def test_writing_after_the_end_is_an_error(self, client: GrpcClient) -> None:
        call = client.stub(KindsStub).Collect()
        await call.done_writing()
        with pytest.raises(asyncio.InvalidStateError):
            await call.write(Item())
        await call
        with pytest.raises(aio.UsageError):
            await client.stub(KindsStub).Collect(items("a")).write(Item())


class TestCancellation:
    @pytest.fixture
    def hanging(self, kinds: Kinds) -> asyncio.Event:
        """Make One and Split hang, Split after its first message; set once one of them does."""
        began = asyncio.Event()

        async def one(_request: Any, _context: Context) -> Any:
            began.set()
            await asyncio.Event().wait()

        async def split(request: Any, _context: Context) -> AsyncIterator[Any]:
            yield request
            began.set()
            await asyncio.Event().wait()

        kinds.one, kinds.split = one, split
        return began

    async def _check_released(self, kinds: Kinds, client: GrpcClient) -> None:
        """The server has seen the end, nothing is in flight, and it counts for nobody's failure."""
        await until(lambda: kinds.ended == 1)
        await until(lambda: client.endpoint_stats()[0].active_connections == 0)
        stats = client.stats()
        assert (stats.cancelled, stats.failed, stats.endpoints[0].failures) == (1, 0, 0)
        assert client.breaker(client.config.server_addresses[0]).state.name == "CLOSED"

    async def test_cancelling_a_call(self, kinds: Kinds, client: GrpcClient, hanging: asyncio.Event) -> None:
        call = client.stub(KindsStub).One(Item())
        ended = asyncio.Event()
        call.add_done_callback(lambda _: ended.set())
        await hanging.wait()
        assert call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await ended.wait()
        assert (call.cancelled(), call.done(), await call.code()) == (True, True, StatusCode.CANCELLED)
        await self._check_released(kinds, client)

    async def test_cancelling_the_task_that_awaits(
        self, kinds: Kinds, client: GrpcClient, hanging: asyncio.Event
    ) -> None:
        async def work() -> Any:
            return await client.stub(KindsStub).One(Item())

        task = asyncio.create_task(work())
        await hanging.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await self._check_released(kinds, client)

    async def test_cancelling_the_task_that_reads(
        self, kinds: Kinds, client: GrpcClient, hanging: asyncio.Event
    ) -> None:
        async def work() -> None:
            async for _ in client.stub(KindsStub).Split(Item()):
                pass

        task = asyncio.create_task(work())
        await hanging.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await self._check_released(kinds, client)

    async def test_cancelling_a_stream_wakes_its_reader(
        self, kinds: Kinds, client: GrpcClient, hanging: asyncio.Event
    ) -> None:
        call = client.stub(KindsStub).Split(Item())
        await anext(call)
        reader = asyncio.create_task(call.read())
        await hanging.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        await self._check_released(kinds, client)

    async def test_leaving_a_loop_early_ends_the_stream(
        self, kinds: Kinds, client: GrpcClient, hanging: asyncio.Event
    ) -> None:
        async for _ in client.stub(KindsStub).Split(Item()):
            break
        gc.collect()
        await hanging.wait()
        await self._check_released(kinds, client)

    async def test_waiting_for_the_code_does_not_bind_the_call(
        self, kinds: Kinds, client: GrpcClient, hanging: asyncio.Event
    ) -> None:
        call = client.stub(KindsStub).One(Item())
        await hanging.wait()
        waiting = asyncio.create_task(call.code())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not call.done()
        call.cancel()
        await self._check_released(kinds, client)

    async def test_the_time_remaining_is_the_calls(self, client: GrpcClient, hanging: asyncio.Event) -> None:
        call = client.stub(KindsStub).One(Item(), timeout=10.0)
        watch = client.stub(KindsStub).Split(Item())
        await hanging.wait()
        assert 0 < call.time_remaining() <= 10
        assert watch.time_remaining() is None
        call.cancel()
