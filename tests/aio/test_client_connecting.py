"""How the native client comes to its connections, keeps them, and lets go of them."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc import ChannelConnectivity, StatusCode

from aio.peer import ACK, MAX_CONCURRENT_STREAMS, SETTINGS, Peer, scripted
from tai_grpc import ConfigError, aio
from tai_grpc.aio._backoff import Keepalive
from tai_grpc.aio._channel_options import channel_options
from tai_grpc.aio._connection import settings_of
from tai_grpc.aio._subchannel import Subchannel
from tai_grpc.aio._target import DEFAULT_PORT, Address, parse

METHOD = "/test.Connecting/Who"
IMPATIENT = (("grpc.initial_reconnect_backoff_ms", 10), ("grpc.max_reconnect_backoff_ms", 20))


class Servers:
    """grpcio's servers, each of which answers with its own name."""

    def __init__(self) -> None:
        self.running: dict[str, tuple[Any, int]] = {}

    async def start(self, name: str, address: str = "127.0.0.1:0") -> int:
        async def who(request: bytes, context: Any) -> bytes:
            return name.encode()

        server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        handlers: dict[str, Any] = {"Who": grpc.unary_unary_rpc_method_handler(who)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Connecting", handlers),))
        port = server.add_insecure_port(address)
        await server.start()
        self.running[name] = server, port
        return int(port)

    async def stop(self, name: str) -> int:
        server, port = self.running.pop(name)
        await server.stop(None)
        return int(port)


@pytest.fixture
async def servers() -> AsyncIterator[Servers]:
    started = Servers()
    yield started
    for name in list(started.running):
        await started.stop(name)


async def answers(peer: Peer) -> None:
    await peer.start()
    while True:
        peer.answer(await peer.request())


# --- Targets --------------------------------------------------------------------------------------------

TARGETS = {
    "host": ("host", 443, "host"),
    "host:50051": ("host", 50051, "host:50051"),
    "dns:host:1": ("host", 1, "host:1"),
    "dns:///host:1": ("host", 1, "host:1"),
    "dns:///host": ("host", 443, "host"),
    "my_scheme:1": ("my_scheme", 1, "my_scheme:1"),
}
ADDRESSES = {
    "127.0.0.1:1": ([Address("127.0.0.1", 1)], "127.0.0.1:1"),
    "[::1]:1": ([Address("::1", 1)], "[::1]:1"),
    "::1": ([Address("::1", DEFAULT_PORT)], "[::1]"),
    "ipv4:127.0.0.1:1,127.0.0.2:2": ([Address("127.0.0.1", 1), Address("127.0.0.2", 2)], "127.0.0.1:1"),
    "ipv6:[::1]:1": ([Address("::1", 1)], "[::1]:1"),
    "unix:relative/path": ([Address(path="relative/path")], "localhost"),
    "unix:///absolute/path": ([Address(path="/absolute/path")], "localhost"),
    "unix-abstract:name": ([Address(path="\0name")], "localhost"),
}


@pytest.mark.parametrize("text", TARGETS)
def test_names_are_resolved_later(text: str) -> None:
    target = parse(text)
    assert (target.host, target.port, target.authority) == TARGETS[text]
    assert target.addresses == ()


@pytest.mark.parametrize("text", ADDRESSES)
def test_addresses_need_no_resolving(text: str) -> None:
    target = parse(text)
    assert (list(target.addresses), target.authority) == ADDRESSES[text]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host:65536",
        "host:port",
        "[::1",
        "a:b:c",
        "dns://8.8.8.8/host:1",
        "xds:///service",
        "vsock:1:2",
        "http://host",
        "ipv4:host:1",
        "ipv4:127.0.0.1",
        "ipv6:127.0.0.1:1",
        "unix:",
        "unix://relative",
        "unix:" + "x" * 108,
        "two words:1",
    ],
)
async def test_what_is_no_target_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError, match="target="):
        aio.insecure_channel(text)


