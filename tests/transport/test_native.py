"""The native transport against a native server: what it reports of an attempt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from tai_grpc import aio
from tai_grpc.config import GrpcClientConfig
from tai_grpc.transport.base import CallOptions
from tai_grpc.transport.native import NativeTransport

SPLIT = "/bytes.v1.Bytes/Split"


async def split(request: bytes, context: object) -> AsyncIterator[bytes]:
    for word in request.split():
        yield word


@pytest.fixture
async def transport() -> AsyncIterator[NativeTransport]:
    server = aio.server()
    handlers: dict[str, Any] = {"Split": grpc.unary_stream_rpc_method_handler(split)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bytes.v1.Bytes", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    subject = NativeTransport(f"127.0.0.1:{port}", GrpcClientConfig())
    yield subject
    await subject.close()
    await server.stop(None)


async def test_the_status_comes_after_the_last_message_was_read(transport: NativeTransport) -> None:
    """The messages and the status arrive together; who waits for the status then cancels the attempt."""
    attempt = transport.stream(SPLIT, b"a b c", CallOptions())

    async def end() -> StatusCode:
        reply = await attempt.status()
        attempt.cancel()
        return reply.code

    assert await attempt.answered()
    ended = asyncio.create_task(end())
    await asyncio.sleep(0)
    assert [await attempt.read() for _ in range(4)] == [b"a", b"b", b"c", None]
    assert await ended is StatusCode.OK


async def test_an_attempt_that_is_cancelled_unread_has_its_status(transport: NativeTransport) -> None:
    attempt = transport.stream(SPLIT, b"a b c", CallOptions())
    assert await attempt.answered()
    ended = asyncio.create_task(attempt.status())
    await asyncio.sleep(0)
    attempt.cancel()
    assert (await ended).code is StatusCode.CANCELLED
    assert await attempt.read() is None
