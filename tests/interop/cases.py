"""The client's side of the official cases, written once against grpc.aio's API.

What differs from the official text: grpc.aio tells a servicer nothing of how a request was compressed, and
compresses a call's requests all or none. So no case probes for INVALID_ARGUMENT, a stream's compressed and
plain messages go by two calls, and what was compressed is seen by the bytes that pass a relay.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from grpc import StatusCode

from interop.generated import Generated
from interop.relay import Relay
from interop.servicer import ECHO_INITIAL, ECHO_TRAILING

REQUEST_SIZES = (27182, 8, 1828, 45904)
RESPONSE_SIZES = (31415, 9, 2653, 58979)
LARGE_REQUEST, LARGE_RESPONSE = 271828, 314159
# Far below the smallest message that a case sends plain, far above what is left of zeros by compression.
COMPRESSED = 20_000
SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"


class Client:
    """Opens channels of one implementation to one server."""

    def __init__(self, protos: Generated, port: int, open_channel: Callable[[int], Any], eof: object) -> None:
        self.protos = protos
        self.port = port
        self.eof = eof
        self._open_channel = open_channel

    def channel(self, port: int | None = None) -> Any:
        return self._open_channel(port or self.port)

    def stub(self, channel: Any) -> Any:
        return self.protos.services.TestServiceStub(channel)

    def payload(self, size: int) -> Any:
        return self.protos.messages.Payload(body=bytes(size))

    def large_request(self, **fields: Any) -> Any:
        return self.protos.messages.SimpleRequest(
            response_size=LARGE_RESPONSE, payload=self.payload(LARGE_REQUEST), **fields
        )

    def output_request(self, *sizes: int, payload: int = 0, **fields: Any) -> Any:
        messages = self.protos.messages
        wanted = [messages.ResponseParameters(size=size) for size in sizes]
        return messages.StreamingOutputCallRequest(
            response_parameters=wanted, payload=self.payload(payload), **fields
        )


Case = Callable[[Client], Awaitable[None]]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    CASES[function.__name__] = function
    return function


async def status(call: Any) -> tuple[StatusCode, str]:
    """Return the error that a call, of one response or a stream, must end with."""
    try:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call
    except grpc.RpcError as error:
        assert (error.code(), error.details()) == (await call.code(), await call.details())
        return error.code(), error.details() or ""
    raise AssertionError("the call succeeded")


async def large(client: Client, stub: Any, request: Any | None = None, **options: Any) -> None:
    response = await stub.UnaryCall(request or client.large_request(), **options)
    assert response.payload.body == bytes(LARGE_RESPONSE)


@case
async def empty_unary(client: Client) -> None:
    async with client.channel() as channel:
        response = await client.stub(channel).EmptyCall(client.protos.empty.Empty())
    assert response == client.protos.empty.Empty()


@case
async def large_unary(client: Client) -> None:
    async with client.channel() as channel:
        await large(client, client.stub(channel))


@case
async def cacheable_unary(client: Client) -> None:
    """Without the proxy of the official case: the call itself."""
    async with client.channel() as channel:
        stub = client.stub(channel)
        request = client.protos.messages.SimpleRequest(response_size=100)
        answers = [await stub.CacheableUnaryCall(request) for _ in range(2)]
    assert answers[0] == answers[1]


@case
async def client_compressed_unary(client: Client) -> None:
    for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate, None):
        async with Relay(client.port) as relay, client.channel(relay.port) as channel:
            await large(client, client.stub(channel), compression=compression)
        assert (relay.up < COMPRESSED) == (compression is not None), relay.up


@case
async def server_compressed_unary(client: Client) -> None:
    for compressed in (True, False):
        wanted = client.protos.messages.BoolValue(value=compressed)
        async with Relay(client.port) as relay, client.channel(relay.port) as channel:
            await large(client, client.stub(channel), client.large_request(response_compressed=wanted))
        assert (relay.down < COMPRESSED) == compressed, relay.down


@case
async def client_streaming(client: Client) -> None:
    async def requests() -> AsyncIterator[Any]:
        for size in REQUEST_SIZES:
            yield client.protos.messages.StreamingInputCallRequest(payload=client.payload(size))

    async with client.channel() as channel:
        response = await client.stub(channel).StreamingInputCall(requests())
    assert response.aggregated_payload_size == 74922


@case
async def client_compressed_streaming(client: Client) -> None:
    for size, compression in ((27182, grpc.Compression.Gzip), (45904, None)):
        request = client.protos.messages.StreamingInputCallRequest(payload=client.payload(size))
        async with Relay(client.port) as relay, client.channel(relay.port) as channel:
            response = await client.stub(channel).StreamingInputCall([request], compression=compression)
        assert response.aggregated_payload_size == size
        assert (relay.up < COMPRESSED) == (compression is not None), relay.up


@case
async def server_streaming(client: Client) -> None:
    async with client.channel() as channel:
        call = client.stub(channel).StreamingOutputCall(client.output_request(*RESPONSE_SIZES))
        sizes = [len(response.payload.body) async for response in call]
    assert sizes == list(RESPONSE_SIZES)


@case
async def server_compressed_streaming(client: Client) -> None:
    messages = client.protos.messages
    compressed, plain = (
        messages.ResponseParameters(size=size, compressed=messages.BoolValue(value=value))
        for size, value in ((31415, True), (92653, False))
    )
    for wanted, least, most in (
        ([compressed, plain], 92653, 92653 + COMPRESSED),
        ([compressed], 0, COMPRESSED),
    ):
        request = messages.StreamingOutputCallRequest(response_parameters=wanted)
        async with Relay(client.port) as relay, client.channel(relay.port) as channel:
            call = client.stub(channel).StreamingOutputCall(request)
            sizes = [len(response.payload.body) async for response in call]
        assert sizes == [parameters.size for parameters in wanted]
        assert least <= relay.down < most, relay.down


@case
async def ping_pong(client: Client) -> None:
    async with client.channel() as channel:
        call = client.stub(channel).FullDuplexCall()
        for size, payload in zip(RESPONSE_SIZES, REQUEST_SIZES, strict=True):
            await call.write(client.output_request(size, payload=payload))
            response = await call.read()
            assert len(response.payload.body) == size
        await call.done_writing()
        assert await call.read() is client.eof
        assert await call.code() is StatusCode.OK


@case
async def half_duplex(client: Client) -> None:
    async with client.channel() as channel:
        call = client.stub(channel).HalfDuplexCall([client.output_request(size) for size in RESPONSE_SIZES])
        assert [len(response.payload.body) async for response in call] == list(RESPONSE_SIZES)


@case
async def empty_stream(client: Client) -> None:
    async with client.channel() as channel:
        call = client.stub(channel).FullDuplexCall()
        await call.done_writing()
        assert await call.read() is client.eof
        assert await call.code() is StatusCode.OK


@case
async def custom_metadata(client: Client) -> None:
    metadata = ((ECHO_INITIAL, "test_initial_metadata_value"), (ECHO_TRAILING, b"\xab\xab\xab"))
    async with client.channel() as channel:
        stub = client.stub(channel)
        unary = stub.UnaryCall(client.large_request(), metadata=metadata)
        await unary
        duplex = stub.FullDuplexCall(metadata=metadata)
        await duplex.write(client.output_request(314159, payload=271828))
        assert len((await duplex.read()).payload.body) == 314159
        await duplex.done_writing()
        assert await duplex.read() is client.eof
        for call in (unary, duplex):
            assert (await call.initial_metadata())[ECHO_INITIAL] == "test_initial_metadata_value"
            assert (await call.trailing_metadata())[ECHO_TRAILING] == b"\xab\xab\xab"


async def check_status(client: Client, code: StatusCode, message: str) -> None:
    wanted = client.protos.messages.EchoStatus(code=code.value[0], message=message)
    async with client.channel() as channel:
        stub = client.stub(channel)
        request = client.protos.messages.SimpleRequest(response_status=wanted)
        assert await status(stub.UnaryCall(request)) == (code, message)
        call = stub.FullDuplexCall()
        await call.write(client.output_request(response_status=wanted))
        await call.done_writing()
        assert await status(call) == (code, message)


@case
async def status_code_and_message(client: Client) -> None:
    await check_status(client, StatusCode.UNKNOWN, "test status message")


@case
async def special_status_message(client: Client) -> None:
    await check_status(client, StatusCode.UNKNOWN, SPECIAL)


@case
async def unimplemented_method(client: Client) -> None:
    async with client.channel() as channel:
        code, _ = await status(client.stub(channel).UnimplementedCall(client.protos.empty.Empty()))
    assert code is StatusCode.UNIMPLEMENTED


@case
async def unimplemented_service(client: Client) -> None:
    async with client.channel() as channel:
        stub = client.protos.services.UnimplementedServiceStub(channel)
        code, _ = await status(stub.UnimplementedCall(client.protos.empty.Empty()))
    assert code is StatusCode.UNIMPLEMENTED


@case
async def cancel_after_begin(client: Client) -> None:
    async with client.channel() as channel:
        call = client.stub(channel).StreamingInputCall()
        call.cancel()
        assert await call.code() is StatusCode.CANCELLED


@case
async def cancel_after_first_response(client: Client) -> None:
    async with client.channel() as channel:
        call = client.stub(channel).FullDuplexCall()
        await call.write(client.output_request(31415, payload=27182))
        assert len((await call.read()).payload.body) == 31415
        call.cancel()
        assert await call.code() is StatusCode.CANCELLED


@case
async def timeout_on_sleeping_server(client: Client) -> None:
    async with client.channel() as channel:
        request = client.output_request(1, payload=27182)
        request.response_parameters[0].interval_us = 60_000_000
        call = client.stub(channel).FullDuplexCall([request], timeout=0.001)
        assert await call.code() is StatusCode.DEADLINE_EXCEEDED


@case
async def rpc_soak(client: Client) -> None:
    """In the short: 50 large calls, five at a time, on one channel."""
    async with client.channel() as channel:
        stub = client.stub(channel)
        for _ in range(10):
            await asyncio.gather(*(large(client, stub) for _ in range(5)))


@case
async def channel_soak(client: Client) -> None:
    """In the short: ten large calls, each on a channel of its own."""
    for _ in range(10):
        async with client.channel() as channel:
            await large(client, client.stub(channel))