async def test_a_resolver_that_gives_several_addresses_has_them_all_tried(servers: Servers) -> None:
    """`localhost` may be ::1 first, where nobody listens."""
    port = await servers.start("a")
    async with aio.insecure_channel(f"dns:///localhost:{port}") as channel:
        assert await channel.unary_unary(METHOD)(b"") == b"a"


async def test_connecting_that_fails_unexpectedly_is_reported_and_tried_again(servers: Servers) -> None:
    port = await servers.start("a")
    loop = asyncio.get_running_loop()
    reported: list[str] = []
    loop.set_exception_handler(lambda _, context: reported.append(context["message"]))
    states: list[tuple[ChannelConnectivity, str]] = []
    ready = asyncio.Event()

    def changed(subchannel: Subchannel) -> None:
        states.append((subchannel.state, subchannel.failure))
        if subchannel.state is ChannelConnectivity.READY:
            ready.set()

    async def addresses() -> list[Address]:
        if not reported:
            raise RuntimeError("a defect")
        return [Address("127.0.0.1", port)]

    settings = settings_of(parse(f"localhost:{port}"), channel_options(IMPATIENT), None)
    subchannel = Subchannel(
        loop, addresses, settings=settings, keepalive=Keepalive(None), changed=changed, name="this"
    )
    subchannel.connect()
    await ready.wait()
    assert reported == ["connecting to this failed unexpectedly"]
    assert (ChannelConnectivity.TRANSIENT_FAILURE, "RuntimeError: a defect") in states
    await subchannel.close()


# --- Options --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "option",
    [
        ("grpc.no_such_option", 1),
        ("grpc.keepalive_time_ms", "soon"),
        ("grpc.keepalive_time_ms", 0),
        ("grpc.keepalive_permit_without_calls", 2),
        ("grpc.lb_policy_name", "least_request"),
        ("grpc.enable_http_proxy", 1),
        ("grpc.service_config", '{"methodConfig": []}'),
        ("grpc.service_config", "not JSON"),
        ("grpc.service_config", '{"loadBalancingConfig": 5}'),
        ("grpc.default_authority", 5),
        ("grpc.default_compression_algorithm", 9),
    ],
)
async def test_an_option_that_cannot_be_honoured_is_refused_by_name(option: tuple[str, Any]) -> None:
    with pytest.raises(ConfigError, match=option[0].replace(".", r"\.")):
        aio.insecure_channel("localhost:1", options=[option])


@pytest.mark.parametrize("name", [".example", "two..dots", "x" * 64 + ".example"])
async def test_a_name_that_no_certificate_can_have_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"the server's name='.*': expected a host's name"):
        aio.secure_channel(f"{name}:443", aio.ssl_channel_credentials())
    options = [("grpc.ssl_target_name_override", name)]
    with pytest.raises(ConfigError, match=r"the server's name='.*': expected a host's name"):
        aio.secure_channel("localhost:443", aio.ssl_channel_credentials(), options=options)


# --- Several addresses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "option",
    [
        ("grpc.lb_policy_name", "round_robin"),
        ("grpc.service_config", '{"loadBalancingConfig": [{"no_such": {}}, {"round_robin": {}}]}'),
    ],
)
async def test_round_robin_asks_all_in_turn_and_goes_on_without_one(
    servers: Servers, option: tuple[str, str]
) -> None:
    ports = [await servers.start(name) for name in "abc"]
    target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
    async with aio.insecure_channel(target, options=[option, *IMPATIENT]) as channel:
        method = channel.unary_unary(METHOD)
        while {await method(b"") for _ in range(3)} != {b"a", b"b", b"c"}:
            pass
        assert sorted([await method(b"") for _ in range(30)]) == [b"a"] * 10 + [b"b"] * 10 + [b"c"] * 10
        port = await servers.stop("b")
        assert {await method(b"", wait_for_ready=True) for _ in range(30)} == {b"a", b"c"}
        await servers.start("b", f"127.0.0.1:{port}")
        while await method(b"") != b"b":
            pass


