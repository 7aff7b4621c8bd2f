"""grpcio's blocking client against every server: the cases, in a thread beside the server's loop."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from aio.certificates import Certificates
from interop.cases import LARGE_REQUEST, LARGE_RESPONSE, REQUEST_SIZES, RESPONSE_SIZES, SPECIAL
from interop.generated import Generated
from interop.servicer import ECHO_INITIAL, ECHO_TRAILING

LIMIT = 20.0


class Blocking:
    """Cases of the blocking client; each gets a channel of its own."""

    def __init__(self, protos: Generated, channel: grpc.Channel) -> None:
        self.protos = protos
        self.messages: Any = protos.messages
        self.stub: Any = protos.services.TestServiceStub(channel)
        self.unknown: Any = protos.services.UnimplementedServiceStub(channel)

    def output_request(self, *sizes: int, payload: int = 0, **fields: Any) -> Any:
        wanted = [self.messages.ResponseParameters(size=size) for size in sizes]
        body = self.messages.Payload(body=bytes(payload))
        return self.messages.StreamingOutputCallRequest(response_parameters=wanted, payload=body, **fields)

    def large_request(self) -> Any:
        body = self.messages.Payload(body=bytes(LARGE_REQUEST))
        return self.messages.SimpleRequest(response_size=LARGE_RESPONSE, payload=body)

    def empty_unary(self) -> None:
        empty = self.protos.empty.Empty()
        assert self.stub.EmptyCall(empty, timeout=LIMIT) == empty

    def large_unary(self) -> None:
        for compression in (None, grpc.Compression.Gzip, grpc.Compression.Deflate):
            response = self.stub.UnaryCall(self.large_request(), timeout=LIMIT, compression=compression)
            assert response.payload.body == bytes(LARGE_RESPONSE)

    def server_compressed_unary(self) -> None:
        request = self.large_request()
        for compressed in (True, False):
            request.response_compressed.value = compressed
            assert len(self.stub.UnaryCall(request, timeout=LIMIT).payload.body) == LARGE_RESPONSE

    def client_streaming(self) -> None:
        requests = (
            self.messages.StreamingInputCallRequest(payload=self.messages.Payload(body=bytes(size)))
            for size in REQUEST_SIZES
        )
        assert self.stub.StreamingInputCall(requests, timeout=LIMIT).aggregated_payload_size == 74922

    def server_streaming(self) -> None:
        call = self.stub.StreamingOutputCall(self.output_request(*RESPONSE_SIZES), timeout=LIMIT)
        assert [len(response.payload.body) for response in call] == list(RESPONSE_SIZES)

    def ping_pong(self) -> None:
        requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        call = self.stub.FullDuplexCall(iter(requests.get, None), timeout=LIMIT)
        for size, payload in zip(RESPONSE_SIZES, REQUEST_SIZES, strict=True):
            requests.put(self.output_request(size, payload=payload))
            assert len(next(call).payload.body) == size
        requests.put(None)
        assert list(call) == []

    def empty_stream(self) -> None:
        assert list(self.stub.FullDuplexCall(iter(()), timeout=LIMIT)) == []

    def custom_metadata(self) -> None:
        metadata = ((ECHO_INITIAL, "test_initial_metadata_value"), (ECHO_TRAILING, b"\xab\xab\xab"))
        _, unary = self.stub.UnaryCall.with_call(self.large_request(), metadata=metadata, timeout=LIMIT)
        stream = self.stub.FullDuplexCall(iter(()), metadata=metadata, timeout=LIMIT)
        assert list(stream) == []
        for call in (unary, stream):
            assert dict(call.initial_metadata())[ECHO_INITIAL] == "test_initial_metadata_value"
            assert dict(call.trailing_metadata())[ECHO_TRAILING] == b"\xab\xab\xab"

    def status_codes(self) -> None:
        for message in ("test status message", SPECIAL):
            status = self.messages.EchoStatus(code=2, message=message)
            with pytest.raises(grpc.RpcError) as unary:
                self.stub.UnaryCall(self.messages.SimpleRequest(response_status=status), timeout=LIMIT)
            with pytest.raises(grpc.RpcError) as stream:
                list(self.stub.FullDuplexCall(iter((self.output_request(response_status=status),))))
            for caught in (unary, stream):
                assert (caught.value.code(), caught.value.details()) == (StatusCode.UNKNOWN, message)

    def unimplemented(self) -> None:
        for method in (self.stub.UnimplementedCall, self.unknown.UnimplementedCall):
            with pytest.raises(grpc.RpcError) as caught:
                method(self.protos.empty.Empty(), timeout=LIMIT)
            assert caught.value.code() is StatusCode.UNIMPLEMENTED

    def cancel_after_begin(self) -> None:
        call = self.stub.StreamingInputCall.future(iter(queue.SimpleQueue[Any]().get, None))
        call.cancel()
        assert call.code() is StatusCode.CANCELLED

    def cancel_after_first_response(self) -> None:
        requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        call = self.stub.FullDuplexCall(iter(requests.get, None), timeout=LIMIT)
        requests.put(self.output_request(31415, payload=27182))
        assert len(next(call).payload.body) == 31415
        call.cancel()
        requests.put(None)
        assert call.code() is StatusCode.CANCELLED

    def timeout_on_sleeping_server(self) -> None:
        request = self.output_request(1, payload=27182)
        request.response_parameters[0].interval_us = 60_000_000
        call = self.stub.FullDuplexCall(iter((request,)), timeout=0.001)
        with pytest.raises(grpc.RpcError) as caught:
            list(call)
        assert caught.value.code() is StatusCode.DEADLINE_EXCEEDED

    def rpc_soak(self) -> None:
        for _ in range(20):
            self.large_unary()


NAMES = [name for name in vars(Blocking) if not name.startswith("_")]
CASES = [name for name in NAMES if name not in ("output_request", "large_request")]


@pytest.fixture
def channel(port: int, secure: bool, certificates: Certificates) -> Iterator[grpc.Channel]:
    target = f"127.0.0.1:{port}"
    if secure:
        made = grpc.secure_channel(target, grpc.ssl_channel_credentials(certificates.authority))
    else:
        made = grpc.insecure_channel(target)
    with made:
        yield made


@pytest.mark.parametrize("name", CASES)
async def test_case(name: str, channel: grpc.Channel, protos: Generated) -> None:
    await asyncio.to_thread(getattr(Blocking(protos, channel), name))
