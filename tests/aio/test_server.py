"""A server's life: ports, start, stop with and without grace, the limit of calls."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from aio.link import BASIC, SERVICE, Link, Stuck, failure, path, unary


async def call_echo(link: Link, target: str) -> bytes:
    response: bytes = await link.channel(target).unary_unary(path("Echo"))(b"x")
    return response


async def test_several_ports_serve_alike(link: Link) -> None:
    server = link.make_server(BASIC)
    assert isinstance(server, link.rpc.Server)
    ports = [server.add_insecure_port("127.0.0.1:0") for _ in range(2)]
    assert all(ports)
    assert ports[0] != ports[1]
    await server.start()
    for port in ports:
        assert await call_echo(link, f"127.0.0.1:{port}") == b"x"


async def test_a_port_that_is_taken_is_a_runtime_error(link: Link) -> None:
    server = link.make_server(BASIC)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    with pytest.raises(RuntimeError, match=f"Failed to bind to address 127.0.0.1:{port}"):
        link.make_server(BASIC).add_insecure_port(f"127.0.0.1:{port}")


async def test_an_address_that_is_none_is_a_runtime_error(link: Link) -> None:
    with pytest.raises(RuntimeError, match="Failed to bind to address"):
        link.make_server(BASIC).add_insecure_port("no.such.host.invalid:1")


async def test_handlers_may_be_given_to_the_constructor(link: Link) -> None:
    handler = grpc.method_handlers_generic_handler(SERVICE, dict(BASIC))
    server = link.rpc.server(handlers=(handler,), options=(("grpc.so_reuseport", 0),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    assert await call_echo(link, f"127.0.0.1:{port}") == b"x"
    await server.stop(None)


async def test_a_server_starts_once(link: Link) -> None:
    server = link.make_server(BASIC)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await server.start()
    assert await call_echo(link, f"127.0.0.1:{port}") == b"x"
    await server.stop(None)
    with pytest.raises(link.rpc.UsageError):
        await server.start()


async def test_stop_may_be_called_before_the_start_and_again(link: Link) -> None:
    await link.make_server(BASIC).stop(None)
    server, _ = await link.serve(BASIC)
    await server.stop(None)
    await server.stop(5)
    await server.stop(None)


async def test_stop_without_grace_cuts_calls_off(link: Link) -> None:
    stuck = Stuck()
    server, target = await link.serve(stuck.handlers())
    channel = link.channel(target)
    call = channel.unary_unary(path("Unary"))(b"")
    await stuck.begun.wait()
    await server.stop(None)
    await stuck.ended.wait()
    assert stuck.cancelled
    error = await failure(call)
    assert error.code() is StatusCode.UNAVAILABLE
    assert error.details()
    assert (await failure(channel.unary_unary(path("Unary"))(b""))).code() is StatusCode.UNAVAILABLE


async def test_stop_with_grace_lets_calls_finish_and_takes_no_new_ones(link: Link) -> None:
    stuck = Stuck()
    server, target = await link.serve({**BASIC, **stuck.handlers()})
    channel = link.channel(target)
    one = channel.unary_unary(path("Unary"))(b"one")
    await stuck.begun.wait()
    stopping = asyncio.create_task(server.stop(20))
    # The listener closes when the loop comes round to it.
    while not isinstance(await outcome(link.channel(target)), grpc.RpcError):
        pass
    assert not stopping.done()
    refused = await outcome(channel)
    assert refused.code() is StatusCode.UNAVAILABLE
    stuck.release.set()
    assert await one == b"one"
    await stopping
    assert not stuck.cancelled


async def outcome(channel: Any) -> Any:
    try:
        return await channel.unary_unary(path("Echo"))(b"")
    except grpc.RpcError as error:
        return error


async def test_a_stream_in_flight_ends_within_the_grace(link: Link) -> None:
    stuck = Stuck()
    server, target = await link.serve(stuck.handlers())
    call = link.channel(target).stream_stream(path("Chat"))()
    assert await call.read() == b"first"
    await stuck.begun.wait()
    stopping = asyncio.create_task(server.stop(20))
    await asyncio.sleep(0.02)
    stuck.release.set()
    for number in range(3):
        await call.write(b"%d" % number)
        assert await call.read() == b"%d" % number
    await call.done_writing()
    assert await call.read() is link.rpc.EOF
    assert await call.code() is StatusCode.OK
    await stopping


async def test_the_end_of_the_grace_cuts_calls_off(link: Link) -> None:
    stuck = Stuck()
    server, target = await link.serve(stuck.handlers())
    call = link.channel(target).unary_stream(path("Split"))(b"")
    assert await call.read() == b"first"
    await stuck.begun.wait()
    await server.stop(0.05)
    await stuck.ended.wait()
    assert stuck.cancelled
    assert (await failure(call.read())).code() is StatusCode.UNAVAILABLE


async def test_a_second_stop_may_shorten_the_grace(link: Link) -> None:
    stuck = Stuck()
    server, target = await link.serve(stuck.handlers())
    call = link.channel(target).unary_unary(path("Unary"))(b"")
    await stuck.begun.wait()
    long = asyncio.create_task(server.stop(1000))
    await asyncio.sleep(0.02)
    await server.stop(None)
    await long
    assert (await failure(call)).code() is StatusCode.UNAVAILABLE


async def test_stop_waits_for_handlers_that_clean_up(link: Link) -> None:
    begun, cleaned = asyncio.Event(), asyncio.Event()

    async def work(request: bytes, context: Any) -> bytes:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            cleaned.set()
        return request

    server, target = await link.serve({"Work": unary(work)})
    call = link.channel(target).unary_unary(path("Work"))(b"")
    await begun.wait()
    await server.stop(None)
    # grpc.aio says that it waits until the last handler has ended, but may be back before.
    if not link.is_grpcio:
        assert cleaned.is_set()
    await cleaned.wait()
    assert (await failure(call)).code() is StatusCode.UNAVAILABLE


async def test_wait_for_termination(link: Link) -> None:
    server, _ = await link.serve(BASIC)
    assert await server.wait_for_termination(0.02) is True
    waiting = asyncio.create_task(server.wait_for_termination())
    bounded = asyncio.create_task(server.wait_for_termination(20))
    await asyncio.sleep(0)
    await server.stop(None)
    assert await waiting is False
    assert await bounded is False
    assert await server.wait_for_termination() is False


async def test_calls_over_the_limit_are_refused(link: Link) -> None:
    stuck = Stuck()
    handlers = {**BASIC, **stuck.handlers()}
    channel = await link.open(handlers, maximum_concurrent_rpcs=1)
    call = channel.unary_unary(path("Unary"))(b"kept")
    await stuck.begun.wait()
    error = await failure(channel.unary_unary(path("Echo"))(b""))
    assert (error.code(), error.details()) == (
        StatusCode.RESOURCE_EXHAUSTED,
        "Concurrent RPC limit exceeded!",
    )
    stream = channel.stream_stream(path("Chat"))()
    assert await stream.code() is StatusCode.RESOURCE_EXHAUSTED
    stuck.release.set()
    assert await call == b"kept"
    # The place is free as soon as the server has put the call away.
    while isinstance(await outcome(channel), grpc.RpcError):
        pass


@pytest.mark.parametrize("limit", [0, -1])
async def test_a_limit_of_calls_is_positive(link: Link, limit: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        link.rpc.server(maximum_concurrent_rpcs=limit)


async def test_something_that_is_no_interceptor_is_refused(link: Link) -> None:
    with pytest.raises(ValueError, match="must be ServerInterceptor"):
        link.rpc.server(interceptors=(object(),))


async def test_the_constructor_takes_its_arguments_in_grpc_aios_order(link: Link) -> None:
    handler = grpc.method_handlers_generic_handler(SERVICE, dict(BASIC))
    with ThreadPoolExecutor(1) as pool:
        server = link.rpc.server(pool, (handler,), (), (("grpc.so_reuseport", 0),), 10, grpc.Compression.Gzip)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        assert await call_echo(link, f"127.0.0.1:{port}") == b"x"
        await server.stop(None)


async def test_a_stop_whose_caller_is_cancelled_goes_on(link: Link) -> None:
    stuck = Stuck()
    server, target = await link.serve(stuck.handlers())
    call = link.channel(target).unary_unary(path("Unary"))(b"x")
    await stuck.begun.wait()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(server.stop(20), 0.05)
    stuck.release.set()
    assert await call == b"x"
    assert not await server.wait_for_termination(20)
