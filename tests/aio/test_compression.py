"""gzip and deflate both ways, seen by the bytes that pass between client and server."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc import Compression, StatusCode

from aio.link import BASIC, Link, failure, path, read_all, split, unary
from interop.relay import Relay

LARGE = bytes(200_000)
# What is left of LARGE by compression, with the headers around it, is far below this.
SMALL = 20_000

ALGORITHMS = [Compression.Gzip, Compression.Deflate]


async def relayed(link: Link, call: Any, handlers: Any = BASIC, **settings: Any) -> Relay:
    """Do `call(channel)` to a server of these settings; return what passed between them."""
    _, target = await link.serve(handlers, **settings)
    async with Relay(int(target.rpartition(":")[2])) as relay:
        channel = link.channel(f"127.0.0.1:{relay.port}")
        await call(channel)
        await channel.close()
        return relay


async def large(request: bytes, context: Any) -> bytes:
    return LARGE


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_call_may_compress_its_requests(link: Link, algorithm: Compression) -> None:
    async def call(channel: Any) -> None:
        assert await channel.unary_unary(path("Echo"))(LARGE, compression=algorithm) == LARGE
        assert await channel.stream_unary(path("Join"))([LARGE] * 2, compression=algorithm) == LARGE * 2
        messages = channel.stream_stream(path("Chat"))([LARGE, b"", b"x"], compression=algorithm)
        assert await read_all(messages) == [LARGE, b"", b"x"]

    relay = await relayed(link, call)
    assert relay.up < SMALL
    assert relay.down > len(LARGE)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_channel_may_compress_its_requests(link: Link, algorithm: Compression) -> None:
    _, target = await link.serve(BASIC)
    async with Relay(int(target.rpartition(":")[2])) as relay:
        channel = link.channel(f"127.0.0.1:{relay.port}", compression=algorithm)
        assert await channel.unary_unary(path("Echo"))(LARGE) == LARGE
        await channel.close()
    assert relay.up < SMALL


async def test_nothing_is_compressed_unasked(link: Link) -> None:
    async def call(channel: Any) -> None:
        assert await channel.unary_unary(path("Echo"))(LARGE) == LARGE

    relay = await relayed(link, call)
    assert relay.up > len(LARGE)
    assert relay.down > len(LARGE)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_server_may_compress_all_its_responses(link: Link, algorithm: Compression) -> None:
    async def call(channel: Any) -> None:
        assert await channel.unary_unary(path("Large"))(b"") == LARGE

    relay = await relayed(link, call, {"Large": unary(large)}, compression=algorithm)
    assert relay.down < SMALL


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_handler_may_compress_its_response(link: Link, algorithm: Compression) -> None:
    async def compress(request: bytes, context: Any) -> bytes:
        context.set_compression(algorithm)
        await context.send_initial_metadata(())
        return LARGE

    async def call(channel: Any) -> None:
        assert await channel.unary_unary(path("Compress"))(b"") == LARGE

    relay = await relayed(link, call, {"Compress": unary(compress)})
    assert relay.down < SMALL


async def test_a_handler_need_not_send_initial_metadata_to_compress(link: Link) -> None:
    """Defect of grpc.aio: it forgets the compression of a single response then."""

    async def compress(request: bytes, context: Any) -> bytes:
        context.set_compression(Compression.Gzip)
        return LARGE

    async def call(channel: Any) -> None:
        assert await channel.unary_unary(path("Compress"))(b"") == LARGE

    relay = await relayed(link, call, {"Compress": unary(compress)})
    assert relay.down < SMALL or link.is_grpcio


async def test_a_plain_function_may_compress_its_response(link: Link) -> None:
    def compress(request: bytes, context: Any) -> bytes:
        context.set_compression(Compression.Gzip)
        context.send_initial_metadata(())
        return LARGE

    async def call(channel: Any) -> None:
        assert await channel.unary_unary(path("Compress"))(b"") == LARGE

    relay = await relayed(link, call, {"Compress": unary(compress)})
    assert relay.down < SMALL


async def test_a_message_may_be_left_uncompressed(link: Link) -> None:
    async def some(request: bytes, context: Any) -> AsyncIterator[bytes]:
        context.set_compression(Compression.Gzip)
        yield LARGE
        context.disable_next_message_compression()
        yield LARGE
        yield LARGE

    async def call(channel: Any) -> None:
        assert await read_all(channel.unary_stream(path("Some"))(b"")) == [LARGE] * 3

    relay = await relayed(link, call, {"Some": split(some)})
    assert len(LARGE) < relay.down < len(LARGE) + SMALL


async def test_the_one_response_may_be_left_uncompressed(link: Link) -> None:
    async def plain(request: bytes, context: Any) -> bytes:
        context.disable_next_message_compression()
        return LARGE

    async def call(channel: Any) -> None:
        assert await channel.unary_unary(path("Plain"))(b"") == LARGE

    relay = await relayed(link, call, {"Plain": unary(plain)}, compression=Compression.Gzip)
    assert relay.down > len(LARGE)


async def test_what_is_compressed_is_not_seen_as_metadata(link: Link) -> None:
    seen: list[Any] = []

    async def look(request: bytes, context: Any) -> bytes:
        seen.append(dict(context.invocation_metadata()))
        context.set_compression(Compression.Gzip)
        await context.send_initial_metadata((("own", "1"),))
        return request

    channel = await link.open({"Look": unary(look)})
    call = channel.unary_unary(path("Look"))(b"x", compression=Compression.Gzip, metadata=(("a", "1"),))
    assert await call == b"x"
    assert set(seen[0]) == {"a", "user-agent"}
    assert list(await call.initial_metadata()) == [("own", "1")]


async def test_a_request_that_is_too_large_once_decompressed_is_refused(link: Link) -> None:
    channel = await link.open(BASIC)
    echo = channel.unary_unary(path("Echo"))
    error = await failure(echo(bytes(5_000_000), compression=Compression.Gzip))
    assert error.code() is StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in error.details()
    assert await echo(b"x", compression=Compression.Gzip) == b"x"


async def test_a_response_that_is_too_large_once_decompressed_is_refused(link: Link) -> None:
    _, target = await link.serve({"Large": unary(large)}, compression=Compression.Gzip)
    channel = link.channel(target, options=(("grpc.max_receive_message_length", 1000),))
    error = await failure(channel.unary_unary(path("Large"))(b""))
    assert error.code() is StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in error.details()


async def test_no_compression_is_a_value_too(link: Link) -> None:
    channel = await link.open(BASIC, compression=grpc.Compression.NoCompression)
    echo = channel.unary_unary(path("Echo"))
    assert await echo(LARGE, compression=grpc.Compression.NoCompression) == LARGE
