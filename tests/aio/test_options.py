"""Channel and server options: sizes of messages and metadata, streams, connections' age, keepalive, ports."""

import asyncio
from typing import Any

import pytest
from grpc import ChannelConnectivity, StatusCode

from aio.link import BASIC, Link, Options, Stuck, broken, failure, path, read_all, split, unary, until
from interop.relay import Relay
from wire.frames import Peer, Seen

MIB = 1024 * 1024


def over(error: Any, size: int, limit: int) -> bool:
    """Whether the details tell what was too large, and for which limit; the words are each one's own."""
    details = error.details()
    return "larger than" in details and str(size) in details and str(limit) in details


async def test_messages_up_to_four_mebibytes_are_received_by_default(link: Link) -> None:
    channel = await link.open(BASIC)
    echo = channel.unary_unary(path("Echo"))
    assert len(await echo(bytes(4 * MIB))) == 4 * MIB
    error = await failure(echo(bytes(4 * MIB + 1)))
    assert error.code() is StatusCode.RESOURCE_EXHAUSTED
    assert over(error, 4 * MIB + 1, 4 * MIB)
    assert await echo(b"x") == b"x"


LIMITS: dict[str, tuple[Options, Options]] = {
    "the server receives": ((("grpc.max_receive_message_length", 100),), ()),
    "the server sends": ((("grpc.max_send_message_length", 100),), ()),
    "the client receives": ((), (("grpc.max_receive_message_length", 100),)),
    "the client sends": ((), (("grpc.max_send_message_length", 100),)),
}


@pytest.mark.parametrize("name", LIMITS)
async def test_a_unary_message_over_a_limit_is_resource_exhausted(link: Link, name: str) -> None:
    of_server, of_client = LIMITS[name]
    _, target = await link.serve(BASIC, options=of_server)
    echo = link.channel(target, options=of_client).unary_unary(path("Echo"))
    assert len(await echo(bytes(100))) == 100
    error = await failure(echo(bytes(101)))
    assert error.code() is StatusCode.RESOURCE_EXHAUSTED
    assert over(error, 101, 100)
    assert await echo(b"x") == b"x"


@pytest.mark.parametrize("name", ["the server receives", "the client receives"])
async def test_a_message_of_a_stream_over_a_limit_ends_the_stream(link: Link, name: str) -> None:
    of_server, of_client = LIMITS[name]
    _, target = await link.serve(BASIC, options=of_server)
    channel = link.channel(target, options=of_client)
    call = channel.stream_stream(path("Chat"))()
    await call.write(bytes(100))
    assert len(await call.read()) == 100
    await call.write(bytes(101))
    assert (await failure(call.read())).code() is StatusCode.RESOURCE_EXHAUSTED
    assert await call.code() is StatusCode.RESOURCE_EXHAUSTED


async def test_a_write_over_the_clients_limit_fails(link: Link) -> None:
    """Defect of grpc.aio: the write itself says INTERNAL, the call is right."""
    _, target = await link.serve(BASIC)
    channel = link.channel(target, options=(("grpc.max_send_message_length", 100),))
    call = channel.stream_unary(path("Join"))()
    error = await failure(call.write(bytes(101)))
    assert error.code() is StatusCode.RESOURCE_EXHAUSTED or link.is_grpcio
    assert (await failure(call)).code() is StatusCode.RESOURCE_EXHAUSTED


async def test_a_stream_of_the_server_over_its_send_limit_gives_what_was_sent(link: Link) -> None:
    async def grow(request: bytes, context: Any) -> Any:
        yield bytes(100)
        yield bytes(101)

    channel = await link.open({"Grow": split(grow)}, options=(("grpc.max_send_message_length", 100),))
    messages, error = await broken(channel.unary_stream(path("Grow"))(b""))
    assert messages == [bytes(100)]
    assert error.code() is StatusCode.RESOURCE_EXHAUSTED


