"""Processes that share an arena, and are killed: see arena_workers.py, which they are."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tai_grpc.resilience.arena import Arena

PROGRAM = Path(__file__).with_name("arena_workers.py")
KILLS = 100
SIZE = 1 << 23


def run(*arguments: object) -> Any:
    """What the program says of its run; that it ends at all says that nobody waits for the dead."""
    command = [sys.executable, str(PROGRAM), *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    return json.loads(ended.stdout)


@pytest.mark.parametrize("kind", ["in memory", "in a file"])
def test_four_processes_killed_100_times_lose_and_invent_nothing(kind: str, tmp_path: Path) -> None:
    """200 kills over both kinds. What a killed operation was doing is done or not; nothing else differs."""
    path = tmp_path / "arena"
    seen = run("kill", "-" if kind == "in memory" else path, KILLS, 1)
    assert seen["killed_ends"] == {"9": KILLS}
    assert seen["last_ends"] == [0, 0, 0, 0]

    begun, done = seen["begun"], seen["done"]
    assert sum(begun.values()) - sum(done.values()) <= KILLS, "each kill interrupts one operation at most"
    assert done["count"] <= seen["count"] <= begun["count"]
    assert done["record"] <= seen["record"] <= begun["record"]
    assert done["merge"] * 1000 <= seen["merge"] <= begun["merge"] * 1000
    assert done["create"] <= seen["created_total"] <= begun["create"]
    assert seen["created"] > 0

    # A token a second comes back.
    assert done["take"] - seen["elapsed"] - 1 <= seen["vast_taken"] <= begun["take"]
    assert seen["granted"] <= 100 + 1_000 * seen["elapsed"]

    assert seen["half_open_eras"] > 0
    assert seen["most_permits"] <= 3
    assert seen["breaker_works"]
    assert seen["window_calls"] == 20

    if kind == "in a file":
        left = Arena(path, SIZE)
        assert left.counter("count").value == seen["count"]
        assert left.histogram("record").count == seen["record"]


def test_of_files_made_at_the_same_time_all_use_one(tmp_path: Path) -> None:
    seen = run("race", tmp_path / "arena", 20)
    assert seen == {"values": [[0] * 4 + [4] * 20] * 20, "left": []}


def test_a_file_with_random_damage_is_refused_or_usable_but_kills_nobody(tmp_path: Path) -> None:
    seen = run("fuzz", tmp_path / "arena", 2_000, 1)
    assert sum(seen.values()) == 2_000
    assert min(seen["refused"], seen["opened"], seen["with refused entries"]) > 50
