"""What the documents show runs as it stands, against a server that was started as they say."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import AsyncIterator

import pytest

from documents import SERVER, Block, blocks, commands
from tai_grpc.config import GrpcServerConfig
from tai_grpc.server import GrpcServer

# What each document's programs print, in the order in which they stand there.
EXPECTED = {
    "README.md": (
        ["tai.v1.Governor/ProposePolicy 1", "1.3", "NOT_FOUND", "CLOSED"],
        ["healthy"],
        ["disk-full 1"],
        ["TASK_STATE_SUCCEEDED", "resized to 640"],
        ["failed\nfailed\nrefused, try again in 30 s", "[True, True, False]", "5003 9991"],
    ),
    "docs/primitives.md": (
        [
            "the database is away\nthe database is away\nCLOSED -> OPEN",
            "not asked: 5 s to wait\nnot asked",
        ],
        ["ann HTTP/1.1 200 OK\nann HTTP/1.1 200 OK\nann HTTP/1.1 429 Too Many Requests\nbob HTTP/1.1 200 OK"],
        ["8000 calls, mean", "p50 ", "p99.9"],
        ["100 requests of all workers together"],
    ),
}
PROGRAMS = [
    each
    for document, expected in EXPECTED.items()
    for each in zip(blocks(document, "python"), expected, strict=True)
]


@pytest.fixture
async def address() -> AsyncIterator[str]:
    async with GrpcServer(GrpcServerConfig(listen="127.0.0.1:0")) as server:
        yield server.address


async def run(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    return output.decode()


@pytest.mark.parametrize(
    ("block", "expected"),
    PROGRAMS,
    ids=lambda value: value.where if isinstance(value, Block) else "",
)
async def test_a_program_runs_and_prints_what_it_should(
    block: Block, expected: list[str], address: str
) -> None:
    output = await run(sys.executable, "-W", "error", "-c", block.text.replace(SERVER, address))
    for line in expected:
        assert line in output


@pytest.mark.parametrize(
    "command",
    # `serve` and `demo` are run by the tests of the command line.
    [command for command in commands("README.md", "tai-grpc") if command.split()[1] in ("call", "load")],
)
async def test_a_command_runs(command: str, address: str) -> None:
    arguments = shlex.split(command.replace(SERVER, address))[1:]
    assert await run(sys.executable, "-m", "tai_grpc.cli", *arguments)
