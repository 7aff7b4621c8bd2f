"""Several engine processes make one plan's load."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import signal
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from load.echo import Echo, echo_server
from load.plans import NUMBERED, plan_of
from tai_grpc.load import coordinator, processes
from tai_grpc.load.coordinator import coordinate
from tai_grpc.load.errors import EngineProcessError, UnreachableError
from tai_grpc.load.plan import LoadPlan, Schedule, Segment
from tai_grpc.load.processes import commands
from tai_grpc.load.result import EndReason, Interval, LoadResult
from tai_grpc.load.series import merged


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    async with echo_server() as server:
        yield server


async def run(
    plan: LoadPlan,
    started_by: Sequence[Sequence[str]],
    seen: list[Interval] | None = None,
    stop: threading.Event | None = None,
) -> LoadResult:
    async with asyncio.timeout(60):
        return await asyncio.to_thread(
            coordinate, plan, started_by, watch=None if seen is None else seen.append, stop=stop
        )


async def test_processes_share_the_calls_and_their_histograms_are_added_exactly(
    echo: Echo, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[Interval] = []
    plan = await plan_of(echo, data=NUMBERED, total=1001, concurrency=12, connections=4)
    result = await run(plan, commands(3, ()), seen)
    assert result.plan is plan
    assert result.statuses == {"OK": 1001}
    assert result.latencies.count == 1001
    assert sorted(echo.names, key=int) == [str(number) for number in range(1001)]
    assert len(echo.peers) == 4
    assert result.end_reason is EndReason.NORMAL
    parts = merged(each.latencies for each in result.intervals)
    assert parts.counts.tolist() == result.latencies.counts.tolist()
    assert sum((each.statuses for each in result.intervals), Counter()) == result.statuses
    assert merged(each.latencies for each in result.hosts).counts.tolist() == parts.counts.tolist()
    assert capfd.readouterr() == ("", "")


async def test_a_rate_is_divided(echo: Echo) -> None:
    schedule = Schedule(segments=(Segment(None, 1000.0, 1000.0),))
    plan = await plan_of(echo, schedule=schedule, total=None, duration=0.5, connections=2)
    result = await run(plan, commands(2, ()))
    assert result.statuses["OK"] + result.missed == 500


async def test_a_process_may_be_started_by_a_command_of_the_user(echo: Echo, tmp_path: Path) -> None:
    """As `ssh box` starts one elsewhere."""
    here = tmp_path / "tai-grpc"
    here.write_text(f'#!/bin/sh\nexec {sys.executable} -m tai_grpc.cli "$@"\n')
    here.chmod(0o755)
    plan = await plan_of(echo, total=10, connections=2)
    result = await run(plan, commands(1, [f"env PATH={tmp_path}:{os.environ['PATH']}"]))
    assert result.statuses == {"OK": 10}


async def test_a_stop_ends_all_of_them_with_what_they_saw(echo: Echo) -> None:
    echo.expected_waiting = 4
    stop = threading.Event()
    plan = await plan_of(echo, "Wait", concurrency=4, connections=2)
    running = asyncio.create_task(run(plan, commands(2, ()), stop=stop))
    await echo.all_waiting.wait()
    stop.set()
    result = await running
    assert (result.end_reason, result.count, result.abandoned) == (EndReason.CANCEL, 0, 4)


@dataclass(frozen=True)
class Recorded:
    """Commands of processes, whose process ids are written down."""

    file: Path

    def commands(self, count: int) -> list[list[str]]:
        recorded = ["sh", "-c", f'echo $$ >> {self.file}; exec "$0" "$@"']
        return [[*recorded, *command] for command in commands(count, ())]

    def pids(self) -> list[int]:
        return [int(pid) for pid in self.file.read_text().split()]

    def are_gone(self) -> bool:
        return not any(Path(f"/proc/{pid}").exists() for pid in self.pids())


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    return Recorded(tmp_path / "pids")


async def test_of_a_process_that_is_killed_the_others_make_the_report(echo: Echo, recorded: Recorded) -> None:
    echo.expected_waiting = 4
    plan = await plan_of(echo, "Wait", concurrency=4, connections=2)
    running = asyncio.create_task(run(plan, recorded.commands(2)))
    await echo.all_waiting.wait()
    os.kill(recorded.pids()[0], signal.SIGKILL)
    result = await running
    assert result.failure.startswith("engine process ")
    assert result.failure.endswith("load engine) was killed by SIGKILL; the report is of the others")
    assert (result.end_reason, result.abandoned) == (EndReason.CANCEL, 2)
    assert recorded.are_gone()


async def test_when_all_processes_are_killed_there_is_no_report(echo: Echo, recorded: Recorded) -> None:
    echo.expected_waiting = 4
    plan = await plan_of(echo, "Wait", concurrency=4, connections=2)
    running = asyncio.create_task(run(plan, recorded.commands(2)))
    await echo.all_waiting.wait()
    for pid in recorded.pids():
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(EngineProcessError, match=r"^engine process [12] \(sh -c .* was killed by SIGKILL$"):
        await running


@pytest.mark.parametrize("stops", [False, True], ids=["in the run", "after a stop"])
async def test_a_process_that_hangs_is_given_up(
    echo: Echo, recorded: Recorded, monkeypatch: pytest.MonkeyPatch, stops: bool
) -> None:
    """It would be silent for ever; the others say something every quarter of a second."""
    monkeypatch.setattr(coordinator, "STOP_SECONDS" if stops else "SILENCE_SECONDS", 3.0)
    echo.expected_waiting = 4
    stop = threading.Event()
    plan = await plan_of(echo, "Wait", concurrency=4, connections=2)
    running = asyncio.create_task(run(plan, recorded.commands(2), stop=stop))
    await echo.all_waiting.wait()
    os.kill(recorded.pids()[0], signal.SIGSTOP)
    if stops:
        stop.set()
    result = await running
    assert result.failure.endswith("said nothing for 3 s; the report is of the others")
    assert (result.end_reason, result.abandoned) == (EndReason.CANCEL, 2)
    assert recorded.are_gone()


async def test_a_process_that_is_not_ready_in_time_is_given_up(
    echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads nothing either, and what it is told does not fit into a pipe."""
    monkeypatch.setattr(coordinator, "START_SECONDS", 0.1)
    data = json.dumps({"display_name": "x" * 1_000_000})
    plan = await plan_of(echo, data=data, connections=2, connect_timeout=0.4)
    silent = ["sh", "-c", "sleep 1000; echo over"]
    with pytest.raises(EngineProcessError, match=r"^engine process [12] \(.*\) was not ready after 0\.5 s$"):
        await run(plan, [silent, silent])


