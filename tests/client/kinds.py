"""Kinds, a service with one call of each kind: its generated code, and a server that tests can script."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from grpc import StatusCode, aio
from grpc_tools import protoc

Context = aio.ServicerContext[Any, Any]


def generate() -> tuple[ModuleType, ModuleType]:
    """Run protoc on kinds.proto and import what it made."""
    here = Path(__file__).parent
    modules = []
    with tempfile.TemporaryDirectory() as folder:
        arguments = [f"-I{here}", f"--python_out={folder}", f"--grpc_python_out={folder}", "kinds.proto"]
        assert protoc.main(["protoc", *arguments]) == 0
        for name in ("kinds_pb2", "kinds_pb2_grpc"):
            spec = importlib.util.spec_from_file_location(name, Path(folder, f"{name}.py"))
            assert spec is not None
            assert spec.loader is not None
            module = sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            modules.append(module)
    return modules[0], modules[1]


_messages, _services = generate()
Item: Any = _messages.Item
KindsStub: Any = _services.KindsStub


class Kinds(_services.KindsServicer):  # type: ignore[misc, name-defined]  # a module made at run time
    """Echoes, unless a test replaces `one` and `split`; keeps what it was called with.

    One and Collect answer the metadata `hello` with `greeted` in front of the response and `parted` behind.
    """

    def __init__(self) -> None:
        self.calls: list[dict[str, str | bytes]] = []
        self.one: Callable[[Any, Context], Awaitable[Any]] | None = None
        self.split: Callable[[Any, Context], AsyncIterator[Any]] | None = None
        self.ended = 0

    def _note(self, context: Context) -> None:
        self.calls.append(dict(context.invocation_metadata() or ()))
        context.add_done_callback(self._end)  # type: ignore[arg-type]  # typed as a class, not a protocol

    def _end(self, ctx: Context) -> None:
        self.ended += 1

    async def _answer_metadata(self, context: Context) -> None:
        name = self.calls[-1].get("hello")
        if name is not None:
            await context.send_initial_metadata((("greeted", name),))
            context.set_trailing_metadata((("parted", name),))

    async def One(self, request: Any, context: Context) -> Any:
        self._note(context)
        await self._answer_metadata(context)
        return request if self.one is None else await self.one(request, context)

    async def Split(self, request: Any, context: Context) -> AsyncIterator[Any]:
        self._note(context)
        if self.split is None:
            for word in request.text.split():
                yield Item(text=word)
            return
        async for item in self.split(request, context):
            yield item

    async def Collect(self, requests: AsyncIterator[Any], context: Context) -> Any:
        self._note(context)
        await self._answer_metadata(context)
        return Item(text=" ".join([item.text async for item in requests]))

    async def Chat(self, requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
        self._note(context)
        async for item in requests:
            yield Item(text=item.text.upper())


@asynccontextmanager
async def serve(kinds: Any, port: int = 0, options: tuple[tuple[str, int], ...] = ()) -> AsyncIterator[str]:
    """Serve on a loopback port (0: a free one) and yield the address; cut every call off at the end."""
    server = aio.server(options=(("grpc.so_reuseport", 0), *options))
    _services.add_KindsServicer_to_server(kinds, server)
    address = f"127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
    await server.start()
    try:
        yield address
    finally:
        await server.stop(None)


def failing(
    *codes: StatusCode,
    trailers: tuple[tuple[str, str], ...] = (),
    headers: tuple[tuple[str, str], ...] | None = None,
) -> Callable[[Any, Context], Awaitable[Any]]:
    """Return a handler that ends its calls with these codes in turn, the last one for good; OK echoes."""
    left = list(codes)

    async def one(request: Any, context: Context) -> Any:
        code = left.pop(0) if len(left) > 1 else left[0]
        if headers is not None:
            await context.send_initial_metadata(headers)
        if code is not StatusCode.OK:
            await context.abort(code, "as the test wants it", trailers)
        return request

    return one


async def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition()` holds; fail when it still does not after 20 s."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the condition is another process's or the library's
            await asyncio.sleep(0.002)


def unused_address() -> str:
    """Return an address where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


class Process:
    """A Kinds server in a process of its own, to be killed, stopped and started again on the same port."""

    def __init__(self) -> None:
        self.port = 0
        self._process: asyncio.subprocess.Process | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            __file__,
            str(self.port),
            stdout=asyncio.subprocess.PIPE,
            env=os.environ,
        )
        assert self._process.stdout is not None
        self.port = int(await self._process.stdout.readline())

    async def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        await self._process.wait()
        # asyncio closes the pipe's transport when it sees its end.
        assert self._process.stdout is not None
        await self._process.stdout.read()


async def main() -> None:
    """Serve until killed, so that a test's process shows how losing a server looks."""
    async with serve(Kinds(), int(sys.argv[1])) as address:
        sys.stdout.write(f"{address.rpartition(':')[2]}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
