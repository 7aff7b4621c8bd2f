"""How a handler gives its call a status: abort, set_code and set_details, exceptions."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import grpc
import pytest
from grpc import StatusCode

from aio.link import BASIC, Handlers, Link, broken, chat, failure, path, split, unary

TEXTS = ["plain", "ünïcödé 🦊", "two\nlines\ttab", "100 % of %41", "", " blanks ", "x" * 3000]


async def outcome(link: Link, handlers: Handlers, request: bytes = b"") -> Any:
    """Call the one handler; return the error it made."""
    channel = await link.open(handlers)
    (name,) = handlers
    return await failure(channel.unary_unary(path(name))(request))


@pytest.mark.parametrize("code", [code for code in StatusCode if code is not StatusCode.OK])
async def test_every_code_arrives(link: Link, code: StatusCode) -> None:
    async def refuse(request: bytes, context: Any) -> bytes:
        await context.abort(code, "as told")
        raise AssertionError

    error = await outcome(link, {"Refuse": unary(refuse)})
    assert (error.code(), error.details()) == (code, "as told")


@pytest.mark.parametrize("text", TEXTS)
async def test_any_details_arrive(link: Link, text: str) -> None:
    async def refuse(request: bytes, context: Any) -> bytes:
        await context.abort(StatusCode.INTERNAL, text)
        raise AssertionError

    error = await outcome(link, {"Refuse": unary(refuse)})
    assert error.details() == text


async def test_a_code_may_be_its_number(link: Link) -> None:
    async def refuse(request: bytes, context: Any) -> bytes:
        await context.abort(StatusCode.NOT_FOUND.value[0], "by number")
        raise AssertionError

    error = await outcome(link, {"Refuse": unary(refuse)})
    assert (error.code(), error.details()) == (StatusCode.NOT_FOUND, "by number")


async def test_abort_sends_trailing_metadata_and_keeps_initial_metadata(link: Link) -> None:
    async def refuse(request: bytes, context: Any) -> bytes:
        await context.send_initial_metadata((("first", "1"),))
        await context.abort(StatusCode.ABORTED, "no", (("why", "because"), ("raw-bin", b"\x00\xff")))
        raise AssertionError

    error = await outcome(link, {"Refuse": unary(refuse)})
    assert tuple(error.initial_metadata()) == (("first", "1"),)
    assert tuple(error.trailing_metadata()) == (("why", "because"), ("raw-bin", b"\x00\xff"))


async def test_abort_takes_what_was_set_before(link: Link) -> None:
    async def refuse(request: bytes, context: Any) -> bytes:
        context.set_details("set before")
        context.set_trailing_metadata((("why", "set before"),))
        await context.abort(StatusCode.ABORTED)
        raise AssertionError

    error = await outcome(link, {"Refuse": unary(refuse)})
    assert (error.code(), error.details()) == (StatusCode.ABORTED, "set before")
    assert tuple(error.trailing_metadata()) == (("why", "set before"),)


async def test_what_abort_is_given_goes_before_what_was_set(link: Link) -> None:
    async def refuse(request: bytes, context: Any) -> bytes:
        context.set_code(StatusCode.DATA_LOSS)
        context.set_details("set before")
        context.set_trailing_metadata((("why", "set before"),))
        await context.abort(StatusCode.ABORTED, "given", (("why", "given"),))
        raise AssertionError

    error = await outcome(link, {"Refuse": unary(refuse)})
    assert (error.code(), error.details()) == (StatusCode.ABORTED, "given")
    assert tuple(error.trailing_metadata()) == (("why", "given"),)


async def test_abort_with_status(link: Link) -> None:
    class Status(NamedTuple):
        code: StatusCode
        details: str
        trailing_metadata: tuple[tuple[str, str | bytes], ...]

    async def refuse(request: bytes, context: Any) -> bytes:
        await context.abort_with_status(Status(StatusCode.OUT_OF_RANGE, "too far", (("limit", "3"),)))
        raise AssertionError

    error = await outcome(link, {"Refuse": unary(refuse)})
    assert (error.code(), error.details()) == (StatusCode.OUT_OF_RANGE, "too far")
    assert tuple(error.trailing_metadata()) == (("limit", "3"),)


async def test_abort_raises_abort_error_and_once_only(link: Link) -> None:
    raised: list[BaseException] = []
    ended = asyncio.Event()

    async def refuse(request: bytes, context: Any) -> bytes:
        try:
            await context.abort(StatusCode.ABORTED, "first")
        except Exception as error:
            raised.append(error)
        try:
            await context.abort(StatusCode.INTERNAL, "second")
        except Exception as error:
            raised.append(error)
        ended.set()
        raise raised[0]

    error = await outcome(link, {"Refuse": unary(refuse)})
    assert (error.code(), error.details()) == (StatusCode.ABORTED, "first")
    await ended.wait()
    assert [type(error) for error in raised] == [link.rpc.AbortError, link.rpc.UsageError]
    assert issubclass(link.rpc.AbortError, link.rpc.BaseError)


async def test_a_suppressed_abort_stands(link: Link) -> None:
    async def refuse(request: bytes, context: Any) -> bytes:
        try:
            await context.abort(StatusCode.ABORTED, "meant")
        except link.rpc.AbortError:
            return b"never seen"
        raise AssertionError

    error = await outcome(link, {"Refuse": unary(refuse)})
    assert (error.code(), error.details()) == (StatusCode.ABORTED, "meant")


async def test_the_status_of_an_abort_does_not_wait_for_the_handler(link: Link) -> None:
    release = asyncio.Event()
    ended = asyncio.Event()

    async def refuse(request: bytes, context: Any) -> bytes:
        try:
            await context.abort(StatusCode.ABORTED, "at once")
        finally:
            await release.wait()
            ended.set()
        raise AssertionError

    error = await outcome(link, {"Refuse": unary(refuse)})
    assert error.code() is StatusCode.ABORTED
    assert not ended.is_set()
    release.set()
    await ended.wait()


async def test_abort_in_the_middle_of_a_stream(link: Link) -> None:
    after: list[BaseException] = []
    ended = asyncio.Event()

    async def refuse(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"1"
        try:
            await context.abort(StatusCode.ABORTED, "half way")
        except link.rpc.AbortError:
            try:
                await context.write(b"2")
            except Exception as error:
                after.append(error)
            ended.set()
            raise

    channel = await link.open({"Refuse": split(refuse)})
    messages, error = await broken(channel.unary_stream(path("Refuse"))(b""))
    assert (messages, error.code(), error.details()) == ([b"1"], StatusCode.ABORTED, "half way")
    await ended.wait()
    assert [type(error) for error in after] == [link.rpc.AbortError]


async def test_set_code_sends_no_response(link: Link) -> None:
    async def refuse(request: bytes, context: Any) -> bytes | None:
        context.set_code(StatusCode.DATA_LOSS)
        context.set_details("lost")
        return None if request else b"unseen"

    channel = await link.open({"Refuse": unary(refuse)})
    for request in (b"", b"none"):
        error = await failure(channel.unary_unary(path("Refuse"))(request))
        assert (error.code(), error.details()) == (StatusCode.DATA_LOSS, "lost")


async def test_set_code_after_messages_of_a_stream(link: Link) -> None:
    async def refuse(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"1"
        context.set_code(StatusCode.RESOURCE_EXHAUSTED)
        context.set_details("after one")

    channel = await link.open({"Refuse": split(refuse)})
    messages, error = await broken(channel.unary_stream(path("Refuse"))(b""))
    assert (messages, error.code()) == ([b"1"], StatusCode.RESOURCE_EXHAUSTED)
    assert error.details() == "after one"


async def test_what_is_set_can_be_read(link: Link) -> None:
    seen: list[Any] = []

    async def look(request: bytes, context: Any) -> bytes:
        seen.append((context.code(), context.details(), context.trailing_metadata()))
        context.set_code(StatusCode.OK)
        context.set_details("fine")
        context.set_trailing_metadata((("a", "1"), ("a", "2")))
        seen.append((context.code(), context.details(), context.trailing_metadata()))
        return request

    channel = await link.open({"Look": unary(look)})
    call = channel.unary_unary(path("Look"))(b"x")
    assert await call == b"x"
    assert seen == [(None, "", ()), (StatusCode.OK, "fine", (("a", "1"), ("a", "2")))]
    assert await call.code() is StatusCode.OK
    assert await call.details() in ("", "fine")  # grpc.aio drops the details of OK


async def test_an_exception_is_unknown_and_logged_once(link: Link, caplog: pytest.LogCaptureFixture) -> None:
    async def fail(request: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((("seen", "yes"),))
        raise ValueError("went wrong")

    channel = await link.open({"Fail": unary(fail), **BASIC})
    with caplog.at_level(logging.ERROR):
        error = await failure(channel.unary_unary(path("Fail"))(b""))
    assert error.code() is StatusCode.UNKNOWN
    assert error.details() == "Unexpected <class 'ValueError'>: went wrong"
    assert tuple(error.trailing_metadata()) == (("seen", "yes"),)
    (record,) = [record for record in caplog.records if path("Fail") in record.getMessage()]
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert await channel.unary_unary(path("Echo"))(b"goes on") == b"goes on"


async def test_an_exception_after_messages_of_a_stream(link: Link) -> None:
    async def fail(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request
        raise KeyError("late")

    channel = await link.open({"Fail": chat(fail)})
    messages, error = await broken(channel.stream_stream(path("Fail"))([b"1", b"2"]))
    assert (messages, error.code()) == ([b"1", b"2"], StatusCode.UNKNOWN)
    assert error.details() == "Unexpected <class 'KeyError'>: 'late'"


async def test_an_exception_takes_the_code_that_was_set(link: Link) -> None:
    async def fail(request: bytes, context: Any) -> bytes:
        context.set_code(StatusCode.FAILED_PRECONDITION)
        context.set_details("not these")
        raise ValueError("went wrong")

    error = await outcome(link, {"Fail": unary(fail)})
    assert error.code() is StatusCode.FAILED_PRECONDITION
    assert error.details() == "Unexpected <class 'ValueError'>: went wrong"


async def test_the_error_of_another_call_is_an_exception_like_any(link: Link) -> None:
    async def forward(request: bytes, context: Any) -> bytes:
        raise link.rpc.AioRpcError(StatusCode.NOT_FOUND, link.rpc.Metadata(), link.rpc.Metadata(), "inner")

    error = await outcome(link, {"Forward": unary(forward)})
    assert error.code() is StatusCode.UNKNOWN
    assert error.details().startswith("Unexpected <class '")
    assert "inner" in error.details()


async def test_a_handler_that_cancels_itself_fails_its_call(link: Link) -> None:
    """Defect of grpc.aio: it answers nothing then, and the call waits for its deadline."""

    async def give_up(request: bytes, context: Any) -> bytes:
        raise asyncio.CancelledError

    channel = await link.open({"GiveUp": unary(give_up)})
    error = await failure(channel.unary_unary(path("GiveUp"))(b"", timeout=0.2 if link.is_grpcio else 20))
    answers = (StatusCode.CANCELLED, StatusCode.UNKNOWN)
    assert error.code() in answers or (link.is_grpcio and error.code() is StatusCode.DEADLINE_EXCEEDED)


async def test_status_codes_are_those_of_grpc(link: Link) -> None:
    channel = await link.open(BASIC)
    code = await channel.unary_unary("/no/thing")(b"").code()
    assert isinstance(code, grpc.StatusCode)
