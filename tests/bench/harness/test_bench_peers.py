"""scripts/bench-peers: what it cannot make is not there to be measured."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
PROGRAMS = ("tonic/release/bench-tonic", "grpc_go/bench-go", "ghz/ghz")
NEEDED = ("sh", "dirname", "mkdir", "rm", "timeout", "touch", "sleep", "chmod")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the script knows of one, with programs that were built before; it finds only tools put there."""
    for folder in ("scripts", "tools", "bench/peers/rpc/tonic", "bench/peers/rpc/grpc_go"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(REPOSITORY / "scripts" / "bench-peers", tmp_path / "scripts")
    for name in NEEDED:
        found = shutil.which(name)
        assert found is not None
        (tmp_path / "tools" / name).symlink_to(found)
    tool(tmp_path, "h2load", "")
    for name in PROGRAMS:
        program = tmp_path / "build" / "bench" / name
        program.parent.mkdir(parents=True)
        program.write_text("old")
    return tmp_path


def tool(checkout: Path, name: str, does: str) -> None:
    path = checkout / "tools" / name
    path.write_text(f"#!/bin/sh\n{does}\n")
    path.chmod(0o755)


def made(checkout: Path, **environment: str) -> str:
    ran = subprocess.run(
        [checkout / "scripts" / "bench-peers"],
        env={**os.environ, "PATH": str(checkout / "tools"), **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert ran.stderr == ""
    return ran.stdout


def programs(checkout: Path) -> dict[str, str]:
    paths = {name: checkout / "build" / "bench" / name for name in PROGRAMS}
    return {name: path.read_text() for name, path in paths.items() if path.exists()}


def test_what_is_built_is_said_and_there(checkout: Path) -> None:
    build = checkout / "build" / "bench"
    tool(checkout, "cargo", f"echo new > {build}/tonic/release/bench-tonic")
    tool(
        checkout,
        "go",
        f'[ "$1" = install ] && echo new > "$GOBIN/ghz" || echo new > {build}/grpc_go/bench-go',
    )
    assert made(checkout).splitlines() == [
        "building tonic with cargo: minutes when it is new",
        "building grpc_go with go: minutes when it is new",
        "building ghz with go: minutes when it is new",
    ]
    assert programs(checkout) == dict.fromkeys(PROGRAMS, "new\n")


def test_a_program_whose_rebuild_failed_is_not_left_to_be_measured(checkout: Path) -> None:
    tool(checkout, "cargo", "echo no such crate >&2; exit 101")
    tool(checkout, "go", "exit 0")
    assert "tonic: not built, see build/bench/logs/tonic-build.log" in made(checkout).splitlines()
    assert sorted(programs(checkout)) == ["ghz/ghz", "grpc_go/bench-go"]
    assert (checkout / "build/bench/logs/tonic-build.log").read_text() == "no such crate\n"


def test_a_program_whose_tool_has_gone_is_not_left_to_be_measured(checkout: Path) -> None:
    """Nobody can tell whether it is of the sources that are there now."""
    assert made(checkout) == ""
    assert programs(checkout) == {}


def test_a_build_that_does_not_end_is_ended(checkout: Path) -> None:
    tool(checkout, "cargo", "sleep 1000")
    assert "tonic: not built" in made(checkout, BUILD_SECONDS="0.2")
    assert programs(checkout) == {}
