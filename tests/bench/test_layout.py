"""The rooms of the benchmarks: who imports whom, and that tests are where their subject is."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
# From the top down: a room imports itself and those below its line.
ROOMS = (
    {"__main__", "conftest"},
    {"table"},
    {"rows", "reports"},
    {"workers"},
    {"harness"},
    {"peers", "micro"},
    {"paths", "loops", "percentiles"},
)
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
TESTS = ("micro/test_", "macro/test_")
"""Of pytest-benchmark: they call what they measure, wherever it is."""


def room(module: str) -> str:
    return module.split(".")[1]


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "bench":
            found |= {f"bench.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return {module for module in found if module.startswith("bench.")}


def test_imports_run_one_way() -> None:
    wrong = []
    for path in (ROOT / "bench").rglob("*.py"):
        where = path.relative_to(ROOT / "bench").as_posix()
        own = where.partition("/")[0].removesuffix(".py")
        if not where.startswith(TESTS):
            wrong += [
                f"bench/{where} imports {module}"
                for module in imported(path)
                if room(module) != own and LEVEL[room(module)] <= LEVEL[own]
            ]
    assert wrong == []


def test_every_folder_of_tests_has_a_room_in_the_benchmarks() -> None:
    folders = {path.name for path in (ROOT / "tests" / "bench").iterdir() if path.is_dir()}
    rooms = {path.name for path in (ROOT / "bench").iterdir() if path.is_dir()}
    assert folders - {"__pycache__"} <= rooms
