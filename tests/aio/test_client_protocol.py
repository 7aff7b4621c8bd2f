"""What the native client makes of servers that do the unusual, frame by frame."""

from __future__ import annotations

import asyncio
import gc
import struct
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from grpc import ChannelConnectivity, StatusCode

from aio.peer import (
    CANCEL,
    DATA,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    HEADERS,
    INITIAL,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    PADDED,
    PING,
    REFUSED_STREAM,
    RST_STREAM,
    WINDOW_UPDATE,
    Fields,
    Peer,
    Script,
    scripted,
)
from tai_grpc import aio

METHOD = "/test.Scripted/Call"


@pytest.fixture
async def opened() -> AsyncIterator[Any]:
    """Open channels, closed at the end."""
    channels: list[aio.Channel] = []

    def make(target: str, **options: int) -> aio.Channel:
        arguments = [(f"grpc.{name}", value) for name, value in options.items()]
        channels.append(aio.insecure_channel(target, options=arguments))
        return channels[-1]

    yield make
    for channel in channels:
        await channel.close()


async def error_of(call: Any) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    return caught.value


async def serve(peer: Peer) -> None:
    """Answer every call."""
    await peer.start()
    while True:
        peer.answer(await peer.request())


def once(answer: Any) -> Script:
    """Do one thing with the first call, then wait for the end."""

    async def script(peer: Peer) -> None:
        await peer.start()
        answer(peer, await peer.request())
        await peer.closed()

    return script


# --- GOAWAY and retries that nobody sees ----------------------------------------------------------------


async def test_after_goaway_calls_end_there_and_new_ones_go_to_a_new_connection(opened: Any) -> None:
    second_has_come = asyncio.Event()

    async def going(peer: Peer) -> None:
        await peer.start()
        stream = await peer.request()
        peer.goaway(stream)
        await second_has_come.wait()
        peer.answer(stream, b"old")
        await peer.closed()

    async def new(peer: Peer) -> None:
        await peer.start()
        stream = await peer.request()
        second_has_come.set()
        peer.answer(stream, b"new")
        await peer.closed()

    async with scripted(going, new) as scene:
        channel = opened(scene.target)
        method = channel.unary_unary(METHOD)
        first = method(b"")
        await channel.channel_ready()
        await channel.wait_for_state_change(channel.get_state())
        assert await method(b"") == b"new"
        assert await first == b"old"
        assert scene.connections == 2


async def test_a_call_that_goaway_leaves_out_is_sent_anew(opened: Any) -> None:
    def leave_out(peer: Peer, stream: int) -> None:
        peer.goaway(0)

    async with scripted(once(leave_out), serve) as scene:
        assert await opened(scene.target).unary_unary(METHOD)(b"") == b"answer"


async def test_a_call_that_goaway_leaves_out_twice_fails_with_what_the_server_said(opened: Any) -> None:
    def leave_out(peer: Peer, stream: int) -> None:
        peer.goaway(0, debug=b"not today")

    async with scripted(once(leave_out)) as scene:
        error = await error_of(opened(scene.target).unary_unary(METHOD)(b""))
    assert error.code() is StatusCode.UNAVAILABLE
    assert str(error.details()).endswith("the server said GOAWAY (code 0): not today")


async def test_a_refused_stream_is_sent_anew_once(opened: Any) -> None:
    streams = []

    async def refuse(peer: Peer) -> None:
        await peer.start()
        while True:
            streams.append(await peer.request())
            peer.reset(streams[-1], REFUSED_STREAM)

    async with scripted(refuse) as scene:
        error = await error_of(opened(scene.target).unary_unary(METHOD)(b""))
    assert error.code() is StatusCode.UNAVAILABLE
    assert len(streams) == 2


