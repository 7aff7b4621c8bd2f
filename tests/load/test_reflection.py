"""Against servers whose reflection is told what to answer, rightly and wrongly."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import Default, DescriptorPool
from grpc_reflection.v1alpha.reflection_pb2 import (
    FileDescriptorResponse,
    ServerReflectionRequest,
    ServerReflectionResponse,
)

from load.echo import POOL, SERVICE
from tai_grpc.load import reflection
from tai_grpc.load.channels import open_blocking_channel
from tai_grpc.load.errors import RequestError
from tai_grpc.load.reflection import SERVICES, Reflection
from transports import transport

__all__ = ["transport"]  # each test here runs on each of them

V1, V1ALPHA = SERVICES
ECHO = POOL.FindFileByName("echo.proto").serialized_pb
TIMESTAMP = POOL.FindFileByName("google/protobuf/timestamp.proto").serialized_pb


def _file(name: str, *imports: str) -> bytes:
    return FileDescriptorProto(name=name, syntax="proto3", dependency=imports).SerializeToString()


@asynccontextmanager
async def _told(service: str, found: list[bytes], by_name: dict[str, bytes]) -> AsyncIterator[str]:
    """A server that answers a symbol with `found`, a file's name from `by_name`, and nothing else."""

    async def answer(requests: AsyncIterator[Any], _: Any) -> AsyncIterator[ServerReflectionResponse]:
        async for request in requests:
            name = request.file_by_filename
            files = [by_name[name]] if name in by_name else [] if name else found
            response = FileDescriptorResponse(file_descriptor_proto=files)
            yield ServerReflectionResponse(file_descriptor_response=response)

    server = grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(
        answer,
        request_deserializer=ServerReflectionRequest.FromString,
        response_serializer=ServerReflectionResponse.SerializeToString,
    )
    handlers = grpc.method_handlers_generic_handler(service, {"ServerReflectionInfo": handler})
    server.add_generic_rpc_handlers((handlers,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def _pool(
    found: list[bytes], by_name: dict[str, bytes] | None = None, service: str = V1
) -> DescriptorPool | None:
    def ask(address: str) -> DescriptorPool | None:
        with open_blocking_channel(address) as channel:
            return Reflection(channel, timeout=10).pool(SERVICE)

    async with _told(service, found, by_name or {}) as address:
        return await asyncio.to_thread(ask, address)


def test_the_echo_service_is_not_known_to_this_process() -> None:
    with pytest.raises(KeyError):
        Default().FindFileByName("echo.proto")


@pytest.mark.parametrize("service", [V1, V1ALPHA])
async def test_either_version_of_the_protocol_will_do(service: str) -> None:
    pool = await _pool([ECHO, TIMESTAMP], service=service)
    assert pool is not None
    assert pool.FindServiceByName(SERVICE).methods_by_name["Unary"]


async def test_imports_that_do_not_come_along_are_asked_for() -> None:
    pool = await _pool([ECHO], {"google/protobuf/timestamp.proto": TIMESTAMP})
    assert pool is not None


async def test_a_server_may_leave_out_what_comes_with_protobuf() -> None:
    pool = await _pool([ECHO])
    assert pool is not None
    assert pool.FindMessageTypeByName("google.protobuf.Timestamp")


@pytest.mark.parametrize(
    ("found", "by_name", "said"),
    [
        ([_file("a.proto", "gone.proto")], {}, r"leave out gone\.proto"),
        ([_file("a.proto", "google/protobuf/gone.proto")], {}, r"leave out google/protobuf/gone\.proto"),
        ([b"\xff\xff"], {}, "a file descriptor that cannot be read"),
        ([_file("a.proto", "b.proto"), _file("b.proto", "a.proto")], {}, "do not fit together"),
        ([_file("a.proto", "a.proto")], {}, "do not fit together"),
    ],
)
async def test_descriptors_that_cannot_be_used_are_refused(
    found: list[bytes], by_name: dict[str, bytes], said: str
) -> None:
    with pytest.raises(RequestError, match=said):
        await _pool(found, by_name)


async def test_a_chain_of_imports_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflection, "MAX_FILES", 5)
    chain = {f"{n}.proto": _file(f"{n}.proto", f"{n + 1}.proto") for n in range(20)}
    with pytest.raises(RequestError, match="more than 5 files"):
        await _pool([chain["0.proto"]], chain)
