"""Call objects that are awaited for one response."""

import asyncio
from typing import Any

import pytest
from grpc import StatusCode

from aio.link import BASIC, Link, Stuck, failure, path, unary


async def test_a_call_that_ended_well(link: Link) -> None:
    channel = await link.open(BASIC)
    call = channel.unary_unary(path("Echo"))(b"x")
    assert isinstance(call, link.rpc.UnaryUnaryCall)
    assert isinstance(call, link.rpc.Call)
    assert not call.done()
    assert await call == b"x"
    assert call.done()
    assert not call.cancelled()
    assert await call.code() is StatusCode.OK
    assert await call.details() == ""
    assert await call.initial_metadata() == link.rpc.Metadata()
    assert await call.trailing_metadata() == link.rpc.Metadata()
    assert await call.debug_error_string() == ""


async def test_the_response_can_be_awaited_again_and_by_several(link: Link) -> None:
    channel = await link.open(BASIC)
    call = channel.unary_unary(path("Echo"))(b"x")

    async def wait() -> Any:
        return await call

    assert list(await asyncio.gather(wait(), wait())) == [b"x", b"x"]
    assert await call == b"x"


async def test_a_call_that_failed_raises_each_time_it_is_awaited(link: Link) -> None:
    async def refuse(request: bytes, context: Any) -> bytes:
        await context.abort(StatusCode.NOT_FOUND, "no such thing", (("reason", "gone"),))
        raise AssertionError

    channel = await link.open({"Refuse": unary(refuse)})
    call = channel.unary_unary(path("Refuse"))(b"")
    for _ in range(2):
        error = await failure(call)
        assert isinstance(error, link.rpc.AioRpcError)
        assert (error.code(), error.details()) == (StatusCode.NOT_FOUND, "no such thing")
        assert tuple(error.trailing_metadata()) == (("reason", "gone"),)
        assert tuple(error.initial_metadata()) == ()
    assert call.done()
    assert not call.cancelled()
    assert await call.code() is StatusCode.NOT_FOUND
    assert await call.details() == "no such thing"
    assert "no such thing" in await call.debug_error_string()
    assert await call.trailing_metadata() == link.rpc.Metadata(("reason", "gone"))


async def test_the_status_of_a_failed_call_can_be_had_without_an_exception(link: Link) -> None:
    channel = await link.open(BASIC)
    call = channel.unary_unary("/no/thing")(b"")
    assert await call.code() is StatusCode.UNIMPLEMENTED
    assert await call.details() == "Method not found!"


async def test_done_callbacks_get_the_call(link: Link) -> None:
    stuck = Stuck()
    channel = await link.open(stuck.handlers())
    call = channel.unary_unary(path("Unary"))(b"")
    seen: list[tuple[Any, bool]] = []
    call.add_done_callback(lambda ended: seen.append((ended, ended.done())))
    call.add_done_callback(lambda ended: seen.append((ended, ended.done())))
    await stuck.begun.wait()
    assert seen == []
    stuck.release.set()
    await call
    assert seen == [(call, True), (call, True)]
    call.add_done_callback(lambda ended: seen.append((ended, True)))
    assert len(seen) == 3  # at once: the call is done


async def test_done_callbacks_run_when_a_call_fails_or_is_cancelled(link: Link) -> None:
    stuck = Stuck()
    channel = await link.open(stuck.handlers())
    failed, cancelled = channel.unary_unary("/no/thing")(b""), channel.unary_unary(path("Unary"))(b"")
    seen: list[Any] = []
    failed.add_done_callback(seen.append)
    cancelled.add_done_callback(seen.append)
    await failed.code()
    await stuck.begun.wait()
    cancelled.cancel()
    await cancelled.code()
    assert seen == [failed, cancelled]


async def test_time_remaining(link: Link) -> None:
    channel = await link.open(BASIC)
    assert channel.unary_unary(path("Echo"))(b"").time_remaining() is None
    call = channel.unary_unary(path("Echo"))(b"", timeout=50)
    assert 0 < call.time_remaining() <= 50
    await call
    past = channel.unary_unary(path("Echo"))(b"", timeout=-1)
    assert past.time_remaining() == 0
    assert (await failure(past)).code() is StatusCode.DEADLINE_EXCEEDED


async def test_a_timeout_that_is_no_number_is_a_type_error(link: Link) -> None:
    channel = await link.open(BASIC)
    with pytest.raises(TypeError):
        channel.unary_unary(path("Echo"))(b"", timeout="soon")


async def test_keywords_only_for_one_request(link: Link) -> None:
    channel = await link.open(BASIC)
    with pytest.raises(TypeError):
        channel.unary_unary(path("Echo"))(b"", 5.0)


