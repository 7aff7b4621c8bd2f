"""What the documents show runs as it stands, against a server that was started as they say."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
from collections.abc import AsyncIterator, Mapping

import pytest

from documents import ROOT, Block, blocks, commands
from documents import SERVER as ADDRESS
from tai_grpc.aio import _channel_options, _options
from tai_grpc.aio._channel_options import CHANNEL
from tai_grpc.aio._options import SERVER
from tai_grpc.client import GrpcClient
from tai_grpc.config import GrpcClientConfig, GrpcServerConfig
from tai_grpc.server import GrpcServer
from tai_grpc.tai import Policy

# What each document's programs print, in the order in which they stand there.
EXPECTED = {
    "README.md": (
        ["tai.v1.Governor/ProposePolicy 1", "1.3", "NOT_FOUND", "CLOSED"],
        ["healthy"],
        ["disk-full 1"],
        ["healthy"],
        ["TASK_STATE_SUCCEEDED", "resized to 640"],
        ["failed\nfailed\nrefused, try again in 30 s", "[True, True, False]", "5003 9991"],
    ),
    "docs/native.md": (
        ["NOT_FOUND there is no such policy"],
        ["options['grpc.xds_enabled']=1: expected one of grpc.absolute_max_metadata_size, "],
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
# These end when they are told to: see below.
SERVERS = [
    block for document in EXPECTED for block in blocks(document, "python") if "run_workers(" in block.text
]
PROGRAMS = [
    each
    for document, expected in EXPECTED.items()
    for each in zip(
        (block for block in blocks(document, "python") if block not in SERVERS), expected, strict=True
    )
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
    output = await run(sys.executable, "-W", "error", "-c", block.text.replace(ADDRESS, address))
    for line in expected:
        assert line in output


@pytest.mark.parametrize("block", SERVERS, ids=lambda block: block.where)
async def test_a_server_of_several_processes_serves_until_it_is_told_to_stop(block: Block) -> None:
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-W", "error", "-c", block.text)
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    try:
        assert process.stdout is not None
        address = (await asyncio.wait_for(process.stdout.readline(), 60)).decode().strip()
        async with GrpcClient(GrpcClientConfig(server_addresses=[address])) as client:
            receipt = await client.governor.propose_policy(Policy(id="p"))
        assert receipt.subject_id == "p"
        process.terminate()
        _, errors = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert (process.returncode, errors) == (0, b"")


def test_every_option_without_effect_is_named() -> None:
    text = (ROOT / "docs/native.md").read_text().split("**Without effect**")[1].split("\n\n")[0]
    names = _channel_options.HARMLESS | _options.HARMLESS
    assert {name for name in names if f"`{name}`" not in text} == set()


@pytest.mark.parametrize(
    ("side", "names"), [("channels", CHANNEL), ("servers", SERVER)], ids=["channels", "servers"]
)
def test_every_option_is_in_the_table_of_its_side(side: str, names: Mapping[str, object]) -> None:
    text = (ROOT / "docs/native.md").read_text()
    section = text.split(f"## Options of {side}\n")[1].split("\n## ")[0]
    assert sorted(re.findall(r"^\| `(\S+)` \|", section, re.MULTILINE)) == sorted(names)


@pytest.mark.parametrize("document", ["README.md", "docs/load.md"])
async def test_the_commands_run(document: str, address: str) -> None:
    """Some at a time; `serve`, `bench` and `demo` are run by the tests of the command line."""
    some = asyncio.Semaphore(3)

    async def runs(command: str) -> None:
        async with some:
            arguments = shlex.split(command.replace(ADDRESS, address))[1:]
            assert await run(sys.executable, "-m", "tai_grpc.cli", *arguments), command

    async with asyncio.TaskGroup() as group:
        for command in commands(document, "tai-grpc"):
            if command.split()[1] in ("call", "load"):
                group.create_task(runs(command))
