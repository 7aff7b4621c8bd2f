"""Callers and handlers that do not agree on which side streams.

grpc.aio checks little here and leaves some of these calls unanswered, so they have deadlines. Of others it is
asked that they answer, and that a failure is INTERNAL or UNIMPLEMENTED, as gRPC has it for too few or too
many messages.
"""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from aio.link import BASIC, Link, path, read_all, split

WRONG = (StatusCode.INTERNAL, StatusCode.UNIMPLEMENTED)


async def empty(request: bytes, context: Any) -> AsyncIterator[bytes]:
    if request == b"never":
        yield request


HANDLERS = {**BASIC, "Empty": split(empty)}


def limit(link: Link) -> float:
    return 0.2 if link.is_grpcio else 20


async def test_one_response_of_a_stream_is_a_response(link: Link) -> None:
    channel = await link.open(HANDLERS)
    assert await channel.unary_unary(path("Split"))(b"x") == b"x"
    assert await channel.stream_unary(path("Chat"))([b"x"]) == b"x"


async def test_no_response_where_one_is_wanted(link: Link) -> None:
    """Defect of grpc.aio: the call succeeds with None."""
    channel = await link.open(HANDLERS)
    call = channel.unary_unary(path("Empty"))(b"", timeout=limit(link))
    if link.is_grpcio:
        assert await call is None
        return
    with pytest.raises(grpc.RpcError):
        await call
    assert await call.code() in WRONG


async def test_two_responses_where_one_is_wanted(link: Link) -> None:
    """Defect of grpc.aio: the call waits for its deadline."""
    channel = await link.open(HANDLERS)
    call = channel.unary_unary(path("Split"))(b"ab", timeout=limit(link))
    with pytest.raises(grpc.RpcError):
        await call
    code = await call.code()
    assert code in WRONG or (link.is_grpcio and code is StatusCode.DEADLINE_EXCEEDED)


async def test_no_request_where_one_is_wanted(link: Link) -> None:
    """Defect of grpc.aio: the call waits for its deadline."""
    channel = await link.open(HANDLERS)
    for name in ("Echo", "Split"):
        call = channel.stream_stream(path(name))([], timeout=limit(link))
        with pytest.raises(grpc.RpcError):
            await read_all(call)
        code = await call.code()
        assert code in WRONG or (link.is_grpcio and code is StatusCode.DEADLINE_EXCEEDED)


async def test_two_requests_where_one_is_wanted(link: Link) -> None:
    """grpc.aio takes the first; to refuse is right too."""
    channel = await link.open(HANDLERS)
    call = channel.stream_unary(path("Echo"))([b"first", b"second"], timeout=20)
    try:
        assert await call == b"first"
    except grpc.RpcError:
        assert not link.is_grpcio
        assert await call.code() in WRONG


async def test_a_unary_client_of_a_stream_of_requests(link: Link) -> None:
    channel = await link.open(HANDLERS)
    assert await channel.unary_unary(path("Join"))(b"x") == b"x"
    assert await read_all(channel.unary_stream(path("Chat"))(b"x")) == [b"x"]
