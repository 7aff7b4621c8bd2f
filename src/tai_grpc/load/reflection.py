"""Asks a server for its own descriptors, by the gRPC server reflection protocol.

https://github.com/grpc/grpc/blob/master/doc/server-reflection.md. The versions v1 and v1alpha are the same on
the wire but for the service's name: v1 is asked first, v1alpha when the server does not have it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from tai_grpc.load.descriptors import build_pool, bundled
from tai_grpc.load.errors import RequestError
from tai_grpc.load.exchange import BlockingChannel
from tai_grpc.status import Metadata

SERVICES: Final = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
MAX_FILES: Final = 2_000
"""More files than this for one service are refused."""
WHOSE: Final = "the server's descriptors"


class Reflection:
    """One server's descriptors. `timeout` bounds each question, in seconds.

    Every method raises `grpc.RpcError` when the server cannot be asked: UNIMPLEMENTED when it has
    no reflection.
    """

    def __init__(self, channel: BlockingChannel, *, timeout: float, metadata: Metadata = ()) -> None:
        self._channel = channel
        self._timeout = timeout
        self._metadata = metadata
        self._service: str | None = None

    def services(self) -> list[str]:
        """Return the full names of the server's services, sorted."""
        answer = self._ask(ServerReflectionRequest(list_services="*"))
        return sorted(service.name for service in answer.list_services_response.service)

    def pool(self, symbol: str) -> DescriptorPool | None:
        """Return a pool that holds `symbol` and all that it needs; None when the server does not know it.

        Raises:
            RequestError: the server's descriptors do not fit together.
        """
        answer = self._ask(ServerReflectionRequest(file_containing_symbol=symbol))
        if answer.HasField("error_response"):
            return None
        files: dict[str, FileDescriptorProto] = {}
        self._add(files, answer.file_descriptor_response.file_descriptor_proto)
        while missing := {name for file in files.values() for name in file.dependency} - files.keys():
            for name in sorted(missing):
                answer = self._ask(ServerReflectionRequest(file_by_filename=name))
                self._add(files, answer.file_descriptor_response.file_descriptor_proto)
                if name not in files:
                    self._add(files, [bundled(name, WHOSE)])
        return build_pool(files, WHOSE)

    @staticmethod
    def _add(files: dict[str, FileDescriptorProto], found: Iterable[bytes]) -> None:
        for data in found:
            try:
                file = FileDescriptorProto.FromString(data)
            except DecodeError:
                raise RequestError(
                    "the server's reflection gave a file descriptor that cannot be read"
                ) from None
            files[file.name] = file
        if len(files) > MAX_FILES:
            raise RequestError(f"the server's reflection gave more than {MAX_FILES} files for one service")

    def _ask(self, request: ServerReflectionRequest) -> ServerReflectionResponse:
        if self._service is not None:
            return self._ask_as(self._service, request)
        *others, last = SERVICES
        for service in others:
            try:
                answer = self._ask_as(service, request)
            except grpc.RpcError as error:
                if not is_unimplemented(error):
                    raise
            else:
                self._service = service
                return answer
        answer = self._ask_as(last, request)
        self._service = last
        return answer

    def _ask_as(self, service: str, request: ServerReflectionRequest) -> ServerReflectionResponse:
        ask = self._channel.stream_stream(
            f"/{service}/ServerReflectionInfo",
            request_serializer=ServerReflectionRequest.SerializeToString,
            response_deserializer=ServerReflectionResponse.FromString,
        )
        answers: list[ServerReflectionResponse] = list(
            ask(iter([request]), timeout=self._timeout, metadata=self._metadata)
        )
        if len(answers) != 1:
            raise RequestError(f"the server's reflection gave {len(answers)} answers to one question")
        return answers[0]


def is_unimplemented(error: grpc.RpcError) -> bool:
    """Whether the server says that it does not have what was called."""
    return status_of(error) is grpc.StatusCode.UNIMPLEMENTED


def status_of(error: grpc.RpcError) -> grpc.StatusCode:
    """Return the status of a failed call, whichever channel made it."""
    code: grpc.StatusCode = error.code()
    return code


def details_of(error: grpc.RpcError) -> str:
    """Return what the status of a failed call says."""
    details: str | None = error.details()
    return details or "no details given"