async def test_no_limit_is_minus_one(link: Link) -> None:
    options = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
    _, target = await link.serve(BASIC, options=options)
    channel = link.channel(target, options=options)
    large = bytes(range(256)) * (9 * MIB // 256)
    assert await channel.unary_unary(path("Echo"))(large) == large
    assert b"".join(await read_all(channel.stream_stream(path("Chat"))([large, b"x"]))) == large + b"x"


METADATA_LIMIT = (("grpc.max_metadata_size", 2000), ("grpc.absolute_max_metadata_size", 2000))


def refused(link: Link, error: Any) -> bool:
    """Whether metadata were too much. Defect of grpc.aio: it may say INTERNAL."""
    code = error.code()
    return code is StatusCode.RESOURCE_EXHAUSTED or (link.is_grpcio and code is StatusCode.INTERNAL)


async def test_metadata_over_the_servers_limit_is_refused(link: Link) -> None:
    channel = await link.open(BASIC, options=METADATA_LIMIT)
    echo = channel.unary_unary(path("Echo"))
    assert await echo(b"x", metadata=(("a", "x" * 1000),)) == b"x"
    error = await failure(echo(b"", metadata=(("a", "x" * 2000),)))
    assert refused(link, error)
    many = tuple((f"k{number}", "x") for number in range(60))  # 32 bytes of overhead are counted for each
    assert (await failure(echo(b"", metadata=many))).code() is error.code()
    assert await echo(b"x") == b"x"


async def test_metadata_over_the_clients_limit_is_refused(link: Link) -> None:
    async def send(request: bytes, context: Any) -> bytes:
        pairs = (("a", "x" * 2000),)
        if request == b"initial":
            await context.send_initial_metadata(pairs)
        if request == b"trailing":
            context.set_trailing_metadata(pairs)
        return request

    _, target = await link.serve({"Send": unary(send)})
    channel = link.channel(target, options=METADATA_LIMIT)
    for where in (b"initial", b"trailing"):
        assert refused(link, await failure(channel.unary_unary(path("Send"))(where)))
    assert await channel.unary_unary(path("Send"))(b"none") == b"none"


async def test_calls_over_the_limit_of_streams_wait_their_turn(link: Link) -> None:
    """Defect of grpc.aio: a call sent before the server has put an ended one away may be UNAVAILABLE."""
    running, most = 0, 0

    async def count(request: bytes, context: Any) -> bytes:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return request

    channel = await link.open({"Count": unary(count)}, options=(("grpc.max_concurrent_streams", 2),))
    await channel.channel_ready()
    calls = [channel.unary_unary(path("Count"))(b"%d" % number) for number in range(10)]
    answers = await asyncio.gather(*calls, return_exceptions=link.is_grpcio)
    for number, answer in enumerate(answers):
        if isinstance(answer, link.rpc.AioRpcError):
            assert answer.code() is StatusCode.UNAVAILABLE
        else:
            assert answer == b"%d" % number
    assert most <= 2


async def test_a_call_that_waits_for_a_stream_can_be_cancelled_or_expire(link: Link) -> None:
    stuck = Stuck()
    channel = await link.open(stuck.handlers(), options=(("grpc.max_concurrent_streams", 1),))
    first = channel.unary_unary(path("Unary"))(b"first")
    await stuck.begun.wait()
    waiting, expiring = (channel.unary_unary(path("Unary"))(b"", timeout=0.05 * n) for n in (1000, 1))
    assert (await failure(expiring)).code() is StatusCode.DEADLINE_EXCEEDED
    assert waiting.cancel()
    stuck.release.set()
    assert await first == b"first"
    assert await channel.unary_unary(path("Unary"))(b"again") == b"again"


async def test_an_old_connection_is_replaced_without_a_failed_call(link: Link) -> None:
    peers: set[str] = set()

    async def note(request: bytes, context: Any) -> bytes:
        peers.add(context.peer())
        return request

    options = (("grpc.max_connection_age_ms", 100), ("grpc.max_connection_age_grace_ms", 5000))
    channel = await link.open({"Note": unary(note)}, options=options)
    while len(peers) < 3:
        assert await channel.unary_unary(path("Note"))(b"x", wait_for_ready=True) == b"x"
        await asyncio.sleep(0.005)


async def test_the_grace_of_an_old_connection_ends_its_calls(link: Link) -> None:
    """On a busy machine one may be too old before its first call begins: another is made then."""
    stuck = Stuck()
    options = (("grpc.max_connection_age_ms", 100), ("grpc.max_connection_age_grace_ms", 100))
    channel = await link.open({**BASIC, **stuck.handlers()}, options=options)
    while not stuck.begun.is_set():
        error = await failure(channel.unary_unary(path("Unary"))(b"", wait_for_ready=True))
        assert error.code() is StatusCode.UNAVAILABLE
    await stuck.ended.wait()
    assert stuck.cancelled
    echo = channel.unary_unary(path("Echo"))
    while (code := await (call := echo(b"x", wait_for_ready=True)).code()) is not StatusCode.OK:
        assert code is StatusCode.UNAVAILABLE
    assert await call == b"x"


async def test_an_idle_connection_is_closed_and_a_call_opens_another(link: Link) -> None:
    channel = await link.open(BASIC, options=(("grpc.max_connection_idle_ms", 500),))
    assert await channel.unary_unary(path("Echo"))(b"x") == b"x"
    while channel.get_state() is ChannelConnectivity.READY:
        await channel.wait_for_state_change(ChannelConnectivity.READY)
    assert await channel.unary_unary(path("Echo"))(b"y", wait_for_ready=True) == b"y"


async def test_keepalive_pings_leave_a_healthy_connection_alone(link: Link) -> None:
    often = (
        ("grpc.keepalive_time_ms", 20),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    )
    patient = (
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 1),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_ping_strikes", 0),
    )
    stuck = Stuck()
    _, target = await link.serve(stuck.handlers(), options=patient)
    client, heard = Peer(), list[Seen]()

    def hear(octets: bytes) -> None:
        heard.extend(client.read(octets))

    def pings() -> int:
        return sum(seen.kind == "ping" and not seen.ack for seen in heard)

    async with Relay(int(target.rpartition(":")[2]), hear) as relay:
        channel = link.channel(f"127.0.0.1:{relay.port}", options=often)
        call = channel.unary_unary(path("Unary"))(b"x")
        await stuck.begun.wait()
        # grpc.aio pings every second at most.
        await until(lambda: pings() >= (1 if link.is_grpcio else 3))
        stuck.release.set()
        assert await call == b"x"
        assert relay.connections == 1
        await channel.close()


