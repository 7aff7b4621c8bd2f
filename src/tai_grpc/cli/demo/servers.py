"""Servers as processes of their own: `tai-grpc serve` on loopback."""

from __future__ import annotations

import asyncio
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from secrets import SystemRandom
from socket import socket
from typing import Final

from tai_grpc.cli.demo.checks import PATIENCE, StepFailedError, expect
from tai_grpc.config import Transport

_READY: Final = re.compile(r"tai-grpc: serving on (\S+):")
_LOG_LINES: Final = 20
_PORTS: Final = range(20_000, 32_000)


class Server:
    """One server. Its address stays the same over restarts."""

    def __init__(self, port: int, transport: Transport) -> None:
        self.address = f"127.0.0.1:{port}"
        self._transport = transport
        self._process: Process | None = None
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        self._logging: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._running().pid

    @property
    def log(self) -> str:
        """The last lines of what it wrote to stderr."""
        return "".join(self._log)

    async def start(self) -> None:
        """Start the process and wait until it says that it is ready."""
        command = (sys.executable, "-m", "tai_grpc.cli", "serve", "--listen", self.address)
        self._process = await asyncio.create_subprocess_exec(
            *(*command, "--transport", self._transport, "--log-level", "warning"),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            # Ctrl-C is for this process, which then ends its servers itself.
            start_new_session=True,
        )
        self._logging = asyncio.create_task(self._keep_log(self._process))
        if self._process.stdout is None:
            raise RuntimeError("the server has no stdout")
        try:
            line = (await asyncio.wait_for(self._process.stdout.readline(), PATIENCE)).decode()
        except TimeoutError:
            line = ""
        if _READY.match(line) is None:
            await self.kill()
            raise StepFailedError(
                f"a server on {self.address}: expected its ready line, saw {line or self.log!r}"
            )

    async def kill(self) -> None:
        """End it as `kill -9` does: it has no say in it."""
        if self._process is not None:
            if self._process.returncode is None:
                self._process.kill()
            await self._ended()

    async def stop(self) -> None:
        """Ask it to stop, and expect it to do so in order."""
        process = self._running()
        process.terminate()
        try:
            await asyncio.wait_for(self._ended(), PATIENCE)
        except TimeoutError:
            raise StepFailedError(
                f"SIGTERM to the server on {self.address}: expected its end within {PATIENCE:g} s, saw none"
            ) from None
        expect(f"the exit code of the server on {self.address} after SIGTERM", 0, process.returncode)

    async def _ended(self) -> None:
        await self._running().wait()
        if self._logging is not None:
            await self._logging

    async def _keep_log(self, process: Process) -> None:
        if process.stderr is not None:
            async for line in process.stderr:
                self._log.append(line.decode(errors="replace"))

    def _running(self) -> Process:
        if self._process is None:
            raise RuntimeError("the server has not been started")
        return self._process


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that nobody listens on.

    They lie below those that systems give to outgoing connections: such a port could be taken while its
    server is down, even by the client that tries to reach it.
    """
    found: list[int] = []
    for port in SystemRandom().sample(_PORTS, len(_PORTS)):
        with socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise StepFailedError(
        f"ports {_PORTS.start} to {_PORTS.stop}: expected {count} free ones, saw {len(found)}"
    )


@asynccontextmanager
async def servers(count: int, transport: Transport) -> AsyncIterator[list[Server]]:
    """Start servers on free ports; whatever happens, none of them outlives the block."""
    all_of_them = [Server(port, transport) for port in free_ports(count)]
    try:
        async with asyncio.TaskGroup() as group:
            for server in all_of_them:
                group.create_task(server.start())
        yield all_of_them
    finally:
        for server in all_of_them:
            await server.kill()
