"""What a server says of its services."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from server.conftest import Serve


async def ask(channel: Any, **question: str) -> ServerReflectionResponse:
    async def questions() -> AsyncIterator[ServerReflectionRequest]:
        yield ServerReflectionRequest(**question)  # type: ignore[arg-type]  # each is a text

    stub: Any = ServerReflectionStub(channel)
    [answer] = [each async for each in stub.ServerReflectionInfo(questions())]
    assert isinstance(answer, ServerReflectionResponse)
    return answer


@pytest.mark.parametrize("symbol", ["tai.v1.Governor", "tai.v1.Governor.HealthCheck", "tai.v1.Policy"])
async def test_services_methods_and_messages_are_found(serve: Serve, symbol: str) -> None:
    """A method's name is what ghz asks for."""
    _, channel = await serve({})
    answer = await ask(channel, file_containing_symbol=symbol)
    assert not answer.HasField("error_response")
    assert answer.file_descriptor_response.file_descriptor_proto


@pytest.mark.parametrize(
    "symbol", ["tai.v1.Nobody", "tai.v1.Governor.Nothing", "tai.v1.Policy.Nothing", "x", ""]
)
async def test_what_is_not_there_is_not_found(serve: Serve, symbol: str) -> None:
    _, channel = await serve({})
    answer = await ask(channel, file_containing_symbol=symbol)
    assert answer.error_response.error_code == 5
