"""Handlers of every form: coroutines, generators, generic ones, serializers, wrong results."""

import asyncio
import contextvars
import functools
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from aio.link import (
    BASIC,
    SERVICE,
    Handlers,
    Link,
    chat,
    failure,
    path,
    read_all,
    split,
    unary,
)


async def test_a_partial_of_a_coroutine_function_is_one(link: Link) -> None:
    async def prefix(start: bytes, request: bytes, context: Any) -> bytes:
        return start + request

    channel = await link.open({"Prefix": unary(functools.partial(prefix, b"<"))})
    assert await channel.unary_unary(path("Prefix"))(b"x") == b"<x"


async def test_bound_methods_of_every_kind(link: Link) -> None:
    class Servicer:
        async def echo(self, request: bytes, context: Any) -> bytes:
            return request

        async def split(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
            yield request

        @staticmethod
        async def fixed(request: bytes, context: Any) -> bytes:
            return b"fixed"

    servicer = Servicer()
    handlers: Handlers = {
        "Echo": unary(servicer.echo),
        "Split": split(servicer.split),
        "Fixed": unary(servicer.fixed),
    }
    channel = await link.open(handlers)
    assert await channel.unary_unary(path("Echo"))(b"x") == b"x"
    assert await read_all(channel.unary_stream(path("Split"))(b"x")) == [b"x"]
    assert await channel.unary_unary(path("Fixed"))(b"x") == b"fixed"


async def test_serializers_are_applied_on_the_server(link: Link) -> None:
    async def double(request: int, context: Any) -> int:
        return request * 2

    async def each(requests: AsyncIterator[int], context: Any) -> AsyncIterator[int]:
        async for request in requests:
            yield request * 2

    def write(number: int) -> bytes:
        return b"%d" % number

    channel = await link.open({"Double": unary(double, int, write), "Each": chat(each, int, write)})
    assert await channel.unary_unary(path("Double"))(b"21") == b"42"
    assert await read_all(channel.stream_stream(path("Each"))([b"1", b"2"])) == [b"2", b"4"]


async def test_a_serializer_of_the_server_that_fails_fails_the_call(link: Link) -> None:
    def refuse(message: Any) -> Any:
        raise ValueError("not mine")

    echo = BASIC["Echo"].unary_unary
    handlers = {
        "In": unary(echo, request_deserializer=refuse),
        "Out": unary(echo, response_serializer=refuse),
    }
    channel = await link.open(handlers)
    for name in ("In", "Out"):
        error = await failure(channel.unary_unary(path(name))(b""))
        assert error.code() is StatusCode.UNKNOWN
        assert "not mine" in error.details()


async def test_a_serializer_of_the_client_that_fails_is_no_success(link: Link) -> None:
    """Defect of grpc.aio: it sends an empty message then, and gives None for what it cannot read."""

    def refuse(message: Any) -> Any:
        raise ValueError("not mine")

    channel = await link.open(BASIC)
    outgoing = channel.unary_unary(path("Echo"), request_serializer=refuse)(b"x")
    incoming = channel.unary_unary(path("Echo"), response_deserializer=refuse)(b"x")
    if link.is_grpcio:
        assert await outgoing == b""
        assert await incoming is None
        return
    for call in (outgoing, incoming):
        with pytest.raises((ValueError, grpc.RpcError)) as caught:
            await call
        if isinstance(caught.value, grpc.RpcError):
            assert caught.value.code() is StatusCode.INTERNAL


async def test_returning_nothing_or_something_else(link: Link) -> None:
    async def nothing(request: bytes, context: Any) -> None:
        return None

    async def number(request: bytes, context: Any) -> int:
        return 5

    channel = await link.open({"Nothing": unary(nothing), "Number": unary(number)})
    assert await channel.unary_unary(path("Nothing"))(b"") == b""
    error = await failure(channel.unary_unary(path("Number"))(b""))
    assert error.code() is StatusCode.UNKNOWN
    assert error.details().startswith("Unexpected <class 'TypeError'>: ")


async def test_a_generator_where_one_response_is_wanted_fails(link: Link) -> None:
    async def several(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield request

    channel = await link.open({"Several": unary(several), **BASIC})
    error = await failure(channel.unary_unary(path("Several"))(b""))
    assert error.code() is StatusCode.UNKNOWN
    assert await channel.unary_unary(path("Echo"))(b"x") == b"x"


async def test_a_generic_handler_chooses_by_the_details_of_the_call(link: Link) -> None:
    asked: list[tuple[str, Any]] = []

    class Choose(grpc.GenericRpcHandler):
        def service(self, handler_call_details: Any) -> Any:
            asked.append(
                (handler_call_details.method, dict(handler_call_details.invocation_metadata)["word"])
            )
            return BASIC["Echo"] if handler_call_details.method == "/any/Thing" else None

    server = link.make_server(BASIC)
    server.add_generic_rpc_handlers((Choose(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = link.channel(f"127.0.0.1:{port}")
    metadata = (("word", "w"),)
    assert await channel.unary_unary("/any/Thing")(b"x", metadata=metadata) == b"x"
    assert await channel.unary_unary("/any/Other")(b"", metadata=metadata).code() is StatusCode.UNIMPLEMENTED
    # The first handler that knows a method has it.
    assert await channel.unary_unary(path("Echo"))(b"x", metadata=metadata) == b"x"
    assert asked == [("/any/Thing", "w"), ("/any/Other", "w")]


async def test_registered_handlers_go_before_generic_ones(link: Link) -> None:
    async def registered(request: bytes, context: Any) -> bytes:
        return b"registered"

    server = link.make_server(BASIC)
    server.add_registered_method_handlers(SERVICE, {"Echo": unary(registered)})
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = link.channel(f"127.0.0.1:{port}")
    assert await channel.unary_unary(path("Echo"))(b"") == b"registered"
    assert await channel.unary_unary(path("Echo"), _registered_method=True)(b"") == b"registered"
    assert await channel.stream_unary(path("Join"))([b"x"]) == b"x"


async def test_a_handler_is_a_task_with_a_context_of_its_own(link: Link) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    seen: list[tuple[str, bool]] = []

    async def work(request: bytes, context: Any) -> bytes:
        seen.append((variable.get(), asyncio.current_task() is not None))
        variable.set(request.decode())
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            inner = group.create_task(asyncio.to_thread(variable.get))
        return (await inner).encode()

    channel = await link.open({"Work": unary(work)})
    calls = [channel.unary_unary(path("Work"))(b"%d" % number) for number in range(5)]
    assert [await call for call in calls] == [b"%d" % number for number in range(5)]
    assert seen == [("unset", True)] * 5
