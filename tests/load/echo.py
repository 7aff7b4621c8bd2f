"""A real server of echo.proto on loopback, with and without reflection."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc_tools
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.reflection import enable_server_reflection
from grpc_tools import protoc

SERVICE = "echo.v1.Echo"


def compile_pool() -> DescriptorPool:
    """Compile echo.proto into a pool of its own."""
    here = Path(__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "echo.binpb")
        well_known = Path(grpc_tools.__file__).parent / "_proto"
        arguments = [f"-I{here}", f"-I{well_known}", "--include_imports", f"--descriptor_set_out={target}"]
        assert protoc.main(["protoc", *arguments, "echo.proto"]) == 0
        files = FileDescriptorSet.FromString(target.read_bytes())
    pool = DescriptorPool()
    for file in files.file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


POOL = compile_pool()


class Echo:
    """The server's side: what it was asked, and when it may answer."""

    def __init__(self) -> None:
        self.address = ""
        self.calls: Counter[str] = Counter()
        self.names: list[str] = []
        """The display_name of every item that Unary was sent."""
        self.metadata: dict[str, str | bytes] = {}
        self.peers: set[str] = set()
        self.waiting = 0
        self.all_waiting = asyncio.Event()
        self.expected_waiting = 1
        self.answer = asyncio.Event()
        self.server: grpc.aio.Server | None = None
        self.transport = "native"
        """What a test of the command line calls it by."""

    def _note(self, name: str, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self.calls[name] += 1
        self.metadata = dict(context.invocation_metadata() or ())
        self.peers.add(context.peer())

    async def unary(self, request: Any, context: Any) -> Any:
        self._note("Unary", context)
        self.names.append(request.display_name)
        return request

    async def collect(self, requests: AsyncIterator[Message], context: Any) -> Message:
        self._note("Collect", context)
        items = _new("Items")
        async for item in requests:
            items.items.add().CopyFrom(item)
        return items  # type: ignore[no-any-return]  # a message class made at run time

    async def split(self, request: Any, context: Any) -> AsyncIterator[Message]:
        self._note("Split", context)
        for item in request.items:
            yield item

    async def chat(self, requests: AsyncIterator[Message], context: Any) -> AsyncIterator[Message]:
        self._note("Chat", context)
        async for item in requests:
            yield item

    async def break_(self, request: Any, context: Any) -> AsyncIterator[Message]:
        self._note("Break", context)
        yield request
        yield request
        await context.abort(grpc.StatusCode[request.display_name], "broken off")

    async def fail(self, request: Any, context: Any) -> Message:
        self._note("Fail", context)
        await context.abort(grpc.StatusCode[request.display_name], "went wrong,\nand on purpose")
        raise AssertionError

    async def wait(self, request: Message, context: Any) -> Message:
        self._note("Wait", context)
        self.waiting += 1
        if self.waiting == self.expected_waiting:
            self.all_waiting.set()
        try:
            await self.answer.wait()
        finally:
            self.waiting -= 1
        return request

    async def stop(self) -> None:
        """Stop at once; what is in flight is cut off."""
        assert self.server is not None
        self.answer.set()
        await self.server.stop(None)

    def handlers(self) -> grpc.GenericRpcHandler:
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        made: dict[str, tuple[Any, Any, str]] = {
            "Unary": (unary, self.unary, "Item"),
            "Collect": (grpc.stream_unary_rpc_method_handler, self.collect, "Item"),
            "Split": (stream, self.split, "Items"),
            "Chat": (grpc.stream_stream_rpc_method_handler, self.chat, "Item"),
            "Break": (stream, self.break_, "Item"),
            "Fail": (unary, self.fail, "Item"),
            "Wait": (unary, self.wait, "Item"),
        }
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                name: kind(
                    function,
                    request_deserializer=_type(request).FromString,
                    response_serializer=lambda message: message.SerializeToString(),
                )
                for name, (kind, function, request) in made.items()
            },
        )


@asynccontextmanager
async def echo_server(*, reflection: bool = True) -> AsyncIterator[Echo]:
    """Serve on a free port until the block ends."""
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    echo = Echo()
    server.add_generic_rpc_handlers((echo.handlers(),))
    if reflection:
        names = (SERVICE, "grpc.reflection.v1alpha.ServerReflection")
        enable_server_reflection(names, server, pool=POOL)
    echo.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    echo.server = server
    try:
        yield echo
    finally:
        await echo.stop()


def _type(name: str) -> type[Message]:
    return GetMessageClass(POOL.FindMessageTypeByName(f"echo.v1.{name}"))


def _new(name: str) -> Any:
    return _type(name)()
