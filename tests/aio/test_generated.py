"""Stubs and servicers as protoc generates them, unchanged."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from aio.link import Link, failure, read_all
from interop.generated import Generated
from interop.servicer import make_servicer


async def opened(link: Link, protos: Generated, servicer: Any) -> Any:
    """Serve a servicer; return a channel to it."""
    server = link.make_server()
    protos.services.add_TestServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return link.channel(f"127.0.0.1:{port}")


async def test_a_stub_and_a_servicer_of_the_four_kinds(link: Link, protos: Generated) -> None:
    messages = protos.messages
    stub = protos.services.TestServiceStub(await opened(link, protos, make_servicer(protos)))
    unary = await stub.UnaryCall(messages.SimpleRequest(response_size=3))
    assert unary == messages.SimpleResponse(payload=messages.Payload(body=bytes(3)))
    wanted = [messages.ResponseParameters(size=size) for size in (1, 0, 2)]
    request = messages.StreamingOutputCallRequest(response_parameters=wanted)
    responses = await read_all(stub.StreamingOutputCall(request))
    assert [len(response.payload.body) for response in responses] == [1, 0, 2]
    inputs = [
        messages.StreamingInputCallRequest(payload=messages.Payload(body=bytes(size))) for size in (1, 0, 2)
    ]
    assert (await stub.StreamingInputCall(inputs)).aggregated_payload_size == 3
    responses = await read_all(stub.FullDuplexCall([request] * 2))
    assert [len(response.payload.body) for response in responses] == [1, 0, 2] * 2


async def test_an_empty_message_takes_no_bytes(link: Link, protos: Generated) -> None:
    stub = protos.services.TestServiceStub(await opened(link, protos, make_servicer(protos)))
    assert await stub.EmptyCall(protos.empty.Empty()) == protos.empty.Empty()
    assert protos.empty.Empty().SerializeToString() == b""


async def test_a_method_the_servicer_left_out_is_unimplemented(link: Link, protos: Generated) -> None:
    """The generated base class raises NotImplementedError in a plain function, with its code set."""
    stub = protos.services.TestServiceStub(await opened(link, protos, protos.services.TestServiceServicer()))
    for call in (
        stub.UnaryCall(protos.messages.SimpleRequest()),
        stub.StreamingInputCall([]),
    ):
        assert (await failure(call)).code() is StatusCode.UNIMPLEMENTED
    for stream in (
        stub.StreamingOutputCall(protos.messages.StreamingOutputCallRequest()),
        stub.FullDuplexCall([]),
    ):
        with pytest.raises(grpc.RpcError):
            await read_all(stream)
        assert await stream.code() is StatusCode.UNIMPLEMENTED


async def test_a_servicer_written_for_grpcs_blocking_server(link: Link, protos: Generated) -> None:
    messages = protos.messages

    class Blocking(protos.services.TestServiceServicer):  # type: ignore[misc, name-defined]  # made at run time
        def UnaryCall(self, request: Any, context: Any) -> Any:
            context.set_trailing_metadata((("kind", "blocking"),))
            return messages.SimpleResponse(username=dict(context.invocation_metadata())["user"])

        def StreamingOutputCall(self, request: Any, context: Any) -> Iterator[Any]:
            for wanted in request.response_parameters:
                yield messages.StreamingOutputCallResponse(payload=messages.Payload(body=bytes(wanted.size)))

        def StreamingInputCall(self, requests: Iterator[Any], context: Any) -> Any:
            size = sum(len(request.payload.body) for request in requests)
            return messages.StreamingInputCallResponse(aggregated_payload_size=size)

        def FullDuplexCall(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
            for request in requests:
                if request.HasField("response_status"):
                    context.set_code(StatusCode.ABORTED)
                    context.set_details(request.response_status.message)
                    return
                yield messages.StreamingOutputCallResponse(payload=request.payload)

    stub = protos.services.TestServiceStub(await opened(link, protos, Blocking()))
    call = stub.UnaryCall(messages.SimpleRequest(), metadata=(("user", "me"),))
    assert (await call).username == "me"
    assert (await call.trailing_metadata())["kind"] == "blocking"
    wanted = [messages.ResponseParameters(size=size) for size in (1, 2)]
    request = messages.StreamingOutputCallRequest(response_parameters=wanted)
    assert len(await read_all(stub.StreamingOutputCall(request))) == 2
    inputs = [messages.StreamingInputCallRequest(payload=messages.Payload(body=b"123"))] * 3
    assert (await stub.StreamingInputCall(inputs)).aggregated_payload_size == 9
    duplex = stub.FullDuplexCall()
    await duplex.write(messages.StreamingOutputCallRequest(payload=messages.Payload(body=b"x")))
    assert (await duplex.read()).payload.body == b"x"
    status = messages.EchoStatus(code=10, message="enough")
    await duplex.write(messages.StreamingOutputCallRequest(response_status=status))
    error = await failure(duplex.read())
    assert (error.code(), error.details()) == (StatusCode.ABORTED, "enough")


async def test_a_servicer_that_returns_what_is_no_message_fails_its_call(
    link: Link, protos: Generated
) -> None:
    class Wrong(protos.services.TestServiceServicer):  # type: ignore[misc, name-defined]  # made at run time
        async def UnaryCall(self, request: Any, context: Any) -> Any:
            return None if request.fill_username else "text"

        async def StreamingOutputCall(self, request: Any, context: Any) -> AsyncIterator[Any]:
            yield protos.messages.SimpleRequest()  # serializes all the same
            yield 5

    stub = protos.services.TestServiceStub(await opened(link, protos, Wrong()))
    for nothing in (True, False):
        error = await failure(stub.UnaryCall(protos.messages.SimpleRequest(fill_username=nothing)))
        assert error.code() is StatusCode.UNKNOWN
    call = stub.StreamingOutputCall(protos.messages.StreamingOutputCallRequest())
    with pytest.raises(grpc.RpcError):
        await read_all(call)
    assert await call.code() is StatusCode.UNKNOWN


async def test_bytes_that_are_no_message_fail_the_call(link: Link, protos: Generated) -> None:
    """Garbage for the server's deserializer; what the client's does is test_handlers' subject."""
    channel = await opened(link, protos, make_servicer(protos))
    error = await failure(channel.unary_unary("/grpc.testing.TestService/UnaryCall")(b"\xff\xff\xff"))
    assert error.code() is StatusCode.UNKNOWN
    stub = protos.services.TestServiceStub(channel)
    assert await stub.EmptyCall(protos.empty.Empty()) == protos.empty.Empty()


async def test_the_experimental_static_methods_are_not_needed(link: Link, protos: Generated) -> None:
    """Both ways of a stub's making: by its class, and method by method."""
    channel = await opened(link, protos, make_servicer(protos))
    empty = protos.empty.Empty
    call = channel.unary_unary(
        "/grpc.testing.TestService/EmptyCall",
        request_serializer=empty.SerializeToString,
        response_deserializer=empty.FromString,
    )
    assert await call(empty()) == empty()
