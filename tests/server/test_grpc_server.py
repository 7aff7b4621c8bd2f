"""The server's life: listening, refusing, draining."""

import asyncio
import errno
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import HealthServicer

from server.conftest import GenericServicer, Serve
from tai_grpc.config import GrpcServerConfig
from tai_grpc.errors import ConfigError, TaiGrpcError
from tai_grpc.resilience import Arena
from tai_grpc.server import GrpcServer
from tai_grpc.stores.memory import MemoryStore
from tai_grpc.tai import HealthCheckRequest, StreamPoliciesRequest
from tai_grpc.tai.v1.governor_pb2_grpc import GovernorServicer, GovernorStub

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def health(channel: Any) -> Any:
    return health_pb2_grpc.HealthStub(channel)


def governor(channel: Any) -> Any:
    return GovernorStub(channel)


async def test_every_service_is_healthy_and_named_by_reflection(serve: Serve) -> None:
    server, channel = await serve({})
    assert set(server.service_names) == {
        "tai.v1.Governor",
        "tai.v1.Coordinator",
        "tai.v1.Scheduler",
        "test.Generic",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    for name in ("", *server.service_names):
        answer = await health(channel).Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == SERVING


async def test_stop_turns_health_ends_watches_refuses_calls_and_lets_those_in_flight_finish(
    serve: Serve,
) -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def work(request: bytes, context: Any) -> bytes:
        begun.set()
        await release.wait()
        return b"finished"

    server, channel = await serve({"Work": grpc.unary_unary_rpc_method_handler(work)})
    in_flight = channel.unary_unary("/test.Generic/Work")(b"")
    await begun.wait()
    watch = governor(channel).StreamPolicies(StreamPoliciesRequest())
    await watch.initial_metadata()
    statuses = health(channel).Watch(health_pb2.HealthCheckRequest())
    assert (await statuses.read()).status == SERVING

    stopping = asyncio.create_task(server.stop())
    assert (await statuses.read()).status == NOT_SERVING
    statuses.cancel()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await watch.read()
    assert caught.value.code() is StatusCode.UNAVAILABLE
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await governor(channel).HealthCheck(HealthCheckRequest())
    assert caught.value.code() is StatusCode.UNAVAILABLE
    assert not stopping.done()
    release.set()
    assert await in_flight == b"finished"
    await asyncio.wait_for(stopping, 30)
    await server.stop()


async def test_a_call_that_outlasts_the_grace_is_cancelled(serve: Serve) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def hang(request: bytes, context: Any) -> bytes:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return b""

    server, channel = await serve({"Hang": grpc.unary_unary_rpc_method_handler(hang)})
    call = channel.unary_unary("/test.Generic/Hang")(b"")
    await begun.wait()
    await server.stop(grace=0.05)
    await asyncio.wait_for(ended.wait(), 30)
    assert await call.code() in (StatusCode.UNAVAILABLE, StatusCode.CANCELLED)


SERVE = """
import asyncio, sys
from tai_grpc.config import GrpcServerConfig
from tai_grpc.server import GrpcServer

async def main():
    server = GrpcServer(GrpcServerConfig(listen="127.0.0.1:0", grace=10.0))
    await server.start()
    print(server.address, flush=True)
    await server.run()

asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_process_with_exit_code_0(number: signal.Signals) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    address = (await process.stdout.readline()).decode().strip()
    async with grpc.aio.insecure_channel(address) as channel:
        watch = governor(channel).StreamPolicies(StreamPoliciesRequest())
        await watch.initial_metadata()
        process.send_signal(number)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watch.read()
        assert caught.value.details() == "the server is shutting down"
    _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0, errors.decode()
    assert b"Traceback" not in errors


async def test_a_taken_port_is_an_oserror_that_names_it(serve: Serve) -> None:
    server, _ = await serve({})
    second = GrpcServer(GrpcServerConfig(listen=server.address))
    with pytest.raises(OSError, match=f"cannot listen on {server.address}: address already in use") as caught:
        await second.start()
    assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize(
    ("listen", "why", "number"),
    [
        # An address of documentation's (RFC 5737), which no host has.
        ("192.0.2.1:50051", "cannot assign requested address", errno.EADDRNOTAVAIL),
        ("unix:/no/such/folder/socket", "no such file or directory", errno.ENOENT),
    ],
)
async def test_why_it_cannot_listen_is_the_systems_own_word(listen: str, why: str, number: int) -> None:
    with pytest.raises(OSError, match=f"^cannot listen on {listen}: {why}$") as caught:
        await GrpcServer(GrpcServerConfig(listen=listen)).start()
    assert caught.value.errno == number


async def test_a_name_that_is_not_known_is_no_address_to_listen_on() -> None:
    with pytest.raises(OSError, match=r"^cannot listen on nowhere\.invalid:50051: .*\bname\b"):
        await GrpcServer(GrpcServerConfig(listen="nowhere.invalid:50051")).start()


async def test_it_listens_on_a_unix_socket(serve: Serve, tmp_path: Path) -> None:
    server, channel = await serve({}, listen=f"unix:{tmp_path}/socket")
    assert server.address == f"unix:{tmp_path}/socket"
    assert (await governor(channel).HealthCheck(HealthCheckRequest())).status == "healthy"


async def test_a_message_over_the_limit_is_resource_exhausted(serve: Serve) -> None:
    async def echo(request: bytes, context: Any) -> bytes:
        return request

    _, channel = await serve({"Echo": grpc.unary_unary_rpc_method_handler(echo)}, max_message_bytes=1000)
    assert await channel.unary_unary("/test.Generic/Echo")(bytes(1000)) == bytes(1000)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary("/test.Generic/Echo")(bytes(1001))
    assert caught.value.code() is StatusCode.RESOURCE_EXHAUSTED


async def test_calls_over_the_limit_are_refused(serve: Serve) -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def work(request: bytes, context: Any) -> bytes:
        begun.set()
        await release.wait()
        return b""

    _, channel = await serve({"Work": grpc.unary_unary_rpc_method_handler(work)}, max_concurrent_calls=1)
    call = channel.unary_unary("/test.Generic/Work")(b"")
    await begun.wait()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary("/test.Generic/Work")(b"")
    assert caught.value.code() is StatusCode.RESOURCE_EXHAUSTED
    release.set()
    assert await call == b""


async def test_misuse_is_told(serve: Serve) -> None:
    server, _ = await serve({})
    with pytest.raises(TaiGrpcError, match="before the server starts"):
        server.add(GenericServicer({}))
    with pytest.raises(TaiGrpcError, match="starts once"):
        await server.start()
    fresh = GrpcServer()
    with pytest.raises(TypeError, match="object has no base that protoc"):
        fresh.add(object())
    with pytest.raises(TypeError, match="servicer: expected an instance, got the class GenericServicer"):
        fresh.add(GenericServicer)
    with pytest.raises(TaiGrpcError, match="not running"):
        fresh.address  # noqa: B018 -- reading it is the point


@pytest.mark.parametrize(
    ("arguments", "accepted"),
    [
        ({"config": "localhost:50051"}, "config='localhost:50051': expected an? GrpcServerConfig"),
        ({"config": 5}, "config=5: expected an? GrpcServerConfig"),
        ({"store": 5}, "store=5: expected an? Store"),
        ({"arena": "/tmp/x"}, "arena='/tmp/x': expected an? Arena"),
    ],
)
def test_arguments_of_another_type_are_refused_at_once(arguments: dict[str, Any], accepted: str) -> None:
    with pytest.raises(ConfigError, match=accepted):
        GrpcServer(**arguments)


def test_a_service_is_added_once() -> None:
    governor: Any = GovernorServicer
    server = GrpcServer()
    server.add(GenericServicer({}))
    for name, servicer in (
        ("test.Generic", GenericServicer({})),
        ("tai.v1.Governor", governor()),
        ("grpc.health.v1.Health", HealthServicer()),
    ):
        expected = f"servicer='{name}': expected a service that the server does not have yet"
        with pytest.raises(ConfigError, match=expected):
            server.add(servicer)
    GrpcServer(GrpcServerConfig(control_plane=False)).add(governor())


async def test_what_reached_a_handler_is_counted(serve: Serve) -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def answer(request: bytes, context: Any) -> bytes:
        return request

    async def refuse(request: bytes, context: Any) -> bytes:
        context.set_code(StatusCode.NOT_FOUND)
        return request

    async def fail(request: bytes, context: Any) -> bytes:
        raise ValueError("not today")

    async def hang(request: bytes, context: Any) -> bytes:
        begun.set()
        await release.wait()
        return request

    async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield request

    handlers: dict[str, Any] = {
        function.__name__: grpc.unary_unary_rpc_method_handler(function)
        for function in (answer, refuse, fail, hang)
    }
    handlers["stream"] = grpc.unary_stream_rpc_method_handler(stream)
    server, channel = await serve(handlers)
    assert counts(server) == (0, 0, 0, 0)
    for _ in range(5):
        await channel.unary_unary("/test.Generic/answer")(b"")
    for name in ("refuse", "fail", "nowhere"):
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.unary_unary(f"/test.Generic/{name}")(b"")
    assert [message async for message in channel.unary_stream("/test.Generic/stream")(b"1")] == [b"1"]
    hanging = channel.unary_unary("/test.Generic/hang")(b"")
    await begun.wait()
    assert counts(server) == (9, 2, 1, 5), "nowhere has no handler"
    hanging.cancel()
    async with asyncio.timeout(30):
        while server.stats().in_flight:  # noqa: ASYNC110 - the count is all that tells
            await asyncio.sleep(0.001)
    assert counts(server) == (9, 3, 0, 5)
    assert 0 < server.stats().latency.max < 60_000_000
    await server.stop()
    assert counts(server) == (9, 3, 0, 5)


def counts(server: GrpcServer) -> tuple[int, int, int, int]:
    stats = server.stats()
    return stats.started, stats.failed, stats.in_flight, stats.latency.count


async def test_servers_that_share_an_arena_count_together(serve: Serve) -> None:
    arena = Arena(None, 1 << 20)
    first = GrpcServer(GrpcServerConfig(listen="127.0.0.1:0"), arena=arena)
    second = GrpcServer(GrpcServerConfig(listen="127.0.0.1:0"), arena=arena)
    for server in (first, second):
        async with server, grpc.aio.insecure_channel(server.address) as channel:
            await governor(channel).HealthCheck(HealthCheckRequest())
    assert counts(first) == counts(second) == (2, 0, 0, 2)


async def test_without_the_control_plane_only_what_was_added_is_served(serve: Serve) -> None:
    server, channel = await serve({}, control_plane=False)
    assert list(server.service_names) == [
        "test.Generic",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    ]
    assert (await health(channel).Check(health_pb2.HealthCheckRequest())).status == SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await governor(channel).HealthCheck(HealthCheckRequest())
    assert caught.value.code() is StatusCode.UNIMPLEMENTED
    with pytest.raises(ConfigError, match="control_plane=False: expected True, or no store"):
        GrpcServer(GrpcServerConfig(control_plane=False), MemoryStore())


async def test_a_port_is_shared_with_who_asks_for_it(serve: Serve) -> None:
    server, _ = await serve({}, reuse_port=True)
    second, channel = await serve({}, reuse_port=True, listen=server.address)
    assert second.address == server.address
    assert (await health(channel).Check(health_pb2.HealthCheckRequest())).status == SERVING
