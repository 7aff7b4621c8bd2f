"""Workers as real processes: on one port, with one arena, killed, replaced and stopped."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

import tai_grpc as tg
from server.workers_program import TOKENS
from transports import TRANSPORTS

PROGRAM = Path(__file__).with_name("workers_program.py")
HANGS = 60.0


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Serving:
    """The program, which serves."""

    def __init__(self, process: asyncio.subprocess.Process, address: str) -> None:
        self.process = process
        self.address = address

    async def ended(self) -> str:
        """Wait until it and all its workers have ended; return what they logged."""
        async with asyncio.timeout(HANGS):
            # The workers have the pipes too: they end with the last of them.
            _, errors = await self.process.communicate()
        return errors.decode()


@asynccontextmanager
async def started(*arguments: object) -> AsyncIterator[asyncio.subprocess.Process]:
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-W", "error", str(PROGRAM), *map(str, arguments))
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


@asynccontextmanager
async def serving(
    transport: str, workers: int, listen: str = "127.0.0.1:0", fails: int = 0
) -> AsyncIterator[Serving]:
    async with started(transport, workers, listen, fails) as process:
        assert process.stdout is not None
        async with asyncio.timeout(HANGS):
            ready = (await process.stdout.readline()).decode().split()
        assert ready, (await process.communicate())[1].decode()
        assert ready[1:3] == ["test.Shared", "grpc.health.v1.Health"]
        yield Serving(process, ready[0])


def connect(address: str) -> Any:
    """A channel with a connection of its own."""
    options = (("grpc.use_local_subchannel_pool", 1), ("grpc.initial_reconnect_backoff_ms", 100))
    return grpc.aio.insecure_channel(address, options)


async def ask(channel: Any, method: str) -> bytes:
    """Call; a connection that a worker did not live to accept is made anew."""
    call = channel.unary_unary(f"/test.Shared/{method}")
    answer: bytes = await call(b"", timeout=HANGS, wait_for_ready=True)
    return answer


async def pid_of(channel: Any) -> int:
    return int(await ask(channel, "Pid"))


async def pids(address: str, expected: int, unlike: frozenset[int] = frozenset()) -> set[int]:
    """Connect until so many workers, other than some, have answered."""
    found: set[int] = set()
    async with asyncio.timeout(HANGS):
        while len(found - unlike) < expected:
            async with connect(address) as channel:
                found.add(await pid_of(channel))
    return found - unlike


async def begin_waiting(channel: Any, seconds: float) -> Any:
    """A call that a handler works at, for so many seconds."""
    call = channel.unary_stream("/test.Shared/Wait")(str(seconds).encode())
    assert await call.read() == b"begun"
    return call


async def settled(channel: Any) -> tuple[list[int], int]:
    """Return the counts when no call is in flight but the one that asks, and how often that asked.

    The client of an aborted call may hear of it before the server has counted it.
    """
    times = 0
    async with asyncio.timeout(HANGS):
        while True:
            times += 1
            counted: list[int] = json.loads(await ask(channel, "Count"))
            if counted[3] == 1:
                return counted, times


async def test_calls_spread_over_the_workers_which_limit_and_count_together(transport: str) -> None:
    """What each of them does is exact for all: no token is taken twice, no call is forgotten."""
    async with serving(transport, 3) as server, AsyncExitStack() as stack:
        by_pid: dict[int, Any] = {}
        asked = 0
        async with asyncio.timeout(HANGS):
            while len(by_pid) < 3:
                channel = await stack.enter_async_context(connect(server.address))
                by_pid[await pid_of(channel)] = channel
                asked += 1
        assert server.process.pid not in by_pid
        channels = list(by_pid.values())
        took = await asyncio.gather(
            *(ask(channels[n % 3], "Take") for n in range(TOKENS + 50)), return_exceptions=True
        )
        assert took.count(b"") == TOKENS
        refused = [error for error in took if isinstance(error, grpc.aio.AioRpcError)]
        assert [error.code() for error in refused] == [grpc.StatusCode.RESOURCE_EXHAUSTED] * 50
        calls = asked + TOKENS + 50
        for channel in channels:
            counted, more = await settled(channel)
            assert counted == [asked, calls + more, 50, 1, calls + more - 51]
            calls += more
        server.process.terminate()
        errors = await server.ended()
    assert (server.process.returncode, "ERROR" in errors) == (0, False), errors


async def test_a_killed_worker_is_replaced_and_no_retried_call_fails(transport: str) -> None:
    async with serving(transport, 2) as server:
        victim, other = await pids(server.address, 2)
        async with connect(server.address) as channel:
            while (held_by := await pid_of(channel)) != victim:
                await channel.close()
                channel = connect(server.address)  # noqa: PLW2901 - until it is one of the victim's
            held = await begin_waiting(channel, 60)
            # So many that the kernel, which draws a worker for each connection, leaves no worker out.
            answered: list[set[int]] = [set() for _ in range(24)]
            begun = asyncio.Barrier(len(answered) + 1)
            stop = asyncio.Event()

            async def call(seen: set[int]) -> None:
                config = tg.GrpcClientConfig(
                    server_addresses=[server.address],
                    retry=tg.RetryConfig(max_retries=5, initial_backoff=0.02, max_backoff=0.5),
                )
                async with tg.GrpcClient(config) as client:
                    one: Any = client.stub(lambda channel: channel.unary_unary("/test.Shared/Pid"))
                    seen.add(int(await one(b"")))
                    await begun.wait()
                    while not stop.is_set():
                        seen.add(int(await one(b"")))
                    assert client.stats().failed == 0

            async with asyncio.timeout(HANGS), asyncio.TaskGroup() as group:
                for seen in answered:
                    group.create_task(call(seen))
                await begun.wait()
                os.kill(victim, signal.SIGKILL)
                (new,) = await pids(server.address, 1, frozenset({victim, other}))
                stop.set()
            assert held_by == victim
            assert await held.code() is grpc.StatusCode.UNAVAILABLE
            counted, _ = await settled(channel)
        assert 1 <= counted[2] <= len(answered) + 1, "what the victim had in flight"
        assert set().union(*answered) >= {victim, other}
        server.process.terminate()
        errors = await server.ended()
    assert server.process.returncode == 0, errors
    (line,) = [line for line in errors.splitlines() if "ERROR" in line]
    assert f"(process {victim}) was ended by SIGKILL: the next one starts in 0.1 s" in line
    assert new not in (victim, other)


async def test_one_that_cannot_start_again_is_tried_again_later(transport: str) -> None:
    async with serving(transport, 2, fails=3) as server:
        first = await pids(server.address, 2)
        os.kill(min(first), signal.SIGKILL)
        await pids(server.address, 1, frozenset(first))
        server.process.terminate()
        errors = await server.ended()
    assert server.process.returncode == 0, errors
    assert "ended with exit code 1 (ValueError: this one fails): the next one starts in 0.2 s" in errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_all_of_them_and_calls_in_flight_are_answered(
    transport: str, number: signal.Signals
) -> None:
    async with serving(transport, 2) as server, connect(server.address) as channel:
        call = await begin_waiting(channel, 0.5)
        server.process.send_signal(number)
        assert await call.read() == b"waited"
        errors = await server.ended()
    assert server.process.returncode == 0, errors
    assert [line for line in errors.splitlines() if "stopping" not in line] == []


async def test_a_second_signal_does_not_wait(transport: str) -> None:
    async with serving(transport, 2) as server, connect(server.address) as channel:
        call = await begin_waiting(channel, 60)
        server.process.terminate()
        assert server.process.stderr is not None
        while b"stopping" not in (line := await server.process.stderr.readline()):
            assert line
        # One that follows at once would be taken for the same.
        await asyncio.sleep(0.7)
        server.process.terminate()
        errors = await server.ended()
        assert await call.code() is grpc.StatusCode.UNAVAILABLE
    assert server.process.returncode == 1
    assert "was ended by SIGKILL" in errors


async def test_workers_do_not_outlive_their_supervisor(transport: str) -> None:
    async with serving(transport, 2) as server:
        await pids(server.address, 2)
        server.process.kill()
        errors = await server.ended()
        assert errors.count("the supervisor is gone: stopping") == 2


async def test_a_taken_port_is_an_error_that_names_it(transport: str) -> None:
    """A second set of workers would share it with the first, if the system were asked alone."""
    async with serving(transport, 2) as server:
        async with started(transport, 2, server.address, 0) as second:
            _, errors = await second.communicate()
        assert second.returncode == 1
        assert f"OSError: cannot listen on {server.address}: address already in use" in errors.decode()
        assert await pids(server.address, 2)


@pytest.mark.parametrize("fails", [1, 2])
async def test_one_that_does_not_start_at_first_ends_all(transport: str, fails: int) -> None:
    async with started(transport, 2, "127.0.0.1:0", fails) as process:
        out, errors = await process.communicate()
    assert (process.returncode, out) == (1, b"")
    assert errors.decode().splitlines()[-1] == "tai_grpc.errors.TaiGrpcError: ValueError: this one fails"


REFUSED = {
    "tg.GrpcServerConfig(listen='127.0.0.1:0')": (
        "workers=2: expected 1 with a store that processes cannot share, or control_plane=False"
    ),
    "tg.GrpcServerConfig(listen='unix:/nowhere', control_plane=False)": (
        "listen='unix:/nowhere': expected HOST:PORT: workers cannot share a UNIX socket"
    ),
}


@pytest.mark.parametrize("config", REFUSED)
async def test_what_processes_cannot_share_is_refused(config: str) -> None:
    program = f"import tai_grpc as tg; tg.run_workers(lambda arena: tg.GrpcServer({config}), 2)"
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stderr=pipe)
    _, errors = await process.communicate()
    assert process.returncode == 1
    assert errors.decode().splitlines()[-1] == f"tai_grpc.errors.ConfigError: {REFUSED[config]}"


async def test_misuse_is_told() -> None:
    def make_server(arena: tg.Arena) -> tg.GrpcServer:
        raise AssertionError("not to be called")

    with pytest.raises(tg.ConfigError, match="workers=257: expected an int from 1 to 256"):
        tg.run_workers(make_server, 257)
    wrong: Any = 5
    with pytest.raises(tg.ConfigError, match="make_server=5: expected a function of the arena"):
        tg.run_workers(wrong, 2)
    with pytest.raises(tg.ConfigError, match=r"arena=5: expected an? Arena"):
        tg.run_workers(make_server, 2, arena=wrong)
    with pytest.raises(tg.ConfigError, match="ready=5: expected a function of the address"):
        tg.run_workers(make_server, 2, ready=wrong)
    with pytest.raises(tg.TaiGrpcError, match="not called in an event loop"):
        tg.run_workers(make_server, 2)
    errors: list[Exception] = []

    def call() -> None:
        try:
            tg.run_workers(make_server, 2)
        except tg.TaiGrpcError as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert "in the main thread" in str(errors[0])