async def test_cancel_before_anything_was_sent(link: Link) -> None:
    channel = await link.open(BASIC)
    call = channel.unary_unary(path("Echo"))(b"")
    assert call.cancel()
    assert not call.cancel()
    assert call.done()
    assert call.cancelled()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await call.code() is StatusCode.CANCELLED
    assert await call.details() == "Locally cancelled by application!"
    assert await call.initial_metadata() == link.rpc.Metadata()
    assert await call.trailing_metadata() == link.rpc.Metadata()


async def test_cancel_while_the_handler_runs(link: Link) -> None:
    stuck = Stuck()
    channel = await link.open(stuck.handlers())
    call = channel.unary_unary(path("Unary"))(b"")
    await stuck.begun.wait()
    assert call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await stuck.ended.wait()
    assert stuck.cancelled


async def test_cancel_after_the_end_changes_nothing(link: Link) -> None:
    channel = await link.open(BASIC)
    call = channel.unary_unary(path("Echo"))(b"x")
    await call
    assert not call.cancel()
    assert not call.cancelled()
    assert await call.code() is StatusCode.OK
    assert await call == b"x"


async def test_a_status_of_cancelled_from_the_server_is_an_error_not_a_cancellation(link: Link) -> None:
    async def give_up(request: bytes, context: Any) -> bytes:
        await context.abort(StatusCode.CANCELLED, "given up")
        raise AssertionError

    channel = await link.open({"GiveUp": unary(give_up)})
    call = channel.unary_unary(path("GiveUp"))(b"")
    error = await failure(call)
    assert (error.code(), error.details()) == (StatusCode.CANCELLED, "given up")
    assert call.cancelled()


async def test_wait_for_connection_of_one_request(link: Link) -> None:
    channel = await link.open(BASIC)
    call = channel.unary_unary(path("Echo"))(b"x")
    assert await call.wait_for_connection() is None
    assert await call == b"x"
    failed = channel.unary_unary("/no/thing")(b"")
    # grpc.aio waits for the answer here, so that a failure is raised; to return once connected is right too.
    try:
        await failed.wait_for_connection()
    except link.rpc.AioRpcError as error:
        assert error.code() is StatusCode.UNIMPLEMENTED
    assert await failed.code() is StatusCode.UNIMPLEMENTED


async def test_wait_for_connection_raises_what_kept_the_call_from_it(
    link: Link, unused_tcp_port: int
) -> None:
    channel = link.channel(f"127.0.0.1:{unused_tcp_port}")
    calls = [
        channel.unary_unary(path("Echo"))(b""),
        channel.unary_stream(path("Split"))(b""),
        channel.stream_unary(path("Join"))(),
        channel.stream_stream(path("Chat"))(),
    ]
    for call in calls:
        error = await failure(call.wait_for_connection())
        assert error.code() is StatusCode.UNAVAILABLE


async def test_one_response_call_is_not_iterable_and_streams_are_not_awaitable(link: Link) -> None:
    channel = await link.open(BASIC)
    call = channel.unary_unary(path("Echo"))(b"")
    with pytest.raises(TypeError):
        async for _ in call:
            pass
    await call
    stream = channel.unary_stream(path("Split"))(b"")
    with pytest.raises(TypeError):
        await stream
    stream.cancel()


async def test_the_text_of_a_call_tells_its_status(link: Link) -> None:
    channel = await link.open(BASIC)
    call = channel.unary_unary("/no/thing")(b"")
    assert "terminated" not in repr(call)
    await call.code()
    assert "UNIMPLEMENTED" in repr(call)
    assert "Method not found!" in str(call)


async def test_bytes_are_sent_as_they_are_and_nothing_as_an_empty_message(link: Link) -> None:
    channel = await link.open(BASIC)
    echo = channel.unary_unary(path("Echo"))
    assert await echo(b"") == b""
    assert await echo(None) == b""
    assert await echo(bytes(range(256))) == bytes(range(256))


async def test_a_request_that_is_not_bytes_without_a_serializer_is_an_error(link: Link) -> None:
    channel = await link.open(BASIC)
    with pytest.raises(TypeError):
        await channel.unary_unary(path("Echo"))(object())


async def test_unary_calls_end_in_the_order_of_their_answers(link: Link) -> None:
    stuck = Stuck()
    channel = await link.open({**BASIC, **stuck.handlers()})
    slow = channel.unary_unary(path("Unary"))(b"slow")
    await stuck.begun.wait()
    assert await channel.unary_unary(path("Echo"))(b"quick") == b"quick"
    assert not slow.done()
    stuck.release.set()
    assert await slow == b"slow"