@pytest.mark.parametrize("others", [[], ["b"]], ids=["the only one", "one of two"])
async def test_round_robin_replaces_a_connection_that_takes_no_more_calls(
    servers: Servers, others: list[str]
) -> None:
    """As one does whose numbers of streams are used up; a call goes on there."""
    ports = [await servers.start(name) for name in ["a", *others]]
    target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
    async with aio.insecure_channel(target, options=[("grpc.lb_policy_name", "round_robin")]) as channel:
        method = channel.unary_unary(METHOD)
        while {await method(b"") for _ in ports} != {b"a", *(name.encode() for name in others)}:
            pass
        used_up = next(iter(channel._policy._subchannels.values())).connection  # type: ignore[attr-defined]
        going_on = channel.stream_stream(METHOD)()
        while not used_up.calls:
            going_on.cancel()
            going_on = channel.stream_stream(METHOD)()
        used_up.drain()
        while {await method(b"", timeout=20) for _ in ports} != {b"a", *(name.encode() for name in others)}:
            pass
        assert used_up.calls == 1
        going_on.cancel()


async def test_round_robin_fails_only_when_all_do(servers: Servers, unused_tcp_port: int) -> None:
    target = f"ipv4:127.0.0.1:{unused_tcp_port},127.0.0.2:{unused_tcp_port}"
    options = [("grpc.lb_policy_name", "round_robin"), *IMPATIENT]
    async with aio.insecure_channel(target, options=options) as channel:
        with pytest.raises(aio.AioRpcError) as caught:
            await channel.unary_unary(METHOD)(b"")
        assert caught.value.code() is StatusCode.UNAVAILABLE
        for address in ("127.0.0.1", "127.0.0.2"):
            assert address in str(caught.value.details())
        assert channel.get_state() is ChannelConnectivity.TRANSIENT_FAILURE
        await servers.start("late", f"127.0.0.2:{unused_tcp_port}")
        assert await channel.unary_unary(METHOD)(b"", wait_for_ready=True) == b"late"


async def test_the_next_address_is_tried_while_one_is_silent(servers: Servers) -> None:
    """A port that takes connections and says nothing holds nobody up."""

    async def silent(peer: Peer) -> None:
        await peer.closed()

    port = await servers.start("b")
    async with scripted(silent) as scene:
        target = f"ipv4:{scene.target},127.0.0.1:{port}"
        options = [("grpc.happy_eyeballs_connection_attempt_delay_ms", 10)]
        async with aio.insecure_channel(target, options=options) as channel:
            assert await channel.unary_unary(METHOD)(b"") == b"b"
            assert scene.connections == 1


# --- Trying again ---------------------------------------------------------------------------------------


async def test_a_failure_to_connect_names_the_address_and_the_reason(unused_tcp_port: int) -> None:
    async with aio.insecure_channel(f"127.0.0.1:{unused_tcp_port}") as channel:
        with pytest.raises(aio.AioRpcError) as caught:
            await channel.unary_unary(METHOD)(b"")
    details = str(caught.value.details())
    assert details.startswith("failed to connect to all addresses; last error: ")
    assert f"ipv4:127.0.0.1:{unused_tcp_port}" in details
    assert "Connection refused" in details


async def test_a_server_that_never_says_its_settings_is_a_failure_in_time() -> None:
    async def silent(peer: Peer) -> None:
        await peer.closed()

    async with scripted(silent) as scene:
        options = [("grpc.min_reconnect_backoff_ms", 30), *IMPATIENT]
        async with aio.insecure_channel(scene.target, options=options) as channel:
            with pytest.raises(aio.AioRpcError) as caught:
                await channel.unary_unary(METHOD)(b"")
    assert caught.value.code() is StatusCode.UNAVAILABLE
    assert "no answer within 0.03 s" in str(caught.value.details())