async def test_messages_written_to_a_refused_stream_are_sent_anew(opened: Any) -> None:
    """What was written before the refusal and what follows arrive in order."""
    got = bytearray()

    async def refuse_then_take(peer: Peer) -> None:
        await peer.start()
        stream = await peer.request()
        await peer.wait(DATA, stream)
        peer.reset(stream, REFUSED_STREAM)
        stream = await peer.request()
        while True:
            frame = await peer.wait(DATA, stream)
            got.extend(frame.payload)
            if frame.flags & END_STREAM:
                break
        peer.answer(stream)
        await peer.closed()

    async with scripted(refuse_then_take) as scene:
        call = opened(scene.target).stream_unary(METHOD)()
        await call.write(b"one")
        await call.write(b"two")
        await call.done_writing()
        assert await call == b"answer"
    assert bytes(got) == b"".join(struct.pack(">BI", 0, 3) + text for text in (b"one", b"two"))


async def test_what_the_server_has_answered_is_not_sent_anew(opened: Any) -> None:
    def begin_and_refuse(peer: Peer, stream: int) -> None:
        peer.headers(stream)
        peer.reset(stream, REFUSED_STREAM)

    async with scripted(once(begin_and_refuse), serve) as scene:
        error = await error_of(opened(scene.target).unary_unary(METHOD)(b""))
        assert error.code() is StatusCode.UNAVAILABLE
        assert scene.connections == 1


async def test_calls_that_waited_for_a_stream_survive_the_connection(opened: Any) -> None:
    """The one that was sent is lost with it; those that never left are sent on the next one."""

    async def one_at_a_time(peer: Peer) -> None:
        await peer.start([(MAX_CONCURRENT_STREAMS, 1)])
        await peer.request()
        peer.close()

    async with scripted(one_at_a_time, serve) as scene:
        channel = opened(scene.target)
        await channel.channel_ready()
        method = channel.unary_unary(METHOD)
        calls = [method(b"") for _ in range(5)]
        assert (await error_of(calls[0])).code() is StatusCode.UNAVAILABLE
        assert await asyncio.gather(*calls[1:]) == [b"answer"] * 4


async def test_over_the_servers_limit_calls_take_turns(opened: Any) -> None:
    async def one_at_a_time(peer: Peer) -> None:
        await peer.start([(MAX_CONCURRENT_STREAMS, 1)])
        for _ in range(3):
            stream = await peer.request()
            peer.send(PING, 0, 0, b"anything")
            while (frame := await peer.frame()).kind != PING:
                assert frame.kind != HEADERS
            peer.answer(stream)
        await peer.closed()

    async with scripted(one_at_a_time) as scene:
        channel = opened(scene.target)
        await channel.channel_ready()
        method = channel.unary_unary(METHOD)
        assert await asyncio.gather(*(method(b"") for _ in range(3))) == [b"answer"] * 3


# --- What status an end has -----------------------------------------------------------------------------

RESETS = {
    0: StatusCode.INTERNAL,
    1: StatusCode.INTERNAL,
    2: StatusCode.INTERNAL,
    3: StatusCode.INTERNAL,
    4: StatusCode.INTERNAL,
    6: StatusCode.INTERNAL,
    8: StatusCode.CANCELLED,
    9: StatusCode.INTERNAL,
    10: StatusCode.INTERNAL,
    11: StatusCode.RESOURCE_EXHAUSTED,
    12: StatusCode.PERMISSION_DENIED,
}


@pytest.mark.parametrize("code", RESETS)
async def test_a_reset_has_the_status_of_its_error_code(opened: Any, code: int) -> None:
    async with scripted(once(lambda peer, stream: peer.reset(stream, code))) as scene:
        call = opened(scene.target).unary_unary(METHOD)(b"")
        error = await error_of(call)
    assert error.code() is RESETS[code]
    assert f"RST_STREAM with error code {code} (" in str(error.details())


HTTP = {
    "400": StatusCode.INTERNAL,
    "401": StatusCode.UNAUTHENTICATED,
    "403": StatusCode.PERMISSION_DENIED,
    "404": StatusCode.UNIMPLEMENTED,
    "429": StatusCode.UNAVAILABLE,
    "431": StatusCode.INTERNAL,
    "503": StatusCode.UNAVAILABLE,
    "418": StatusCode.UNKNOWN,
}


