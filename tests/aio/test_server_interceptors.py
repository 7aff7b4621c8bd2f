"""Server interceptors."""

import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from grpc import StatusCode

from aio.link import BASIC, Link, chat, failure, path, read_all, unary

Intercept = Callable[[Any, Any], Awaitable[Any]]


def interceptor(link: Link, intercept: Intercept) -> Any:
    """Return an interceptor that does what `intercept(continuation, details)` does."""

    class Interceptor(link.rpc.ServerInterceptor):  # type: ignore[misc, name-defined]  # of the fixture
        async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
            return await intercept(continuation, handler_call_details)

    return Interceptor()


async def opened(link: Link, *interceptors: Intercept, handlers: Any = BASIC, **settings: Any) -> Any:
    made = [interceptor(link, one) for one in interceptors]
    return await link.open(handlers, interceptors=made, **settings)


async def forward(continuation: Any, details: Any) -> Any:
    return await continuation(details)


async def test_forwarding_changes_nothing(link: Link) -> None:
    channel = await opened(link, forward, forward)
    assert await channel.unary_unary(path("Echo"))(b"x") == b"x"
    assert await read_all(channel.unary_stream(path("Split"))(b"ab")) == [b"a", b"b"]
    assert await channel.stream_unary(path("Join"))([b"a", b"b"]) == b"ab"
    assert await read_all(channel.stream_stream(path("Chat"))([b"a", b"b"])) == [b"a", b"b"]


async def test_what_an_interceptor_is_told(link: Link) -> None:
    seen: list[tuple[str, Any]] = []

    async def look(continuation: Any, details: Any) -> Any:
        seen.append((details.method, dict(details.invocation_metadata)["word"]))
        return await continuation(details)

    channel = await opened(link, look)
    await channel.unary_unary(path("Echo"))(b"", metadata=(("word", "w"),))
    assert await channel.unary_unary("/no/thing")(b"", metadata=(("word", "v"),)).code() is (
        StatusCode.UNIMPLEMENTED
    )
    assert seen == [(path("Echo"), "w"), ("/no/thing", "v")]


async def test_the_first_interceptor_is_the_outermost(link: Link) -> None:
    order: list[str] = []

    def named(name: str) -> Intercept:
        async def note(continuation: Any, details: Any) -> Any:
            order.append(name)
            handler = await continuation(details)
            order.append(f"/{name}")
            return handler

        return note

    channel = await opened(link, named("a"), named("b"))
    assert await channel.unary_unary(path("Echo"))(b"x") == b"x"
    assert order == ["a", "b", "/b", "/a"]


async def test_the_continuation_returns_the_handler(link: Link) -> None:
    seen: list[Any] = []

    async def look(continuation: Any, details: Any) -> Any:
        handler = await continuation(details)
        seen.append(handler)
        return handler

    channel = await opened(link, look)
    await channel.unary_unary(path("Echo"))(b"")
    await read_all(channel.stream_stream(path("Chat"))([]))
    assert await channel.unary_unary("/no/thing")(b"").code() is StatusCode.UNIMPLEMENTED
    assert seen == [BASIC["Echo"], BASIC["Chat"], None]
    assert not seen[0].request_streaming
    assert seen[1].response_streaming


async def test_a_handler_may_be_replaced(link: Link) -> None:
    async def denied(request: bytes, context: Any) -> bytes:
        await context.abort(StatusCode.UNAUTHENTICATED, "who are you?")
        raise AssertionError

    async def guard(continuation: Any, details: Any) -> Any:
        if "token" in dict(details.invocation_metadata):
            return await continuation(details)
        return unary(denied)

    channel = await opened(link, guard)
    error = await failure(channel.unary_unary(path("Echo"))(b""))
    assert (error.code(), error.details()) == (StatusCode.UNAUTHENTICATED, "who are you?")
    assert await channel.unary_unary(path("Echo"))(b"x", metadata=(("token", "t"),)) == b"x"


