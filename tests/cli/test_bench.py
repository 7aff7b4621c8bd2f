"""`tai-grpc bench`, run as its users do."""

from __future__ import annotations

import signal
from pathlib import Path

import tai_grpc as package
from cli.command import ran, started, tai_grpc


async def test_rows_are_measured_and_their_verdict_is_the_exit_code(tmp_path: Path) -> None:
    """From any folder, as the package is installed from a checkout; a path is one of that folder."""
    rows = ("--rows=breaker", "--rows=resilience")
    async with started(
        "bench", "--quick", *rows, "--format=json", "--results=found.md", cwd=tmp_path
    ) as process:
        found = await ran(process)
    assert found.code == int(found.json["missed"]), found
    assert found.json["whole"] is False
    assert found.err == f"written: {tmp_path / 'found.md'}\n"
    by_name = {row["name"]: row for row in found.json["rows"]}
    assert set(by_name) == {"breaker", "packages-call", "packages-refuse", "resilience"}
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


async def test_ctrl_c_ends_it_with_what_was_found_so_far() -> None:
    async with started("bench", "--quick") as process:
        assert process.stdout is not None
        first = await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        found = await ran(process)
    assert first.startswith(b"breaker: ")
    assert found.code == 130
    assert "not to be quoted" in found.out
    assert found.out.splitlines()[-1].startswith("1 targets: ")


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
        "tai-grpc: the benchmarks are in a checkout of tai-grpc alone: run this in one, or `make bench` "
        "there (see: tai-grpc bench --help)"
    )