@pytest.mark.parametrize("status", HTTP)
async def test_a_proxys_answer_has_the_status_of_its_http_status(opened: Any, status: str) -> None:
    fields = ((":status", status), ("content-type", "text/html"))
    async with scripted(once(lambda peer, stream: peer.headers(stream, fields, end=True))) as scene:
        error = await error_of(opened(scene.target).unary_unary(METHOD)(b""))
    assert error.code() is HTTP[status]
    assert status in str(error.details())


ENCODED: Fields = (*INITIAL, ("grpc-encoding", "gzip"))
BOMB = zlib.compress(bytes(1000), wbits=31)


def with_messages(*messages: tuple[bytes, bool], fields: Fields = INITIAL) -> Any:
    def answer(peer: Peer, stream: int) -> None:
        peer.headers(stream, fields)
        for data, compressed in messages:
            peer.message(stream, data, compressed=compressed)
        peer.status(stream)

    return answer


def cut_short(peer: Peer, stream: int) -> None:
    peer.headers(stream)
    peer.send(DATA, END_STREAM, stream, struct.pack(">BI", 0, 10) + b"half")


BROKEN = {
    "no response": (with_messages(), StatusCode.INTERNAL),
    "two responses": (with_messages((b"a", False), (b"b", False)), StatusCode.INTERNAL),
    "compressed with nothing": (with_messages((BOMB, True)), StatusCode.INTERNAL),
    "not what its encoding says": (with_messages((b"plain", True), fields=ENCODED), StatusCode.INTERNAL),
    "cut short": (cut_short, StatusCode.INTERNAL),
    "too large": (with_messages((bytes(101), False)), StatusCode.RESOURCE_EXHAUSTED),
    "a bomb": (with_messages((BOMB, True), fields=ENCODED), StatusCode.RESOURCE_EXHAUSTED),
}


@pytest.mark.parametrize("what", BROKEN)
async def test_a_broken_answer_fails_its_call_and_no_other(opened: Any, what: str) -> None:
    answer, code = BROKEN[what]

    async def script(peer: Peer) -> None:
        await peer.start()
        answer(peer, await peer.whole_request())
        while True:
            peer.answer(await peer.request())

    async with scripted(script) as scene:
        channel = opened(scene.target, max_receive_message_length=100)
        method = channel.unary_unary(METHOD)
        assert (await error_of(method(b""))).code() is code
        assert await method(b"") == b"answer"
        assert scene.connections == 1


@pytest.mark.parametrize("what", ["compressed with nothing", "not what its encoding says", "a bomb"])
async def test_a_stream_fails_where_its_message_cannot_be_read(opened: Any, what: str) -> None:
    answer, code = BROKEN[what]

    def good_then_bad(peer: Peer, stream: int) -> None:
        answer(peer, stream)

    async with scripted(once(good_then_bad)) as scene:
        call = opened(scene.target, max_receive_message_length=100).unary_stream(METHOD)(b"")
        assert (await error_of(call.read())).code() is code
        assert call.done()


async def test_padding_is_no_part_of_a_message(opened: Any) -> None:
    def padded(peer: Peer, stream: int) -> None:
        peer.headers(stream)
        for byte in struct.pack(">BI", 0, 3) + b"abc":
            peer.send(DATA, PADDED, stream, b"\x05" + bytes([byte]) + bytes(5))
        peer.status(stream)

    async with scripted(once(padded)) as scene:
        assert await opened(scene.target).unary_unary(METHOD)(b"") == b"abc"


async def test_a_lost_connection_fails_what_was_sent_and_says_so(opened: Any) -> None:
    async with scripted(once(lambda peer, _: peer.close())) as scene:
        error = await error_of(opened(scene.target).unary_unary(METHOD)(b""))
    assert error.code() is StatusCode.UNAVAILABLE
    assert "connection was lost" in str(error.details())


# --- Giving up ------------------------------------------------------------------------------------------


async def given_up(scene_peer: Peer, told: asyncio.Future[int]) -> None:
    await scene_peer.start()
    stream = await scene_peer.request()
    scene_peer.headers(stream)
    frame = await scene_peer.wait(RST_STREAM, stream)
    told.set_result(struct.unpack(">I", frame.payload)[0])
    await scene_peer.closed()


