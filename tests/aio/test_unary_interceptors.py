"""Client interceptors of calls with one request and one response."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from grpc import StatusCode

from aio.link import BASIC, Link, Stuck, failure, path, unary

Intercept = Callable[[Any, Any, Any], Awaitable[Any]]


def interceptor(link: Link, intercept: Intercept) -> Any:
    """Return an interceptor that does what `intercept(continuation, details, request)` does."""

    class Interceptor(link.rpc.UnaryUnaryClientInterceptor):  # type: ignore[misc, name-defined]
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            return await intercept(continuation, details, request)

    return Interceptor()


async def tell(request: bytes, context: Any) -> bytes:
    """Answer with the request and the word that came as metadata."""
    context.set_trailing_metadata((("told", "yes"),))
    word: str = dict(context.invocation_metadata()).get("word", "-")
    return request + word.encode()


async def opened(link: Link, *interceptors: Intercept, stuck: Stuck | None = None) -> Any:
    handlers = {**BASIC, "Tell": unary(tell), **(stuck.handlers() if stuck else {})}
    _, target = await link.serve(handlers)
    return link.channel(target, interceptors=[interceptor(link, one) for one in interceptors])


async def forward(continuation: Any, details: Any, request: Any) -> Any:
    return await continuation(details, request)


async def test_an_interceptor_that_forwards_changes_nothing(link: Link) -> None:
    channel = await opened(link, forward)
    call = channel.unary_unary(path("Tell"))(b"x", metadata=(("word", "w"),), timeout=20)
    assert isinstance(call, link.rpc.UnaryUnaryCall)
    assert isinstance(call, link.rpc.InterceptedUnaryUnaryCall)
    assert not call.done()
    seen: list[Any] = []
    call.add_done_callback(seen.append)
    assert await call == b"xw"
    assert await call == b"xw"
    assert call.done()
    assert not call.cancelled()
    assert not call.cancel()
    assert await call.code() is StatusCode.OK
    assert await call.details() == ""
    assert await call.initial_metadata() == link.rpc.Metadata()
    assert await call.trailing_metadata() == link.rpc.Metadata(("told", "yes"))
    assert seen == [call]
    call.add_done_callback(seen.append)
    assert seen == [call, call]


async def test_what_an_interceptor_is_told(link: Link) -> None:
    seen: list[Any] = []

    async def look(continuation: Any, details: Any, request: Any) -> Any:
        seen.append((details, request))
        return await continuation(details, request)

    channel = await opened(link, look)
    await channel.unary_unary(path("Tell"))(
        b"x", metadata=(("a", "1"), ("a", "2")), timeout=20, wait_for_ready=True
    )
    ((details, request),) = seen
    assert isinstance(details, link.rpc.ClientCallDetails)
    assert request == b"x"
    assert details.method == path("Tell").encode()
    assert details.timeout == 20
    assert details.wait_for_ready is True
    assert details.credentials is None
    assert isinstance(details.metadata, link.rpc.Metadata)
    assert list(details.metadata) == [("a", "1"), ("a", "2")]


async def test_the_first_interceptor_is_the_outermost(link: Link) -> None:
    order: list[str] = []

    def named(name: str) -> Intercept:
        async def note(continuation: Any, details: Any, request: Any) -> Any:
            order.append(name)
            call = await continuation(details, request + name.encode())
            order.append(f"/{name}")
            return call

        return note

    channel = await opened(link, named("a"), named("b"))
    assert await channel.unary_unary(path("Echo"))(b"x") == b"xab"
    assert order == ["a", "b", "/b", "/a"]


async def test_metadata_timeout_request_and_method_can_be_changed(link: Link) -> None:
    async def change(continuation: Any, details: Any, request: Any) -> Any:
        changed = details._replace(method=path("Tell").encode(), metadata=link.rpc.Metadata(("word", "new")))
        return await continuation(changed, request + b"!")

    channel = await opened(link, change)
    assert await channel.unary_unary(path("Echo"))(b"x", metadata=(("word", "old"),)) == b"x!new"


async def test_metadata_can_be_added_in_place(link: Link) -> None:
    async def add(continuation: Any, details: Any, request: Any) -> Any:
        details.metadata.add("word", "added")
        return await continuation(details, request)

    channel = await opened(link, add)
    assert await channel.unary_unary(path("Tell"))(b"x") == b"xadded"


async def test_a_timeout_can_be_given(link: Link) -> None:
    stuck = Stuck()

    async def hurry(continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(details._replace(timeout=0.1), request)

    channel = await opened(link, hurry, stuck=stuck)
    error = await failure(channel.unary_unary(path("Unary"))(b"", timeout=100))
    assert error.code() is StatusCode.DEADLINE_EXCEEDED
    await stuck.ended.wait()


@pytest.mark.parametrize("how", ["without a call", "of a call that was awaited"])
async def test_a_plain_response_may_be_returned(link: Link, how: str) -> None:
    async def answer(continuation: Any, details: Any, request: Any) -> Any:
        return b"plain" if how == "without a call" else await (await continuation(details, b"plain"))

    channel = await opened(link, answer)
    call = channel.unary_unary(path("Echo"))(b"x")
    assert await call == b"plain"
    assert await call.code() is StatusCode.OK
    assert await call.details() == ""
    assert await call.initial_metadata() is None
    assert await call.trailing_metadata() is None
    assert call.done()
    assert not call.cancelled()
    assert not call.cancel()


async def test_an_interceptor_may_read_the_answer_and_return_the_call(link: Link) -> None:
    seen: list[Any] = []

    async def look(continuation: Any, details: Any, request: Any) -> Any:
        call = await continuation(details, request)
        seen.append((await call, await call.code(), list(await call.trailing_metadata())))
        return call

    channel = await opened(link, look)
    call = channel.unary_unary(path("Tell"))(b"x")
    assert await call == b"x-"
    assert seen == [(b"x-", StatusCode.OK, [("told", "yes")])]


async def test_an_interceptor_may_try_again(link: Link) -> None:
    tried: list[StatusCode] = []

    async def retry(continuation: Any, details: Any, request: Any) -> Any:
        call = await continuation(details._replace(method=b"/no/thing"), request)
        tried.append(await call.code())
        return await continuation(details, request)

    channel = await opened(link, retry)
    assert await channel.unary_unary(path("Echo"))(b"x") == b"x"
    assert tried == [StatusCode.UNIMPLEMENTED]


async def test_the_error_of_the_call_comes_through(link: Link) -> None:
    channel = await opened(link, forward)
    call = channel.unary_unary("/no/thing")(b"")
    error = await failure(call)
    assert (error.code(), error.details()) == (StatusCode.UNIMPLEMENTED, "Method not found!")
    assert await call.code() is StatusCode.UNIMPLEMENTED
    assert call.done()


async def test_an_rpc_error_of_an_interceptor_is_the_calls(link: Link) -> None:
    async def refuse(continuation: Any, details: Any, request: Any) -> Any:
        trailing = link.rpc.Metadata(("why", "so"))
        raise link.rpc.AioRpcError(StatusCode.ABORTED, link.rpc.Metadata(), trailing, "by the interceptor")

    channel = await opened(link, refuse)
    call = channel.unary_unary(path("Echo"))(b"")
    error = await failure(call)
    assert (error.code(), error.details()) == (StatusCode.ABORTED, "by the interceptor")
    assert (await call.code(), await call.details()) == (StatusCode.ABORTED, "by the interceptor")
    assert await call.trailing_metadata() == link.rpc.Metadata(("why", "so"))
    assert call.done()
    assert not call.cancelled()


async def test_any_other_exception_of_an_interceptor_is_raised_where_the_call_is_awaited(link: Link) -> None:
    async def fail(continuation: Any, details: Any, request: Any) -> Any:
        raise ValueError("the interceptor's")

    channel = await opened(link, fail)
    call = channel.unary_unary(path("Echo"))(b"")
    seen: list[Any] = []
    call.add_done_callback(seen.append)
    for _ in range(2):
        with pytest.raises(ValueError, match="the interceptor's"):
            await call
    with pytest.raises(ValueError, match="the interceptor's"):
        await call.code()
    assert call.done()
    assert seen == [call]


async def test_cancel_while_the_interceptor_waits(link: Link) -> None:
    entered = asyncio.Event()

    async def wait(continuation: Any, details: Any, request: Any) -> Any:
        entered.set()
        await asyncio.Event().wait()

    channel = await opened(link, wait)
    call = channel.unary_unary(path("Echo"))(b"")
    await entered.wait()
    assert call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert call.cancelled()
    assert call.done()
    assert await call.code() is StatusCode.CANCELLED
    assert await call.details() == "Locally cancelled by application!"
    assert not call.cancel()


async def test_cancel_while_the_call_runs(link: Link) -> None:
    stuck = Stuck()
    channel = await opened(link, forward, stuck=stuck)
    call = channel.unary_unary(path("Unary"))(b"")
    await stuck.begun.wait()
    assert call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await call.code() is StatusCode.CANCELLED
    await stuck.ended.wait()
    assert stuck.cancelled


async def test_wait_for_connection_of_an_intercepted_call(link: Link) -> None:
    channel = await opened(link, forward)
    call = channel.unary_unary(path("Echo"))(b"x")
    await call.wait_for_connection()
    assert await call == b"x"


async def test_an_interceptor_is_for_its_own_kind_only(link: Link) -> None:
    async def fail(continuation: Any, details: Any, request: Any) -> Any:
        raise AssertionError("not a call with one request and one response")

    channel = await opened(link, fail)
    assert await channel.stream_unary(path("Join"))([b"x"]) == b"x"


async def test_the_time_remaining_of_an_intercepted_call(link: Link) -> None:
    """Defect of grpc.aio: it does not tell."""
    channel = await opened(link, forward)
    call = channel.unary_unary(path("Echo"))(b"x", timeout=20)
    await call
    if link.is_grpcio:
        with pytest.raises(NotImplementedError):
            call.time_remaining()
    else:
        assert 0 < call.time_remaining() <= 20
