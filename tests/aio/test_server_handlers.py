"""What a server does around its handlers: logs, wrapping, generic handlers, reads and writes as objects."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from aio.link import BASIC, SERVICE, Handlers, Stuck, chat, failure, path, read_all, split, unary, until
from aio.raw_client import DATA, END_HEADERS, HEADERS, RST_STREAM, Frame, RawClient, message, request
from tai_grpc import aio
from tai_grpc._ext.aio.context import ServicerContext
from tai_grpc.aio._server import Server

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@asynccontextmanager
async def serving(handlers: Handlers = BASIC, **settings: Any) -> AsyncIterator[tuple[Any, Any]]:
    """A server, and a channel of grpcio's to it."""
    server: Any = aio.server(**settings)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, dict(handlers)),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield server, channel
    finally:
        await server.stop(None)


async def fail(request: bytes, context: Any) -> bytes:
    raise ValueError("a defect")


async def test_an_exception_is_logged_once_with_its_method_caller_and_trace(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving({"Fail": unary(fail), **BASIC}) as (_, channel):
        metadata = (("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01"),)
        error = await failure(channel.unary_unary(path("Fail"))(b"", metadata=metadata))
        assert error.details() == "Unexpected <class 'ValueError'>: a defect"
        assert await channel.unary_unary(path("Echo"))(b"lives on") == b"lives on"
    (record,) = [each for each in caplog.records if each.name.startswith("tai_grpc")]
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)
    fields = vars(record)
    assert fields["trace_id"] == TRACE
    assert fields["method"] == path("Fail").removeprefix("/")
    assert fields["peer"].startswith("ipv4:127.0.0.1:")


async def test_an_exception_whose_text_cannot_be_made_is_answered_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    async def mute(request: bytes, context: Any) -> bytes:
        raise MuteError

    with caplog.at_level(logging.CRITICAL):
        async with serving({"Mute": unary(mute)}) as (_, channel):
            error = await failure(channel.unary_unary(path("Mute"))(b""))
            assert error.code() is grpc.StatusCode.UNKNOWN
            assert "MuteError" in error.details()


async def test_what_is_cancelled_or_aborted_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    stuck = Stuck()

    async def abort(request: bytes, context: Any) -> None:
        await context.abort(grpc.StatusCode.NOT_FOUND, "none")

    async with serving({"Abort": unary(abort), **stuck.handlers()}) as (_, channel):
        await failure(channel.unary_unary(path("Abort"))(b""))
        call = channel.unary_unary(path("Unary"))(b"")
        await stuck.begun.wait()
        call.cancel()
        await stuck.ended.wait()
        await failure(channel.unary_unary(path("Unary"))(b"", timeout=0.05))
    assert [each for each in caplog.records if each.name.startswith("tai_grpc")] == []


