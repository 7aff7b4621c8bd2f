"""Channels: the four kinds of call, connectivity, and closing."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc import ChannelConnectivity, StatusCode

from aio.link import BASIC, Link, Stuck, failure, path, read_all, until


async def requests(*messages: bytes) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


async def test_the_four_kinds(link: Link) -> None:
    channel = await link.open(BASIC)
    assert await channel.unary_unary(path("Echo"))(b"one") == b"one"
    assert await read_all(channel.unary_stream(path("Split"))(b"abc")) == [b"a", b"b", b"c"]
    assert await channel.stream_unary(path("Join"))(requests(b"a", b"", b"b")) == b"ab"
    assert await read_all(channel.stream_stream(path("Chat"))(requests(b"a", b"b"))) == [b"a", b"b"]


async def test_serializers_are_applied_on_the_client(link: Link) -> None:
    channel = await link.open(BASIC)
    call = channel.unary_unary(
        path("Echo"), request_serializer=str.encode, response_deserializer=bytes.decode
    )
    assert await call("wörter") == "wörter"
    stream = channel.stream_stream(path("Chat"), str.encode, bytes.decode)
    assert await read_all(stream(iter(["a", "b"]))) == ["a", "b"]


async def test_one_multicallable_makes_many_calls(link: Link) -> None:
    channel = await link.open(BASIC)
    multicallable = channel.unary_unary(path("Echo"))
    answers = await asyncio.gather(*(multicallable(b"%d" % number) for number in range(50)))
    assert answers == [b"%d" % number for number in range(50)]


async def test_a_method_may_be_registered_by_generated_code(link: Link) -> None:
    channel = await link.open(BASIC)
    assert await channel.unary_unary(path("Echo"), _registered_method=True)(b"x") == b"x"
    assert await read_all(channel.unary_stream(path("Split"), _registered_method=True)(b"xy")) == [b"x", b"y"]
    assert await channel.stream_unary(path("Join"), _registered_method=True)([b"x", b"y"]) == b"xy"
    chat = channel.stream_stream(path("Chat"), _registered_method=True)
    assert await read_all(chat([b"x", b"y"])) == [b"x", b"y"]


@pytest.mark.parametrize("target", ["closed", "unix:/nonexistent/socket"])
async def test_nobody_there_is_unavailable(link: Link, unused_tcp_port: int, target: str) -> None:
    channel = link.channel(target if target.startswith("unix") else f"127.0.0.1:{unused_tcp_port}")
    error = await failure(channel.unary_unary(path("Echo"))(b""))
    assert error.code() is StatusCode.UNAVAILABLE
    assert error.details()
    assert tuple(error.initial_metadata() or ()) == ()


async def test_states_from_idle_to_ready_to_shutdown(link: Link) -> None:
    _, target = await link.serve(BASIC)
    channel = link.channel(target)
    assert channel.get_state() is ChannelConnectivity.IDLE
    assert channel.get_state(try_to_connect=True) in (
        ChannelConnectivity.IDLE,
        ChannelConnectivity.CONNECTING,
    )
    await channel.channel_ready()
    assert channel.get_state() is ChannelConnectivity.READY
    await channel.close()
    assert channel.get_state() is ChannelConnectivity.SHUTDOWN


async def test_looking_at_the_state_does_not_connect(link: Link) -> None:
    _, target = await link.serve(BASIC)
    channel = link.channel(target)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(channel.wait_for_state_change(ChannelConnectivity.IDLE), 0.1)
    assert channel.get_state() is ChannelConnectivity.IDLE


async def test_wait_for_state_change_sees_every_change(link: Link) -> None:
    _, target = await link.serve(BASIC)
    channel = link.channel(target)
    state = channel.get_state(try_to_connect=True)
    seen = [state]
    while state is not ChannelConnectivity.READY:
        await channel.wait_for_state_change(state)
        state = channel.get_state()
        seen.append(state)
    assert ChannelConnectivity.TRANSIENT_FAILURE not in seen
    # A state that is not the present one has changed already.
    await channel.wait_for_state_change(ChannelConnectivity.IDLE)


async def test_refused_connections_are_a_transient_failure(link: Link, unused_tcp_port: int) -> None:
    channel = link.channel(f"127.0.0.1:{unused_tcp_port}")
    state = channel.get_state(try_to_connect=True)
    while state is not ChannelConnectivity.TRANSIENT_FAILURE:
        await channel.wait_for_state_change(state)
        state = channel.get_state()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(channel.channel_ready(), 0.05)


async def test_a_lost_server_makes_the_channel_idle_and_a_call_connects_anew(link: Link) -> None:
    server, target = await link.serve(BASIC)
    channel = link.channel(target)
    await channel.channel_ready()
    await server.stop(None)
    await until(lambda: channel.get_state() is not ChannelConnectivity.READY)
    again = link.make_server(BASIC)
    again.add_insecure_port(target)
    await again.start()
    assert await channel.unary_unary(path("Echo"))(b"x", wait_for_ready=True) == b"x"
    assert channel.get_state() is ChannelConnectivity.READY


async def test_a_channel_that_waits_becomes_ready_when_a_server_appears(
    link: Link, unused_tcp_port: int
) -> None:
    target = f"127.0.0.1:{unused_tcp_port}"
    options = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 100))
    channel = link.channel(target, options=options)
    ready = asyncio.create_task(channel.channel_ready())
    await until(lambda: channel.get_state() is ChannelConnectivity.TRANSIENT_FAILURE)
    server = link.make_server(BASIC)
    server.add_insecure_port(target)
    await server.start()
    await ready
    assert channel.get_state() is ChannelConnectivity.READY


async def test_a_closed_channel_refuses_calls_and_waits(link: Link) -> None:
    channel = await link.open(BASIC)
    multicallable = channel.unary_unary(path("Echo"))
    await channel.close()
    with pytest.raises(link.rpc.UsageError, match="Channel is closed"):
        multicallable(b"")
    with pytest.raises(link.rpc.UsageError, match="Channel is closed"):
        channel.stream_stream(path("Chat"))()
    with pytest.raises(link.rpc.UsageError):
        await channel.wait_for_state_change(ChannelConnectivity.IDLE)
    await channel.close()


async def test_closing_cancels_what_is_in_flight(link: Link) -> None:
    stuck = Stuck()
    channel = await link.open(stuck.handlers())
    call = channel.unary_unary(path("Unary"))(b"")
    await stuck.begun.wait()
    await channel.close()
    assert call.cancelled()
    assert await call.code() is StatusCode.CANCELLED
    with pytest.raises(asyncio.CancelledError):
        await call
    await stuck.ended.wait()
    assert stuck.cancelled


async def test_close_with_grace_lets_calls_finish_and_takes_no_new_ones(link: Link) -> None:
    stuck = Stuck()
    channel = await link.open(stuck.handlers())
    call = channel.unary_unary(path("Unary"))(b"kept")
    await stuck.begun.wait()
    closing = asyncio.create_task(channel.close(grace=20.0))
    await asyncio.sleep(0)
    with pytest.raises(link.rpc.UsageError):
        channel.unary_unary(path("Unary"))(b"")
    stuck.release.set()
    await closing
    assert await call == b"kept"


async def test_close_with_grace_cancels_at_its_end(link: Link) -> None:
    stuck = Stuck()
    channel = await link.open(stuck.handlers())
    call = channel.stream_stream(path("Chat"))()
    assert await call.read() == b"first"
    await stuck.begun.wait()
    await channel.close(grace=0.05)
    assert await call.code() is StatusCode.CANCELLED
    await stuck.ended.wait()


async def test_a_negative_grace_is_an_error(link: Link) -> None:
    channel = await link.open(BASIC)
    with pytest.raises(ValueError, match="non-negative"):
        await channel.close(-1)


async def test_leaving_the_block_closes(link: Link) -> None:
    _, target = await link.serve(BASIC)
    async with link.rpc.insecure_channel(target) as channel:
        assert isinstance(channel, link.rpc.Channel)
        assert await channel.unary_unary(path("Echo"))(b"x") == b"x"
    assert channel.get_state() is ChannelConnectivity.SHUTDOWN


async def test_unary_unary_of_a_channel_is_its_multicallable_class(link: Link) -> None:
    channel = await link.open(BASIC)
    assert isinstance(channel.unary_unary("/a/b"), link.rpc.UnaryUnaryMultiCallable)
    assert isinstance(channel.unary_stream("/a/b"), link.rpc.UnaryStreamMultiCallable)
    assert isinstance(channel.stream_unary("/a/b"), link.rpc.StreamUnaryMultiCallable)
    assert isinstance(channel.stream_stream("/a/b"), link.rpc.StreamStreamMultiCallable)


async def test_unknown_methods_and_services_are_unimplemented(link: Link) -> None:
    channel = await link.open(BASIC)
    for name in (path("Nothing"), "/no.Service/Echo"):
        error = await failure(channel.unary_unary(name)(b""))
        assert (error.code(), error.details()) == (StatusCode.UNIMPLEMENTED, "Method not found!")
        stream = channel.stream_stream(name)()
        assert await stream.code() is StatusCode.UNIMPLEMENTED


async def test_wait_for_ready_waits_and_its_absence_fails_fast(link: Link, unused_tcp_port: int) -> None:
    target = f"127.0.0.1:{unused_tcp_port}"
    options = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 100))
    channel = link.channel(target, options=options)
    calls: list[Any] = [
        channel.unary_unary(path("Echo"))(b"x", wait_for_ready=True),
        channel.stream_unary(path("Join"))([b"x"], wait_for_ready=True),
    ]
    for wait in (False, None):
        error = await failure(channel.unary_unary(path("Echo"))(b"", wait_for_ready=wait))
        assert error.code() is StatusCode.UNAVAILABLE
    waiting = await failure(channel.unary_unary(path("Echo"))(b"", wait_for_ready=True, timeout=0.1))
    assert waiting.code() is StatusCode.DEADLINE_EXCEEDED
    server = link.make_server(BASIC)
    server.add_insecure_port(target)
    await server.start()
    assert await asyncio.gather(*calls) == [b"x", b"x"]


async def test_an_interceptor_of_no_kind_is_refused(link: Link) -> None:
    with pytest.raises(ValueError, match="must be"):
        link.rpc.insecure_channel("localhost:1", interceptors=[object()])


def test_the_names_of_grpc_aio_are_there(rpc: Any) -> None:
    """Code written for grpc.aio imports any of them."""
    assert [name for name in grpc.aio.__all__ if not hasattr(rpc, name)] == []