@pytest.mark.parametrize("options", [((1, 2),), (("grpc.max_send_message_length", None),), (("alone",),)])
async def test_options_of_the_wrong_shape_are_errors(link: Link, options: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        link.channel("127.0.0.1:1", options=options)
    with pytest.raises((TypeError, ValueError)):
        link.make_server(options=options)


async def test_a_user_agent_may_be_set(link: Link) -> None:
    async def look(request: bytes, context: Any) -> bytes:
        return str(dict(context.invocation_metadata())["user-agent"]).encode()

    _, target = await link.serve({"Look": unary(look)})
    channel = link.channel(target, options=(("grpc.primary_user_agent", "mine/1.0"),))
    assert (await channel.unary_unary(path("Look"))(b"")).startswith(b"mine/1.0 grpc-python")


async def test_servers_may_share_a_port_when_they_say_so(link: Link) -> None:
    options = (("grpc.so_reuseport", 1),)
    first, second = (link.make_server(BASIC, options=options) for _ in range(2))
    port = first.add_insecure_port("127.0.0.1:0")
    assert second.add_insecure_port(f"127.0.0.1:{port}") == port
    for server in (first, second):
        await server.start()
    channel = link.channel(f"127.0.0.1:{port}")
    assert await channel.unary_unary(path("Echo"))(b"x") == b"x"


async def test_keepalive_finds_a_peer_that_is_gone(link: Link) -> None:
    """A connection that carries nothing any more, and says nothing of it, is given up."""
    stuck = Stuck()
    _, target = await link.serve(stuck.handlers())
    async with Relay(int(target.rpartition(":")[2])) as relay:
        # grpc.aio pings every second at most, and waits for the longer of the two timeouts.
        options = (
            ("grpc.keepalive_time_ms", 50),
            ("grpc.keepalive_timeout_ms", 50),
            ("grpc.http2.ping_timeout_ms", 50),
        )
        channel = link.channel(f"127.0.0.1:{relay.port}", options=options)
        call = channel.unary_unary(path("Unary"))(b"")
        await stuck.begun.wait()
        relay.silence()
        error = await failure(call)
        assert error.code() is StatusCode.UNAVAILABLE
        await channel.close()


async def test_too_many_pings_are_answered_with_a_goaway(link: Link) -> None:
    """The server's patience: a client that pings without end loses its connection, and what runs on it."""
    options = (
        ("grpc.keepalive_time_ms", 10),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    )
    stuck = Stuck()
    # One less than by default: grpc.aio's client pings every second at most.
    _, target = await link.serve(stuck.handlers(), options=(("grpc.http2.max_ping_strikes", 1),))
    channel = link.channel(target, options=options)
    error = await failure(channel.unary_unary(path("Unary"))(b""))
    assert error.code() is StatusCode.UNAVAILABLE
    assert "too_many_pings" in error.details().lower().replace(" ", "_")
