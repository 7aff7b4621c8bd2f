"""Runs the command line as its users do: a process with arguments, pipes and an exit code."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HANGS = 90.0
COMMAND = (sys.executable, "-m", "tai_grpc.cli")


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """The JSON values of stdout, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def error(self) -> str:
        """Stderr, which must be exactly one line."""
        assert self.err.endswith("\n"), self
        assert len(self.err.splitlines()) == 1, self
        return self.err.rstrip("\n")


async def ran(process: asyncio.subprocess.Process, stdin: bytes | None = None) -> Ran:
    """Wait for the end of a process; one that hangs fails the test instead of holding it up for ever."""
    async with asyncio.timeout(HANGS):
        out, err = await process.communicate(stdin)
    assert process.returncode is not None
    return Ran(process.returncode, out.decode(), err.decode())


@asynccontextmanager
async def started(
    *arguments: str, cwd: Path | None = None, env: Mapping[str, str] | None = None, redirected: str = ""
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start the command with these arguments; end it, if it still runs, with the block.

    `env` comes on top of this process's own environment; a shell does what is `redirected`.
    """
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(*("sh", "-c", f'exec "$@" {redirected}', "sh"), *COMMAND, *arguments),
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        cwd=cwd,
        env={**os.environ, **(env or {})},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


@asynccontextmanager
async def on_a_terminal(*arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """Start the command with these arguments and a terminal for stderr; yield it, and what to read there."""
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(*COMMAND, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
    )
    os.close(theirs)
    try:
        yield process, ours
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
        os.close(ours)


async def shell(redirected: str, *arguments: str) -> Ran:
    """Run the command with these arguments to its end, redirected as a shell does it: like ">/dev/full"."""
    async with started(*arguments, redirected=redirected) as process:
        return await ran(process)


async def tai_grpc(*arguments: str, stdin: bytes | None = None) -> Ran:
    """Run the command with these arguments to its end."""
    async with started(*arguments) as process:
        return await ran(process, stdin)
