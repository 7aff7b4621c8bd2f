"""Plain functions as handlers: they run in the server's threads, and mean what they mean with grpcio."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import CancelledError
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from server.conftest import Serve
from tai_grpc.config import GrpcServerConfig

HANGS = 20.0
"""Seconds after which something is taken to hang."""


async def one_and_two() -> AsyncIterator[bytes]:
    yield b"1"
    yield b"2"


def refuse(request: bytes, context: Any) -> bytes:
    context.abort(StatusCode.PERMISSION_DENIED, "not you")
    return b"went on"


def refuse_stream(request: bytes, context: Any) -> Iterator[bytes]:
    yield b"1"
    context.abort(StatusCode.PERMISSION_DENIED, "not you")
    yield b"went on"


def plain_collected(requests: Iterator[bytes], context: Any) -> bytes:
    return b"".join(requests)


def plain_echoed(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
    context.send_initial_metadata((("began", "yes"),))
    yield from requests


async def test_they_abort_send_metadata_and_read_requests(serve: Serve) -> None:
    """And nothing of it is forgotten for want of await."""
    _, channel = await serve(
        {
            "Refuse": grpc.unary_unary_rpc_method_handler(refuse),
            "RefuseStream": grpc.unary_stream_rpc_method_handler(refuse_stream),
            "Collected": grpc.stream_unary_rpc_method_handler(plain_collected),
            "Echoed": grpc.stream_stream_rpc_method_handler(plain_echoed),
        }
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary("/test.Generic/Refuse")(b"")
    assert (caught.value.code(), caught.value.details()) == (StatusCode.PERMISSION_DENIED, "not you")
    stream = channel.unary_stream("/test.Generic/RefuseStream")(b"")
    assert await stream.read() == b"1"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert caught.value.code() is StatusCode.PERMISSION_DENIED
    assert await channel.stream_unary("/test.Generic/Collected")(one_and_two()) == b"12"
    echo = channel.stream_stream("/test.Generic/Echoed")(one_and_two())
    assert ("began", "yes") in tuple(await echo.initial_metadata())
    assert [message async for message in echo] == [b"1", b"2"]


async def test_as_many_run_at_once_as_there_are_threads(serve: Serve) -> None:
    together = threading.Barrier(24)

    def meet(request: bytes, context: Any) -> bytes:
        together.wait(HANGS)
        return b""

    _, channel = await serve({"Meet": grpc.unary_unary_rpc_method_handler(meet)})
    assert GrpcServerConfig().handler_threads >= together.parties
    await asyncio.gather(*(channel.unary_unary("/test.Generic/Meet")(b"") for _ in range(together.parties)))


async def test_one_more_waits_for_its_turn(serve: Serve) -> None:
    running: list[int] = []
    most = 0

    def work(request: bytes, context: Any) -> bytes:
        nonlocal most
        running.append(threading.get_ident())
        most = max(most, len(running))
        context.send_initial_metadata(())
        running.pop()
        return b""

    _, channel = await serve({"Work": grpc.unary_unary_rpc_method_handler(work)}, handler_threads=2)
    await asyncio.gather(*(channel.unary_unary("/test.Generic/Work")(b"") for _ in range(20)))
    assert most == 2


async def test_one_may_return_what_is_to_be_awaited_or_any_iterable(serve: Serve) -> None:
    async def later(request: bytes) -> bytes:
        return request

    def deferred(request: bytes, context: Any) -> Any:
        return later(request)

    def listed(request: bytes, context: Any) -> list[bytes]:
        return [b"1", b"2"]

    def generated(request: bytes, context: Any) -> AsyncIterator[bytes]:
        return one_and_two()

    _, channel = await serve(
        {
            "Deferred": grpc.unary_unary_rpc_method_handler(deferred),
            "Listed": grpc.unary_stream_rpc_method_handler(listed),
            "Generated": grpc.unary_stream_rpc_method_handler(generated),
        }
    )
    assert await channel.unary_unary("/test.Generic/Deferred")(b"x") == b"x"
    for method in ("Listed", "Generated"):
        answers = channel.unary_stream(f"/test.Generic/{method}")(b"")
        assert [message async for message in answers] == [b"1", b"2"]


async def test_one_that_takes_one_response_and_generates_is_told_so(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async def generated(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield request

    _, channel = await serve({"Generated": grpc.unary_unary_rpc_method_handler(generated)})
    with pytest.raises(grpc.aio.AioRpcError):
        await channel.unary_unary("/test.Generic/Generated")(b"")
    (error,) = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert "an async generator cannot be a handler that returns one response" in str(error)


async def test_a_generator_whose_call_is_over_is_closed_in_its_thread(serve: Serve) -> None:
    ended: asyncio.Queue[tuple[str, int, int]] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def endless(request: bytes, context: Any) -> Iterator[bytes]:
        begun = threading.get_ident()
        try:
            while True:
                yield bytes(10_000)
        finally:
            loop.call_soon_threadsafe(ended.put_nowait, ("closed", begun, threading.get_ident()))

    _, channel = await serve({"Endless": grpc.unary_stream_rpc_method_handler(endless)})
    call = channel.unary_stream("/test.Generic/Endless")(b"")
    await call.read()
    call.cancel()
    _, begun, closed = await asyncio.wait_for(ended.get(), HANGS)
    assert begun == closed != threading.get_ident()


async def test_one_that_waits_for_its_client_ends_with_its_call(serve: Serve) -> None:
    """Its thread would be held, and the process with it, until the client says something."""
    reading = asyncio.Event()
    seen: asyncio.Queue[Any] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def wait(requests: Iterator[bytes], context: Any) -> bytes:
        context.add_callback(lambda: seen.put_nowait("called back"))
        active = context.is_active()
        loop.call_soon_threadsafe(reading.set)
        try:
            next(requests)
        except CancelledError as error:
            again = (context.is_active(), context.add_callback(lambda: None))
            loop.call_soon_threadsafe(seen.put_nowait, (active, again, type(error)))
            raise
        return b""

    server, channel = await serve({"Wait": grpc.stream_unary_rpc_method_handler(wait)})
    call = channel.stream_unary("/test.Generic/Wait")()
    await asyncio.wait_for(reading.wait(), HANGS)
    await server.stop(grace=0)
    found = {await asyncio.wait_for(seen.get(), HANGS) for _ in range(2)}
    assert found == {"called back", (True, (False, False), CancelledError)}
    assert await call.code() in (StatusCode.UNAVAILABLE, StatusCode.CANCELLED)
