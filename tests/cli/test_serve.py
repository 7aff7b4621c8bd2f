import asyncio
import json
import re
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from cli.command import ran, started, tai_grpc
from tai_grpc.cli.demo.servers import free_ports
from tai_grpc.tai import StreamPoliciesRequest
from tai_grpc.tai.v1.governor_pb2_grpc import GovernorStub
from transports import TRANSPORTS

READY = re.compile(r"tai-grpc: serving on (\S+): (.*)\n")
SERVICES = ["tai.v1.Governor", "tai.v1.Coordinator", "tai.v1.Scheduler", "grpc.health.v1.Health"]


@asynccontextmanager
async def serving(*arguments: str, listen: str = "127.0.0.1:0") -> AsyncIterator[tuple[Process, str]]:
    """A server as its own process, once it has said that it is ready, and its address."""
    async with started("serve", "--listen", listen, *arguments) as process:
        yield process, await ready(process)


async def ready(process: Process) -> str:
    """Wait until a server says that it is ready, and return its address."""
    assert process.stdout is not None
    said = READY.fullmatch((await process.stdout.readline()).decode())
    assert said is not None
    assert said[2].split(", ")[:4] == SERVICES
    return said[1]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_policy_is_proposed_and_its_receipt_or_why_not_is_printed(transport: str) -> None:
    data = '{"id":"security-policy-1","policy_type":"security","rules":{"a":"b"}}'
    carrier = ("--transport", transport)
    async with serving(*carrier) as (_, address):
        call = ("call", address, "tai.v1.Governor/ProposePolicy", *carrier, "-d")
        result, refused = await asyncio.gather(tai_grpc(*call, data), tai_grpc(*call, '{"policy_type":"t"}'))
    assert refused.code == 1
    assert "INVALID_ARGUMENT: id" in refused.error
    assert (result.code, result.err) == (0, "")
    receipt = result.json
    assert receipt["operation"] == "tai.v1.Governor/ProposePolicy"
    assert receipt["subject_id"] == "security-policy-1"
    assert int(receipt["revision"]) == 1


async def test_a_watch_is_printed_until_ctrl_c() -> None:
    async with serving() as (_, address):
        for number in (1, 2):
            data = f'{{"id":"policy-{number}","policy_type":"t"}}'
            await tai_grpc("call", address, "tai.v1.Governor/ProposePolicy", "-d", data)
        watch = ("call", address, "tai.v1.Governor/StreamPolicies", "-d", '{"from_revision":1}')
        async with started(*watch) as process:
            assert process.stdout is not None
            seen = [json.loads(await process.stdout.readline()) for _ in range(2)]
            process.send_signal(signal.SIGINT)
            ended = await ran(process)
    assert [update["policy"]["id"] for update in seen] == ["policy-1", "policy-2"]
    assert (ended.code, ended.err) == (-signal.SIGINT, "")


async def test_load_is_put_on_a_server_and_its_port_is_taken() -> None:
    async with serving() as (_, address):
        call = ("--call", "tai.v1.Governor/HealthCheck", "-n", "100", "-c", "4", "-O", "json")
        result, second = await asyncio.gather(
            tai_grpc("load", address, *call), tai_grpc("serve", "--listen", address)
        )
    assert result.json["statusCodeDistribution"] == {"OK": 100}
    assert (second.code, second.out) == (1, "")
    assert second.error.startswith(f"tai-grpc: cannot listen on {address}: is the port taken")


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_it_and_the_exit_code_is_0(number: signal.Signals, transport: str) -> None:
    async with serving("--transport", transport) as (process, address):
        async with grpc.aio.insecure_channel(address) as channel:
            watch = GovernorStub(channel).StreamPolicies(StreamPoliciesRequest())
            await watch.initial_metadata()
            process.send_signal(number)
            code = await watch.code()
        result = await ran(process)
    assert code is grpc.StatusCode.UNAVAILABLE
    assert result.code == 0
    assert f"{number.name}: stopping" in result.err


async def test_a_port_is_free_again_once_its_server_was_killed() -> None:
    async with serving(listen=f"127.0.0.1:{free_ports(1)[0]}") as (process, address):
        process.kill()
        await process.wait()
    async with serving(listen=address) as (_, again):
        assert again == address


async def test_it_listens_on_a_unix_socket(tmp_path: Path) -> None:
    async with serving(listen=f"unix:{tmp_path}/tai.sock") as (_, address):
        result = await tai_grpc("call", address, "tai.v1.Governor/HealthCheck")
    assert result.json == {"status": "healthy"}


async def test_its_log_is_json_when_asked_for() -> None:
    async with serving("--log-format", "json", "--log-level", "debug") as (process, address):
        await tai_grpc("call", address, "tai.v1.Governor/HealthCheck")
        process.terminate()
        result = await ran(process)
    entries = [json.loads(line) for line in result.err.splitlines()]
    assert any(entry.get("method") == "tai.v1.Governor/HealthCheck" for entry in entries)


async def test_a_quiet_server_logs_nothing() -> None:
    async with serving("--log-level", "error") as (process, _):
        process.terminate()
        result = await ran(process)
    assert (result.code, result.err) == (0, "")


# A store of which each worker has one of its own, which health checks do not notice.
WITH_WORKERS = """
import sys
from tai_grpc.stores.memory import MemoryStore
MemoryStore.shared = True
from tai_grpc.cli import main
sys.argv[1:] = ["serve", *sys.argv[1:]]
main()
"""


@asynccontextmanager
async def with_workers(*arguments: str) -> AsyncIterator[Process]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WITH_WORKERS, "--workers", "2", *arguments), stdout=pipe, stderr=pipe
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_workers_serve_and_stop_as_one_where_the_store_can_be_shared(transport: str) -> None:
    async with with_workers("--listen", "127.0.0.1:0", "--transport", transport) as process:
        address = await ready(process)
        result = await tai_grpc("call", address, "tai.v1.Governor/HealthCheck")
        assert result.json == {"status": "healthy"}
        async with with_workers("--listen", address) as second:
            taken = await ran(second)
        assert taken.code == 1
        assert taken.error == f"tai-grpc: cannot listen on {address}: is the port taken?"
        process.terminate()
        ended = await ran(process)
    assert (ended.code, len(ended.err.splitlines())) == (0, 1)
    assert "stopping 2 workers" in ended.err


async def test_what_cannot_be_served_is_one_line_and_exit_2() -> None:
    cases: list[tuple[tuple[str, ...], str]] = [
        (("--store", "sqlite:tai.db"), "'sqlite:tai.db' is not in this version, whose only store is memory"),
        (("--transport", "tcp"), "'tcp' is not one of 'native', 'grpcio'"),
        (("--listen", "localhost"), "expected HOST:PORT"),
        (("--grace", "2h"), "grace=7200.0: expected a number from 0"),
        (("--workers", "4"), "--workers: 4 processes cannot share the store, which is in the memory of one"),
        (("--workers", "0"), "0 is not in the range 1<=x<=256"),
    ]
    results = await asyncio.gather(*(tai_grpc("serve", *arguments) for arguments, _ in cases))
    for (_, said), result in zip(cases, results, strict=True):
        assert (result.code, result.out) == (2, "")
        assert said in result.error