async def test_a_server_that_is_no_http2_is_a_failure() -> None:
    async def http1(peer: Peer) -> None:
        peer._writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await peer.closed()

    async with scripted(http1) as scene, aio.insecure_channel(scene.target) as channel:
        with pytest.raises(aio.AioRpcError) as caught:
            await channel.unary_unary(METHOD)(b"")
    assert caught.value.code() is StatusCode.UNAVAILABLE


async def test_the_pause_between_attempts_grows_to_its_limit(unused_tcp_port: int) -> None:
    options = [("grpc.initial_reconnect_backoff_ms", 1), ("grpc.max_reconnect_backoff_ms", 5)]
    async with aio.insecure_channel(f"127.0.0.1:{unused_tcp_port}", options=options) as channel:
        subchannel = channel._policy._subchannel  # type: ignore[attr-defined]
        pauses: list[float] = []
        channel.get_state(try_to_connect=True)
        while len(pauses) < 5:
            if subchannel._backoff.seconds not in pauses:
                pauses.append(subchannel._backoff.seconds)
            await asyncio.sleep(0)
    assert pauses == pytest.approx([0.001, 0.0016, 0.00256, 0.004096, 0.005])


async def test_trying_again_can_be_asked_for(servers: Servers, unused_tcp_port: int) -> None:
    options = [("grpc.initial_reconnect_backoff_ms", 3_600_000), ("grpc.max_reconnect_backoff_ms", 3_600_000)]
    async with aio.insecure_channel(f"127.0.0.1:{unused_tcp_port}", options=options) as channel:
        method = channel.unary_unary(METHOD)
        with pytest.raises(aio.AioRpcError):
            await method(b"")
        await servers.start("a", f"127.0.0.1:{unused_tcp_port}")
        waiting = method(b"", wait_for_ready=True)
        while not waiting.done():
            channel.reset_connect_backoff()
            await asyncio.sleep(0)
        assert await waiting == b"a"


async def test_a_server_that_drops_every_connection_is_not_flooded() -> None:
    """Ready and lost at once, again and again, takes the pauses of a failure to connect."""

    async def drop(peer: Peer) -> None:
        await peer.start()
        peer.close()

    async with scripted(drop) as scene:
        options = [("grpc.initial_reconnect_backoff_ms", 3_600_000)]
        async with aio.insecure_channel(scene.target, options=options) as channel:
            waiting = channel.unary_unary(METHOD)(b"", timeout=0.2)
            assert await waiting.code() in (StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED)
        assert scene.connections <= 2


async def test_a_connection_of_use_is_replaced_at_once() -> None:
    async def one(peer: Peer) -> None:
        await peer.start()
        stream = await peer.request()
        peer.answer(stream)
        peer.goaway(stream)
        await peer.closed()

    async with scripted(one) as scene:
        options = [("grpc.initial_reconnect_backoff_ms", 3_600_000)]
        async with aio.insecure_channel(scene.target, options=options) as channel:
            method = channel.unary_unary(METHOD)
            assert [await method(b"") for _ in range(20)] == [b"answer"] * 20
        assert scene.connections == 20


async def test_a_server_that_dismisses_every_connection_is_not_flooded() -> None:
    """Ready, and GOAWAY in peace before it has answered anything, again and again."""

    async def dismiss(peer: Peer) -> None:
        await peer.start([(MAX_CONCURRENT_STREAMS, 0)])
        while not ((frame := await peer.frame()).kind == SETTINGS and frame.flags & ACK):
            pass
        peer.goaway(0)
        await peer.closed()

    async with scripted(dismiss) as scene, aio.insecure_channel(scene.target) as channel:
        begun = time.monotonic()
        waiting = channel.unary_unary(METHOD)(b"", timeout=0.5, wait_for_ready=True)
        assert await waiting.code() is StatusCode.DEADLINE_EXCEEDED
        assert 2 <= scene.connections <= 2 + 10 * (time.monotonic() - begun)


