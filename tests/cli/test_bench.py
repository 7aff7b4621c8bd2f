"""`tai-grpc bench`, run as its users do."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

import tai_grpc as package
from cli.command import HANGS, on_a_terminal, ran, shell, started, tai_grpc

REPOSITORY = Path(__file__).parents[2]


async def test_rows_are_measured_and_their_verdict_is_the_exit_code(tmp_path: Path) -> None:
    """From any folder, as the package is installed from a checkout; a path is one of that folder."""
    rows = ("--rows=breaker", "--rows=resilience")
    async with started(
        "bench", "--quick", *rows, "--format=json", "--results=found.md", cwd=tmp_path
    ) as process:
        found = await ran(process)
    assert found.code == int(found.json["missed"]), found
    assert found.json["whole"] is False
    assert found.err == "written: found.md\n"
    by_name = {row["name"]: row for row in found.json["rows"]}
    assert set(by_name) == {
        "breaker",
        "packages-call",
        "packages-refuse",
        "resilience-busy",
        "resilience-alone",
    }
    for row in by_name.values():
        ours = [figure for figure in row["figures"] if figure["who"].startswith(("check", "tai"))]
        assert ours
        assert all(value > 0 for figure in ours for value in figure["values"])
    check = by_name["breaker"]["targets"][0]
    assert check["verdict"] == ("PASS" if check["value"] <= 2 else "MISS")
    written = (tmp_path / "found.md").read_text()
    assert written.startswith(
        "# Figures\n\nMade by `tai-grpc bench --rows breaker --rows resilience --quick`;"
    )


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
async def test_a_signal_ends_it_with_what_was_found_so_far(number: signal.Signals, code: int) -> None:
    async with started("bench", "--quick") as process:
        assert process.stdout is not None
        first = await process.stdout.readline()
        process.send_signal(number)
        found = await ran(process)
    assert first.startswith(b"breaker: ")
    assert (found.code, found.err) == (code, "")
    assert "interrupted in breaker, which has what was measured by then" in found.out
    assert "not to be quoted" in found.out
    assert found.out.splitlines()[-1].startswith("1 targets: ")


async def test_a_row_that_is_interrupted_has_the_rounds_that_were_whole() -> None:
    async with on_a_terminal("bench", "--rows=resilience", "--format=json") as (process, terminal):
        shown = b""
        while b"round 3 of 40" not in shown:
            shown += await asyncio.to_thread(os.read, terminal, 4096)
        process.send_signal(signal.SIGINT)
        out, _ = await process.communicate()
    assert process.returncode == 130
    report = json.loads(out)
    (row,) = report["rows"]
    assert [len(figure["values"]) for figure in row["figures"]] == [2, 2]
    assert report["interrupted"] == "resilience"
    assert report["whole"] is False


@pytest.mark.parametrize("rows", [("breaker",), ("resilience", "load-generators")], ids=["row", "peers"])
async def test_nothing_interrupts_its_end_or_leaves_processes_behind(rows: tuple[str, ...]) -> None:
    """Signals that follow the first change nothing: not in a row with processes of its own either."""
    async with started("bench", "--quick", *(f"--rows={row}" for row in rows)) as process:
        assert process.stdout is not None
        await process.stdout.readline()
        children = await asyncio.to_thread(wait_for_children, process.pid, 2)
        os.kill(children[0], signal.SIGSTOP)  # which is waited for until it is killed
        process.send_signal(signal.SIGINT)
        await asyncio.to_thread(wait_until_ignored, process.pid, signal.SIGINT)
        assert children[0] in children_of(process.pid)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        found = await ran(process)
    assert (found.code, found.err) == (130, "")
    assert found.out.splitlines()[-1].startswith("1 targets: ")
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


def wait_for_children(pid: int, count: int) -> list[int]:
    """Return those of a process in the order in which they began, when there are so many."""
    end = time.monotonic() + HANGS
    while len(children := children_of(pid)) < count:
        assert time.monotonic() < end, children
        time.sleep(0.01)
    return children


def children_of(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_until_ignored(pid: int, number: int) -> None:
    end = time.monotonic() + HANGS
    while time.monotonic() < end:
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        mask = next(line for line in status if line.startswith("SigIgn:")).split()[1]
        if int(mask, 16) >> (number - 1) & 1:
            return
        time.sleep(0.01)
    raise TimeoutError(f"signal {number} is not ignored")


async def test_results_that_cannot_be_written_are_told_before_anything_is_measured(tmp_path: Path) -> None:
    missing = tmp_path / "missing" / "found.md"
    found = await tai_grpc("bench", "--quick", f"--results={missing}")
    assert (found.code, found.out) == (2, "")
    assert found.error == (
        f"tai-grpc: Invalid value for --results: cannot write {missing}: No such file or directory "
        "(see: tai-grpc bench --help)"
    )


async def test_a_reader_that_goes_ends_it() -> None:
    """As with `| head -1`."""
    async with started("bench", "--quick", "--rows=resilience", redirected="| head -1") as process:
        found = await ran(process)
    assert (found.out.count("\n"), found.err) == (1, "")


async def test_what_a_full_device_does_not_take_is_one_line() -> None:
    found = await shell(">/dev/full", "bench", "--quick", "--rows=resilience")
    assert (found.code, found.error) == (1, "tai-grpc: cannot write to stdout: No space left on device")


async def test_without_stdout_and_stderr_it_measures_what_is_to_be_written(tmp_path: Path) -> None:
    path = tmp_path / "found.md"
    found = await shell(">&- 2>&-", "bench", "--quick", "--rows=resilience", f"--results={path}")
    assert found.code in (0, 1)
    assert path.read_text().startswith("# Figures\n")


async def test_the_module_is_the_command() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench", "--rows=x"), stderr=asyncio.subprocess.PIPE, cwd=REPOSITORY
    )
    _, err = await process.communicate()
    assert process.returncode == 2
    assert err.decode() == (await tai_grpc("bench", "--rows=x")).err


async def test_a_row_that_there_is_not_is_one_line_that_names_those_there_are() -> None:
    found = await tai_grpc("bench", "--rows=unary", "--rows=memery")
    assert found.code == 2
    assert "'memery' is not one of 'breaker', 'primitives'," in found.error


async def test_without_a_checkout_it_says_what_is_missing(tmp_path: Path) -> None:
    """The package, seen where an installed one would be."""
    (tmp_path / "tai_grpc").symlink_to(Path(package.__file__).parent)
    async with started("bench", cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}) as process:
        found = await ran(process)
    assert found.code == 2
    assert found.error == (
        "tai-grpc: the benchmarks are in a checkout of tai-grpc alone: run this in one, or `make bench` there"
    )
