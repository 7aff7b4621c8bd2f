"""The server's side of the cases, written once against grpc.aio's API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from interop.generated import Generated

ECHO_INITIAL = "x-grpc-test-echo-initial"
ECHO_TRAILING = "x-grpc-test-echo-trailing-bin"


def make_servicer(protos: Generated) -> Any:
    """Return a TestService; UnimplementedCall is left to the generated base class."""
    messages, empty = protos.messages, protos.empty

    def payload(size: int) -> Any:
        return messages.Payload(body=bytes(size))

    async def echo_metadata(context: Any) -> None:
        """Send back what a case asks for in its metadata."""
        initial = []
        for key, value in context.invocation_metadata():
            if key == ECHO_INITIAL:
                initial.append((key, value))
            elif key == ECHO_TRAILING:
                context.set_trailing_metadata(((key, value),))
        # Also when there is none: what is compressed must be told by the headers.
        await context.send_initial_metadata(tuple(initial))

    async def echo_status(request: Any, context: Any) -> None:
        if request.HasField("response_status"):
            status = request.response_status
            await context.abort(next(c for c in grpc.StatusCode if c.value[0] == status.code), status.message)

    async def responses(request: Any, context: Any) -> AsyncIterator[Any]:
        for wanted in request.response_parameters:
            if wanted.interval_us:
                await asyncio.sleep(wanted.interval_us / 1e6)
            if wanted.HasField("compressed") and not wanted.compressed.value:
                context.disable_next_message_compression()
            yield messages.StreamingOutputCallResponse(payload=payload(wanted.size))

    class TestService(protos.services.TestServiceServicer):  # type: ignore[misc, name-defined]  # made at run time
        async def EmptyCall(self, request: Any, context: Any) -> Any:
            return empty.Empty()

        async def UnaryCall(self, request: Any, context: Any) -> Any:
            if request.HasField("response_compressed"):
                if request.response_compressed.value:
                    context.set_compression(grpc.Compression.Gzip)
                else:
                    context.disable_next_message_compression()
            await echo_metadata(context)
            await echo_status(request, context)
            return messages.SimpleResponse(payload=payload(request.response_size))

        CacheableUnaryCall = UnaryCall

        async def StreamingOutputCall(self, request: Any, context: Any) -> AsyncIterator[Any]:
            if any(wanted.compressed.value for wanted in request.response_parameters):
                context.set_compression(grpc.Compression.Gzip)
            await echo_metadata(context)
            await echo_status(request, context)
            async for response in responses(request, context):
                yield response

        async def StreamingInputCall(self, requests: AsyncIterator[Any], context: Any) -> Any:
            size = 0
            async for request in requests:
                size += len(request.payload.body)
            return messages.StreamingInputCallResponse(aggregated_payload_size=size)

        async def FullDuplexCall(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            await echo_metadata(context)
            async for request in requests:
                await echo_status(request, context)
                async for response in responses(request, context):
                    yield response

        async def HalfDuplexCall(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            await echo_metadata(context)
            for request in [request async for request in requests]:
                async for response in responses(request, context):
                    yield response

    return TestService()