async def test_a_handler_may_be_wrapped(link: Link) -> None:
    async def wrap(continuation: Any, details: Any) -> Any:
        handler = await continuation(details)

        async def around(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            yield b"before"
            async for response in handler.stream_stream(requests, context):
                yield response
            yield b"after"

        return chat(around, handler.request_deserializer, handler.response_serializer)

    channel = await opened(link, wrap)
    assert await read_all(channel.stream_stream(path("Chat"))([b"x"])) == [b"before", b"x", b"after"]


async def test_a_handler_may_be_made_for_an_unknown_method(link: Link) -> None:
    async def invent(continuation: Any, details: Any) -> Any:
        return await continuation(details) or BASIC["Echo"]

    channel = await opened(link, invent)
    assert await channel.unary_unary("/any/Thing")(b"x") == b"x"


async def test_an_interceptor_that_gives_none_leaves_the_method_unimplemented(link: Link) -> None:
    async def hide(continuation: Any, details: Any) -> Any:
        return None

    channel = await opened(link, hide)
    error = await failure(channel.unary_unary(path("Echo"))(b""))
    assert (error.code(), error.details()) == (StatusCode.UNIMPLEMENTED, "Method not found!")


async def test_an_interceptor_that_fails_fails_the_call(link: Link) -> None:
    failed: list[bool] = []

    async def fail_once(continuation: Any, details: Any) -> Any:
        if not failed:
            failed.append(True)
            raise ValueError("the interceptor's")
        return await continuation(details)

    channel = await opened(link, fail_once)
    error = await failure(channel.unary_unary(path("Echo"))(b""))
    assert (error.code(), error.details()) == (
        StatusCode.UNKNOWN,
        "Unexpected <class 'ValueError'>: the interceptor's",
    )
    assert await channel.unary_unary(path("Echo"))(b"x") == b"x"


async def test_context_variables_reach_the_handler(link: Link) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    async def tell(request: bytes, context: Any) -> bytes:
        return variable.get().encode()

    async def set_it(continuation: Any, details: Any) -> Any:
        assert variable.get() == "unset"
        variable.set(dict(details.invocation_metadata)["word"])
        return await continuation(details)

    channel = await opened(link, set_it, handlers={"Tell": unary(tell)})
    calls = [channel.unary_unary(path("Tell"))(b"", metadata=(("word", word),)) for word in ("a", "b", "c")]
    assert [await call for call in calls] == [b"a", b"b", b"c"]


async def test_interceptors_run_before_the_limit_of_calls_refuses(link: Link) -> None:
    """A call over the limit is seen by them, and is refused only if its method is known."""
    seen: list[str] = []

    async def note(continuation: Any, details: Any) -> Any:
        seen.append(details.method)
        return await continuation(details)

    async def inner(request: bytes, context: Any) -> bytes:
        # From within the one call that there is room for.
        over = await channel.unary_unary(path("Echo"))(b"").code()
        unknown = await channel.unary_unary("/no/thing")(b"").code()
        return f"{over.name} {unknown.name}".encode()

    channel = await opened(link, note, handlers={"Inner": unary(inner), **BASIC}, maximum_concurrent_rpcs=1)
    answer = await channel.unary_unary(path("Inner"))(b"")
    assert answer == b"RESOURCE_EXHAUSTED UNIMPLEMENTED"
    assert seen == [path("Inner"), path("Echo"), "/no/thing"]


async def test_registered_methods_pass_the_interceptors_too(link: Link) -> None:
    seen: list[str] = []

    async def note(continuation: Any, details: Any) -> Any:
        seen.append(details.method)
        return await continuation(details)

    server = link.make_server(interceptors=[interceptor(link, note)])
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = dict(BASIC)
    server.add_registered_method_handlers("some.Service", handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = link.channel(f"127.0.0.1:{port}")
    assert await channel.unary_unary("/some.Service/Echo")(b"x") == b"x"
    assert seen == ["/some.Service/Echo"]