async def test_calls_wait_for_a_connection_up_to_their_deadline() -> None:
    async def silent(peer: Peer) -> None:
        await peer.closed()

    async with scripted(silent) as scene, aio.insecure_channel(scene.target) as channel:
        call = channel.unary_unary(METHOD)(b"", timeout=0.05)
        assert channel.get_state() is ChannelConnectivity.CONNECTING
        with pytest.raises(aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is StatusCode.DEADLINE_EXCEEDED


async def begins(peer: Peer) -> None:
    """Answer a call with its headers alone."""
    await peer.start()
    peer.headers(await peer.request())
    await peer.closed()


# --- Letting go -----------------------------------------------------------------------------------------


async def test_a_channel_closes_while_it_connects() -> None:
    async def silent(peer: Peer) -> None:
        await peer.closed()

    async with scripted(silent) as scene:
        channel = aio.insecure_channel(scene.target)
        call = channel.unary_unary(METHOD)(b"")
        await scene.accepted.wait()
        await channel.close()
        assert call.cancelled()


async def test_a_close_that_is_cancelled_closes_at_once() -> None:
    """It cannot be asked for again, so nothing may stay open."""

    async def tells(peer: Peer) -> None:
        await begins(peer)
        gone.set()

    gone = asyncio.Event()
    async with scripted(tells) as scene:
        channel = aio.insecure_channel(scene.target)
        call = channel.unary_unary(METHOD)(b"")
        await call.initial_metadata()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(channel.close(grace=60), 0.05)
        assert call.cancelled()
        assert channel.get_state() is ChannelConnectivity.SHUTDOWN
        await gone.wait()


async def test_a_channel_that_is_dropped_disconnects_after_its_calls() -> None:
    dropped = asyncio.Event()
    closed = asyncio.Event()

    async def patient(peer: Peer) -> None:
        await peer.start()
        stream = await peer.whole_request()
        await dropped.wait()
        peer.answer(stream)
        await peer.closed()
        closed.set()

    async with scripted(patient) as scene:
        channel = aio.insecure_channel(scene.target)
        call = channel.unary_unary(METHOD)(b"")
        await channel.channel_ready()
        del channel
        gc.collect()
        dropped.set()
        assert await call == b"answer"
        await closed.wait()


async def test_a_close_with_grace_ends_when_the_last_call_is_dropped() -> None:
    async with scripted(begins) as scene:
        channel = aio.insecure_channel(scene.target)
        call = channel.unary_stream(METHOD)(b"")
        await call.initial_metadata()
        closing = asyncio.create_task(channel.close(grace=3600))
        for _ in range(10):
            await asyncio.sleep(0)  # until it waits
        del call
        gc.collect()
        await closing


async def test_a_channel_that_is_dropped_disconnects_when_its_last_call_is_dropped() -> None:
    closed = asyncio.Event()

    async def patient(peer: Peer) -> None:
        await begins(peer)
        closed.set()

    async with scripted(patient) as scene:
        channel = aio.insecure_channel(scene.target)
        call = channel.unary_stream(METHOD)(b"")
        await call.initial_metadata()
        del channel
        gc.collect()
        for _ in range(10):
            await asyncio.sleep(0)  # until that is known
        del call
        gc.collect()
        await closed.wait()


async def test_call_objects_outlive_their_channel() -> None:
    async with scripted(answers) as scene:
        async with aio.insecure_channel(scene.target) as channel:
            call = channel.unary_unary(METHOD)(b"")
            assert await call == b"answer"
        del channel
        gc.collect()
        assert await call == b"answer"
        assert await call.code() is StatusCode.OK
        assert await call.initial_metadata() == aio.Metadata()
        assert not call.cancel()