async def test_a_host_may_be_there_twice(echo: Echo) -> None:
    plan = await plan_of([echo, echo], total=40, connections=2)
    result = await run(plan, commands(2, ()))
    [host] = result.hosts
    assert (host.host, host.statuses) == (echo.address, {"OK": 40})


CHATTERS = """
import sys
from load.report.results import interval
from tai_grpc.load.frames import write_frame
for number in range(50):
    write_frame(sys.stdout.buffer, interval(number, [1]))
write_frame(sys.stdout.buffer, "the result")
"""


async def test_intervals_that_nobody_takes_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "MAX_WAITING", 10)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    said: processes.Said = queue.Queue()
    with processes.EngineProcess([sys.executable, "-c", CHATTERS], 3, said):
        pass
    heard = [said.get_nowait() for _ in range(said.qsize())]
    assert {number for number, _ in heard} == {3}
    assert [type(what) for _, what in heard] == [*[Interval] * 10, str, EOFError]


async def test_what_one_of_them_cannot_do_is_said(echo: Echo) -> None:
    plan = await plan_of(echo, connections=2)
    await echo.stop()
    with pytest.raises(UnreachableError, match=f"cannot connect to {echo.address}: Connection refused"):
        await run(plan, commands(2, ()))
    with pytest.raises(
        EngineProcessError, match="cannot start /no/such/program tai-grpc load engine: No such"
    ):
        await run(plan, commands(1, ["/no/such/program"]))
    ended = r"process 1 \(true\) ended with exit status 0 and without a result"
    with pytest.raises(EngineProcessError, match=ended):
        await run(plan, [["true"], *commands(1, ())])


async def test_a_process_that_says_what_is_no_frame_ends_the_run(echo: Echo) -> None:
    plan = await plan_of(echo, connections=2)
    babble = ["sh", "-c", r"printf '\0\0\0\0\0\0\0\005hello'; cat"]
    with pytest.raises(
        EngineProcessError, match=r"^engine process 1 \(sh -c .*\) said what no engine process"
    ):
        await run(plan, [babble, *commands(1, ())])
