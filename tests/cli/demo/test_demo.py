"""The demo as its users see it: a process, its lines, its exit code, and no server left behind."""

import asyncio
import os
import re
import signal
from asyncio.subprocess import Process

import pytest

from cli.command import Ran, ran, started, tai_grpc

SERVER = re.compile(r"server on (\S+), process (\d+)")
STEPS = ("policies", "actions", "tasks", "failover")


async def _until(process: Process, beginning: str) -> list[str]:
    """Read the demo's lines up to the first that begins like this."""
    assert process.stdout is not None
    lines = []
    while line := (await process.stdout.readline()).decode():
        lines.append(line)
        if line.startswith(beginning):
            return lines
    raise AssertionError(f"no line begins with {beginning!r} in {lines}")


def _servers(lines: list[str]) -> list[int]:
    return [int(found[2]) for line in lines if (found := SERVER.match(line))]


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_every_step_holds_and_the_table_tells_of_it() -> None:
    native, grpcio = await asyncio.gather(tai_grpc("demo"), tai_grpc("demo", "--transport", "grpcio"))
    _holds(native, "native")
    _holds(grpcio, "grpcio")


def _holds(demo: Ran, transport: str) -> None:
    assert (demo.code, demo.err) == (0, ""), demo
    assert demo.out.count(f", transport {transport}\n") == 3
    for number, name in enumerate(STEPS, 1):
        assert re.search(rf"^\[{number}/4\] {name} held, \d+\.\d s$", demo.out, re.MULTILINE)
        row = re.search(rf"^ *{name} +(\d+) +(\d+) ", demo.out, re.MULTILINE)
        assert row is not None
        assert int(row[1]) > 0
        assert int(row[2]) == 0
    victim = re.search(r"kill -9 of the server on (\S+), process", demo.out)
    assert victim is not None
    transitions = re.findall(rf"breaker of {victim[1]}: (\S+) -> (\S+)", demo.out)
    assert transitions[0] == ("closed", "open")
    assert transitions[-2:] == [("open", "half-open"), ("half-open", "closed")]
    for head in ("calls", "receipts", "p50", "p99", "p99.9", "breaker"):
        assert head in demo.out
    assert "Every step held" in demo.out.splitlines()[-1]
    assert [pid for pid in _servers(demo.out.splitlines()) if _runs(pid)] == []


async def test_a_step_that_does_not_hold_is_one_line_and_exit_1() -> None:
    async with started("demo") as process:
        pids = _servers(await _until(process, "[2/4] "))
        os.kill(pids[0], signal.SIGKILL)
        demo = await ran(process)
    assert demo.code == 1
    # The one that was at work: when the server is lost, another may have begun.
    assert re.match(rf"tai-grpc: ({'|'.join(STEPS[1:])}) did not hold: ", demo.error)
    assert "Every step held" not in demo.out
    assert [pid for pid in pids if _runs(pid)] == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_a_signal_ends_the_demo_and_its_servers(number: signal.Signals, code: int) -> None:
    async with started("demo") as process:
        pids = _servers(await _until(process, "[2/4] "))
        assert all(map(_runs, pids))
        process.send_signal(number)
        demo = await ran(process)
    assert (demo.code, demo.err.strip()) == (code, "")
    assert [pid for pid in pids if _runs(pid)] == []