@pytest.mark.parametrize("how", ["cancel", "deadline", "dropped", "awaiter"])
async def test_the_server_is_told_that_a_call_is_given_up(opened: Any, how: str) -> None:
    told: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    async with scripted(lambda peer: given_up(peer, told)) as scene:
        method = opened(scene.target).unary_stream(METHOD)
        call = method(b"", timeout=1.0 if how == "deadline" else 60)
        if how == "deadline":
            assert await call.code() is StatusCode.DEADLINE_EXCEEDED
        else:
            await call.initial_metadata()
        if how == "cancel":
            assert call.cancel()
            assert not call.cancel()
        elif how == "awaiter":
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(call.read(), 0.01)
            assert call.cancelled()
        elif how == "dropped":
            del call
            gc.collect()
        assert await told == CANCEL


@pytest.mark.parametrize("how", ["cancelled", "dropped"])
async def test_a_connection_that_takes_no_more_calls_ends_with_the_last_one(opened: Any, how: str) -> None:
    closed = asyncio.Event()

    async def begins(peer: Peer) -> None:
        await peer.start()
        peer.headers(await peer.request())
        await peer.closed()
        closed.set()

    async with scripted(begins) as scene:
        channel = opened(scene.target)
        call = channel.unary_stream(METHOD)(b"")
        await call.initial_metadata()
        channel._policy._subchannel.connection.drain()
        for _ in range(10):
            await asyncio.sleep(0)  # until it has looked whether it can end
        if how == "cancelled":
            call.cancel()
        del call
        gc.collect()
        await closed.wait()


async def test_a_unary_call_that_nobody_holds_is_made_all_the_same(opened: Any) -> None:
    arrived = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.start()
        stream = await peer.whole_request()
        gc.collect()
        peer.answer(stream)
        arrived.set()
        with pytest.raises(asyncio.IncompleteReadError):
            await peer.wait(RST_STREAM)

    async with scripted(script) as scene:
        channel = opened(scene.target)
        channel.unary_unary(METHOD)(b"")
        await arrived.wait()
        await channel.close()


# --- Backpressure ---------------------------------------------------------------------------------------


async def test_a_writer_waits_for_the_servers_window(opened: Any) -> None:
    """What is held for a server that takes nothing stays within its window and the high-water mark."""
    go_on = asyncio.Event()
    taken = 0

    async def slow(peer: Peer) -> None:
        nonlocal taken
        await peer.start([(INITIAL_WINDOW_SIZE, 65535)])
        stream = await peer.request()
        await go_on.wait()
        ended = False
        while not ended:
            frame = await peer.wait(DATA, stream)
            taken += len(frame.payload)
            ended = bool(frame.flags & END_STREAM)
            for which in (0, stream):
                if frame.payload:
                    peer.send(WINDOW_UPDATE, 0, which, struct.pack(">I", len(frame.payload)))
        peer.answer(stream)
        await peer.closed()

    async with scripted(slow) as scene:
        call = opened(scene.target).stream_unary(METHOD)()
        message = bytes(8192)
        written = 0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2) as limit:
                while written < 1000:
                    writing = asyncio.ensure_future(call.write(message))
                    await asyncio.shield(writing)
                    written += 1
        assert limit.expired()
        assert written * len(message) <= 65535 + 65536 + 2 * len(message)
        go_on.set()
        await writing
        await call.done_writing()
        assert await call == b"answer"
    assert taken == (written + 1) * (len(message) + 5)


async def test_the_window_opens_as_the_application_reads(opened: Any) -> None:
    async def count(peer: Peer, opened_by: asyncio.Queue[int]) -> None:
        await peer.start()
        stream = await peer.request()
        peer.headers(stream)
        for _ in range(4):
            peer.message(stream, bytes(16000))
        while True:
            frame = await peer.wait(WINDOW_UPDATE, stream)
            opened_by.put_nowait(struct.unpack(">I", frame.payload)[0])

    updates: asyncio.Queue[int] = asyncio.Queue()
    async with scripted(lambda peer: count(peer, updates)) as scene:
        call = opened(scene.target, **{"http2.lookahead_bytes": 65535}).unary_stream(METHOD)(b"")
        assert len(await call.read()) == 16000
        assert updates.empty()
        for _ in range(3):
            assert len(await call.read()) == 16000
        got = 0
        while got < 32768:  # half a window, from which on it is worth a frame
            got += await updates.get()
        assert got <= 4 * 16005
        call.cancel()


