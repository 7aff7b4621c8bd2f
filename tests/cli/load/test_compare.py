"""`tai-grpc load compare`, of reports as `tai-grpc load` writes them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from cli.command import tai_grpc
from load.echo import echo_server


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reports")


@pytest.fixture
async def report(reports: Path) -> Path:
    """A report of a run, made once and made long: what happened in it happens ten times, a second each."""
    path = reports / "a.json"
    if not path.exists():
        async with echo_server() as echo:
            call = ("--call", "echo.v1.Echo/Unary", "-r", "500", "-z", "1s", "-O", "json", "-o", str(path))
            assert (await tai_grpc("load", echo.address, *call)).code == 0
        document: Any = json.loads(path.read_text())
        parts = document["intervals"]
        document["intervals"] = [{**part, "length": 1_000_000_000} for part in parts for _ in range(10)]
        path.write_text(json.dumps(document))
    return path


def _worse(path: Path) -> Path:
    """The same run, in which half of the calls failed."""
    document: Any = json.loads(path.read_text())
    for part in (document, *document["intervals"]):
        part["statusCodeDistribution"]["INTERNAL"] = part["statusCodeDistribution"]["OK"]
    document["count"] *= 2
    worse = path.with_name("worse.json")
    worse.write_text(json.dumps(document))
    return worse


async def test_a_run_is_no_worse_than_itself(report: Path) -> None:
    result = await tai_grpc("load", "compare", str(report), str(report), "--fail-if-worse")
    assert (result.code, result.err) == (0, "")
    assert "Requests/sec" in result.out


async def test_a_comparison_is_for_programs_too(report: Path) -> None:
    result = await tai_grpc("load", "compare", str(report), str(report), "-O", "json")
    assert result.json["a"] == result.json["b"]
    assert result.json["a"]["file"] == str(report)


async def test_a_run_with_more_errors_is_worse(report: Path) -> None:
    worse = _worse(report)
    compare = ("load", "compare", str(report), str(worse))
    shown, result = await asyncio.gather(tai_grpc(*compare), tai_grpc(*compare, "--fail-if-worse"))
    assert (shown.code, result.code) == (0, 1)
    assert result.error == f"tai-grpc: {worse} beside {report}: has more errors"


async def test_what_is_no_report_is_one_line_and_exit_2(report: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text("[]")
    compare = ("load", "compare", str(report))
    results = await asyncio.gather(
        tai_grpc(*compare, str(other)), tai_grpc(*compare, str(tmp_path / "gone")), tai_grpc(*compare)
    )
    for said, result in zip(("no load report in JSON", "No such file", "B.json"), results, strict=True):
        assert result.code == 2
        assert said in result.error


async def test_it_has_a_help_of_its_own() -> None:
    result = await tai_grpc("load", "compare", "--help")
    assert result.code == 0
    assert "Usage: tai-grpc load compare" in result.out
    assert "Exit codes:" in result.out
