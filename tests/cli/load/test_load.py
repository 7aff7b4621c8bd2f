import asyncio
import json
import os
import pty
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cli.command import COMMAND, Ran, ran, started, tai_grpc
from load.echo import Echo, echo_server
from transports import TRANSPORTS


@pytest.fixture(params=TRANSPORTS)
async def echo(request: pytest.FixtureRequest) -> AsyncIterator[Echo]:
    async with echo_server() as server:
        server.transport = request.param
        yield server


async def _load(echo: Echo, method: str, *arguments: str) -> Ran:
    call = ("--call", f"echo.v1.Echo/{method}", "--transport", echo.transport)
    return await tai_grpc("load", echo.address, *call, *arguments)


async def test_by_default_200_calls_are_made_and_a_summary_printed(echo: Echo) -> None:
    result = await _load(echo, "Unary")
    assert (result.code, result.err) == (0, "")
    assert echo.calls["Unary"] == 200
    assert "\nSummary:\n  Count:\t200\n" in result.out
    assert "  [OK]\t200 responses\n" in result.out
    assert "Closed loop: " in result.out


async def test_the_json_report_counts_what_the_server_counted(echo: Echo) -> None:
    arguments = (
        "-n",
        "70",
        "-c",
        "7",
        "--connections",
        "2",
        "-O",
        "json",
        "--name",
        "x",
        "--tags",
        '{"a":"b"}',
    )
    report = (await _load(echo, "Unary", *arguments)).json
    assert report["count"] == report["statusCodeDistribution"]["OK"] == echo.calls["Unary"] == 70
    assert (report["name"], report["tags"], report["options"]["concurrency"]) == ("x", {"a": "b"}, 7)
    assert len(echo.peers) == 2


async def test_requests_are_sent_in_turn_with_the_metadata(echo: Echo, tmp_path: Path) -> None:
    file = tmp_path / "requests.json"
    file.write_text('[{"display_name":"ABORTED"},{"display_name":"NOT_FOUND"}]')
    arguments = ("-D", str(file), "-n", "6", "-c", "1", "-O", "json", "-m", '{"x-env":"test"}')
    result = await _load(echo, "Fail", *arguments)
    assert result.json["statusCodeDistribution"] == {"ABORTED": 3, "NOT_FOUND": 3}
    assert echo.metadata["x-env"] == "test"


async def test_failed_calls_make_the_exit_code_1_after_the_report(echo: Echo) -> None:
    result = await _load(echo, "Fail", "-d", '{"display_name":"ABORTED"}', "-n", "5")
    assert result.code == 1
    assert "  [5]\tABORTED: went wrong, and on purpose\n" in result.out
    assert result.error == "tai-grpc: 5 of 5 calls failed: 5 ABORTED"


async def test_the_report_goes_to_a_file(echo: Echo, tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    result = await _load(echo, "Unary", "-n", "3", "-O", "json", "-o", str(target))
    assert (result.code, result.out) == (0, "")
    assert json.loads(target.read_text())["count"] == 3


async def test_a_duration_replaces_the_number_of_calls(echo: Echo) -> None:
    report = (await _load(echo, "Unary", "-z", "200ms", "-c", "2", "-O", "json")).json
    assert report["endReason"] == "timeout"
    assert report["total"] >= 200_000_000
    assert report["count"] == echo.calls["Unary"]


async def test_ctrl_c_ends_the_run_with_the_report_so_far(echo: Echo) -> None:
    echo.expected_waiting = 3
    call = ("--call", "echo.v1.Echo/Wait", "-c", "3", "-O", "json", "--transport", echo.transport)
    async with started("load", echo.address, *call) as process:
        await echo.all_waiting.wait()
        process.send_signal(signal.SIGINT)
        result = await ran(process)
    assert (result.code, result.err) == (130, "")
    assert (result.json["endReason"], result.json["count"], result.json["abandoned"]) == ("cancel", 0, 3)


async def test_progress_is_shown_on_a_terminal(echo: Echo) -> None:
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(*COMMAND, "load", echo.address, "--call", "echo.v1.Echo/Unary", "-n", "100"),
        stdout=asyncio.subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(theirs)
    out, _ = await process.communicate()
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert process.returncode == 0
    assert "Count:\t100" in out.decode()
    assert "echo.v1.Echo/Unary" in shown
    assert "calls" in shown


@pytest.mark.parametrize(
    ("method", "arguments", "said"),
    [
        ("Split", (), "expected a unary method (this one is server streaming)"),
        ("Unary", ("-d", '{"nope":1}'), "no field 'nope'"),
        ("Unary", ("-d", "{}", "-D", "file"), "by -d or by -D, not by both"),
        ("Unary", ("-c", "0"), "concurrency=0: expected an int from 1"),
        ("Unary", ("-O", "csv"), "csv is not in this version, which has summary and json"),
    ],
)
async def test_what_cannot_be_run_is_one_line_and_exit_2(
    echo: Echo, method: str, arguments: tuple[str, ...], said: str
) -> None:
    result = await _load(echo, method, *arguments)
    assert (result.code, result.out) == (2, "")
    assert said in result.error
    assert echo.calls.total() == 0


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_refused_connection_is_one_line_and_exit_1(transport: str) -> None:
    async with echo_server() as server:
        address = server.address
    result = await tai_grpc(
        "load", address, "--call", "tai.v1.Governor/HealthCheck", "--transport", transport
    )
    assert result.code == 1
    assert result.error.startswith(f"tai-grpc: cannot reach {address}: connection refused")