# --- Keepalive ------------------------------------------------------------------------------------------


async def test_pings_are_answered(opened: Any) -> None:
    async def ping(peer: Peer) -> None:
        await peer.start()
        stream = await peer.request()
        peer.send(PING, 0, 0, b"12345678")
        while (frame := await peer.frame()).kind != PING:
            pass
        assert frame.payload == b"12345678"
        peer.answer(stream)
        await peer.closed()

    async with scripted(ping) as scene:
        assert await opened(scene.target).unary_unary(METHOD)(b"") == b"answer"


async def test_a_server_that_answers_no_ping_is_given_up(opened: Any) -> None:
    async def silent(peer: Peer) -> None:
        await peer.start()
        await peer.wait(PING)
        await peer.closed()

    async with scripted(silent) as scene:
        channel = opened(scene.target, keepalive_time_ms=20, keepalive_timeout_ms=50)
        error = await error_of(channel.unary_unary(METHOD)(b""))
    assert error.code() is StatusCode.UNAVAILABLE
    assert "keepalive" in str(error.details())


async def test_without_calls_there_are_no_pings(opened: Any) -> None:
    pinged = False

    async def watch(peer: Peer) -> None:
        nonlocal pinged
        await peer.start()
        with pytest.raises(asyncio.IncompleteReadError):
            await peer.wait(PING)
            pinged = True

    async with scripted(watch) as scene:
        channel = opened(scene.target, keepalive_time_ms=1, keepalive_timeout_ms=1000)
        await channel.channel_ready()
        await asyncio.sleep(0.05)
        await channel.close()
    assert not pinged


async def test_too_many_pings_double_the_interval(opened: Any) -> None:
    def enough(peer: Peer, stream: int) -> None:
        peer.answer(stream)
        peer.goaway(stream, ENHANCE_YOUR_CALM, b"too_many_pings")

    async with scripted(once(enough)) as scene:
        channel = opened(scene.target, keepalive_time_ms=10_000)
        assert await channel.unary_unary(METHOD)(b"") == b"answer"
        while channel.get_state() is not ChannelConnectivity.IDLE:
            await channel.wait_for_state_change(channel.get_state())
        assert channel._policy._subchannel._keepalive.interval == 20.0


# --- The official negative cases that the tests above do not have ---------------------------------------


def reset_after_header(peer: Peer, stream: int) -> None:
    peer.headers(stream)
    peer.reset(stream, 0)


def reset_during_data(peer: Peer, stream: int) -> None:
    peer.headers(stream)
    peer.send(DATA, 0, stream, struct.pack(">BI", 0, 10) + b"half")
    peer.reset(stream, 0)


def reset_after_data(peer: Peer, stream: int) -> None:
    peer.headers(stream)
    peer.message(stream, b"whole")
    peer.reset(stream, 0)


@pytest.mark.parametrize("answer", [reset_after_header, reset_during_data, reset_after_data])
async def test_a_reset_in_place_of_a_status_is_no_success(opened: Any, answer: Any) -> None:
    async def script(peer: Peer) -> None:
        await peer.start()
        answer(peer, await peer.whole_request())
        answer(peer, await peer.whole_request())
        peer.answer(await peer.whole_request(), b"unharmed")
        await peer.closed()

    async with scripted(script) as scene:
        channel = opened(scene.target)
        assert (await error_of(channel.unary_unary(METHOD)(b""))).code() is StatusCode.INTERNAL
        stream = channel.unary_stream(METHOD)(b"")
        messages = []
        with pytest.raises(aio.AioRpcError) as caught:
            async for message in stream:
                messages.append(message)  # noqa: PERF401 - what came before the error counts
        assert caught.value.code() is StatusCode.INTERNAL
        assert messages in ([], [b"whole"])
        assert await channel.unary_unary(METHOD)(b"") == b"unharmed"