async def test_the_internal_wrap_is_applied_once_to_a_method() -> None:
    """It is how GrpcServer puts its layers around handlers, at no cost for a call."""
    wrapped: list[str] = []

    def wrap(method: str, handler: Any) -> Any:
        wrapped.append(method)

        async def outer(request: bytes, context: Any) -> bytes:
            answer: bytes = await handler.unary_unary(request, context)
            return b"<" + answer + b">"

        return unary(outer)

    server: Any = Server(None, None, None, None, None, None, wrap=wrap)
    handlers = {"Echo": BASIC["Echo"]}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_registered_method_handlers("other.Service", handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel: Any
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        for method in (path("Echo"), "/other.Service/Echo") * 3:
            assert await channel.unary_unary(method)(b"x") == b"<x>"
    await server.stop(None)
    assert sorted(wrapped) == ["/other.Service/Echo", path("Echo")]


async def test_paths_that_a_peer_makes_up_are_not_kept() -> None:
    async with serving() as (server, channel):
        for number in range(50):
            error = await failure(channel.unary_unary(f"/{SERVICE}/{number}")(b""))
            assert error.code() is grpc.StatusCode.UNIMPLEMENTED
        assert await channel.unary_unary(path("Echo"))(b"x") == b"x"
        assert set(server._registry.methods) == {path("Echo").encode()}


async def test_a_generic_handler_of_ones_own_is_asked_for_each_call() -> None:
    asked: list[Any] = []

    class Generic(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            asked.append((details.method, dict(details.invocation_metadata)["n"]))
            return BASIC["Echo"]

    async with serving() as (server, channel):
        server.add_generic_rpc_handlers((Generic(),))
        for number in ("1", "2"):
            assert await channel.unary_unary("/any/thing")(b"x", metadata=(("n", number),)) == b"x"
    assert asked == [("/any/thing", "1"), ("/any/thing", "2")]


async def test_a_generic_handler_that_fails_with_text_that_is_no_unicode_fails_its_call_alone() -> None:
    class Generic(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            raise ValueError("\ud800")

    stuck = Stuck()
    async with serving({**BASIC, **stuck.handlers()}) as (server, channel):
        server.add_generic_rpc_handlers((Generic(),))
        other = channel.unary_unary(path("Unary"))(b"x")
        await stuck.begun.wait()
        error = await failure(channel.unary_unary("/any/thing")(b""))
        assert (error.code(), error.details()) == (
            grpc.StatusCode.UNKNOWN,
            "Unexpected <class 'ValueError'>: ?",
        )
        stuck.release.set()
        assert await other == b"x"


async def test_a_log_that_fails_costs_no_other_call() -> None:
    """What a call's event leads to stays with that call, and is told to the loop."""

    class Failing(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise RuntimeError("no log")

    def unreadable(data: bytes) -> bytes:
        raise ValueError("unreadable")

    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    log, failing = logging.getLogger("tai_grpc.aio._server"), Failing()
    stuck = Stuck()
    handlers = {**stuck.handlers(), "Unreadable": unary(BASIC["Echo"].unary_unary, unreadable)}
    async with serving(handlers) as (server, channel):
        other = channel.unary_unary(path("Unary"))(b"x")
        await stuck.begun.wait()
        log.addFilter(failing)
        try:
            error = await failure(channel.unary_unary(path("Unreadable"))(b""))
        finally:
            log.removeFilter(failing)
        assert error.details() == "Unexpected <class 'ValueError'>: unreadable"
        assert [str(each) for each in told] == ["no log"]
        stuck.release.set()
        assert await other == b"x"
        await until(lambda: server._service.calls == 0)


@pytest.mark.parametrize("what", ["read", "write", "anext"])
async def test_what_is_never_awaited_is_warned_of(what: str) -> None:
    """As Python does for a coroutine: a forgotten `await` would lose a message in silence."""

    async def forgetful(requests: Any, context: Any) -> AsyncIterator[bytes]:
        with pytest.warns(RuntimeWarning, match="never awaited"):
            if what == "read":
                context.read()
            elif what == "write":
                context.write(b"lost")
            else:
                anext(requests)
        task = asyncio.create_task(context.read())
        task.cancel()  # before it has begun
        async for each in requests:
            yield each

    async with serving({"Chat": chat(forgetful)}) as (_, channel):
        assert await read_all(channel.stream_stream(path("Chat"))(iter((b"1", b"2")))) == [b"1", b"2"]


async def test_a_read_that_is_cancelled_loses_no_message() -> None:
    entered = asyncio.Event()

    async def impatient(requests: Any, context: Any) -> AsyncIterator[bytes]:
        for _ in range(20):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(context.read(), 0.001)
        entered.set()
        yield await context.read()
        async for each in requests:
            yield each

    async with serving({"Chat": chat(impatient)}) as (_, channel):
        call = channel.stream_stream(path("Chat"))()
        await entered.wait()
        for each in (b"1", b"2"):
            await call.write(each)
        await call.done_writing()
        assert await read_all(call) == [b"1", b"2"]


async def test_a_write_can_be_made_a_task_and_does_nothing_before_it_is_awaited() -> None:
    async def write(request: bytes, context: Any) -> None:
        dropped = context.write(b"dropped")
        await asyncio.gather(*(asyncio.create_task(context.write(b"%d" % n)) for n in range(3)))
        dropped.close()
        second = context.write(b"last")
        await second
        with pytest.raises(RuntimeError, match="already awaited"):
            await second

    async with serving({"Write": split(write)}) as (_, channel):
        messages = await read_all(channel.unary_stream(path("Write"))(b""))
        assert messages == [b"0", b"1", b"2", b"last"]


async def test_a_writer_waits_while_its_client_does_not_read() -> None:
    written = 0

    async def pour(request: bytes, context: Any) -> None:
        nonlocal written
        while True:
            await context.write(bytes(65536))
            written += 1

    async with serving({"Pour": split(pour)}) as (server, _):
        port = server._ports[0][0].port
        async with RawClient(port) as client:
            client.hello()
            client.call(1, path("Pour"))
            await client.next(DATA)
            # The window of 65,535 bytes is used up, one message more is queued, and the next one waits.
            await asyncio.sleep(0.1)
            assert written <= 2
            client.send(Frame(RST_STREAM, 0, 1, b"\0\0\0\x08"))
            await until(lambda: server._service.calls == 0)


async def test_a_context_outlives_its_connection() -> None:
    stuck = Stuck()
    async with serving(stuck.handlers()) as (server, _):
        async with RawClient(server._ports[0][0].port) as client:
            client.hello()
            client.send(
                Frame(HEADERS, END_HEADERS, 1, request(path("Chat"), ("k", "v"), ("grpc-timeout", "50S"))),
                Frame(DATA, 0, 1, message(b"unread")),
            )
            await stuck.begun.wait()
        await stuck.ended.wait()
    context = stuck.context
    gc.collect()
    assert ("k", "v") in context.invocation_metadata()
    assert context.peer().startswith("ipv4:127.0.0.1:")
    assert context.auth_context()["transport_security_type"] == [b"insecure"]
    assert 0 < context.time_remaining() <= 50
    assert context.done() is context.cancelled() is False
    for late in (context.read(), context.write(b""), context.send_initial_metadata(())):
        with pytest.raises(grpc.aio.InternalError):
            await late
    with pytest.raises(grpc.aio.AbortError):
        await context.abort(grpc.StatusCode.ABORTED)
    called = asyncio.Event()
    context.add_done_callback(lambda _: called.set())
    await called.wait()


async def test_plain_handlers_run_in_the_pool_that_was_given() -> None:
    names: set[str] = set()

    def plain(request: bytes, context: Any) -> Iterator[bytes]:
        for number in range(3):
            names.add(threading.current_thread().name)
            yield b"%d" % number

    with ThreadPoolExecutor(1, thread_name_prefix="mine") as pool:
        async with serving({"Plain": split(plain)}, migration_thread_pool=pool) as (_, channel):
            assert await read_all(channel.unary_stream(path("Plain"))(b"")) == [b"0", b"1", b"2"]
    assert names == {"mine_0"}


async def test_a_plain_handler_whose_client_is_gone_ends_when_it_next_writes() -> None:
    ended = threading.Event()
    go_on = threading.Event()

    def endless(request: bytes, context: Any) -> Iterator[bytes]:
        try:
            yield b"first"
            go_on.wait(20)
            while True:
                yield b"more"
        finally:
            ended.set()

    async with serving({"Endless": split(endless)}) as (_, channel):
        call = channel.unary_stream(path("Endless"))(b"")
        assert await call.read() == b"first"
        call.cancel()
        go_on.set()
        assert await asyncio.to_thread(ended.wait, 20)


@pytest.mark.parametrize("kind", ["unary", "stream", "cancelled", "deadline", "failed", "unknown", "reset"])
async def test_calls_leave_nothing_behind(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """The contexts of 1,000 calls are gone when the calls are, without the garbage collector."""
    stuck = Stuck()
    handlers = {"Fail": unary(fail), **stuck.handlers(), **BASIC}

    async def one(channel: Any) -> None:
        if kind == "unary":
            await channel.unary_unary(path("Echo"))(b"x", timeout=20)
        elif kind == "stream":
            call = channel.stream_stream(path("Chat"))()
            await call.write(b"x")
            assert await call.read() == b"x"
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF
        elif kind in ("cancelled", "reset"):
            call = channel.unary_unary(path("Unary"))(b"x")
            if kind == "cancelled":
                stuck.begun.clear()
                await stuck.begun.wait()
            else:
                await asyncio.sleep(0)
            call.cancel()
        elif kind == "deadline":
            await failure(channel.unary_unary(path("Unary"))(b"x", timeout=0.01))
        elif kind == "failed":
            await failure(channel.unary_unary(path("Fail"))(b"x"))
        else:
            await failure(channel.unary_unary("/no/Method")(b"x"))

    with caplog.at_level(logging.CRITICAL):
        async with serving(handlers) as (server, channel):
            await one(channel)
            gc.collect()
            gc.disable()
            try:
                for _ in range(10):
                    await asyncio.gather(*(one(channel) for _ in range(100 if kind != "cancelled" else 1)))
                await until(lambda: server._service.calls == server._service.admitted == 0)
                stuck.context = None
                del caplog.records[:]
                left = [each for each in gc.get_objects() if isinstance(each, ServicerContext)]
                # One may still be held by the loop's turn that ended it.
                assert len(left) <= 2
            finally:
                gc.enable()
    gc.collect()
    assert [each for each in gc.get_objects() if isinstance(each, ServicerContext)] == []


async def test_an_abort_leaves_no_cycle() -> None:
    async def abort(request: bytes, context: Any) -> None:
        await context.abort(grpc.StatusCode.NOT_FOUND, "none")

    async with serving({"Abort": unary(abort)}) as (_, channel):
        gc.collect()
        gc.disable()
        try:
            for _ in range(10):
                await failure(channel.unary_unary(path("Abort"))(b""))
            left = [each for each in gc.get_objects() if isinstance(each, ServicerContext)]
            assert len(left) <= 2
        finally:
            gc.enable()
