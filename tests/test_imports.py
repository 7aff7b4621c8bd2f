"""Imports run one way: the rooms of the house, and who may look into which."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# The rooms by rank: one may import from its own rank's room, and from any lower rank.
RANKS = (
    {"cli"},
    {"load", "server", "client"},
    {"services", "security", "observability"},
    {"stores", "resilience", "transport"},
    {"aio"},
    {"_ext.aio", "_ext.load"},
    {"_ext.http2"},
    {"_ext.primitives"},
    {"errors", "status", "config", "tai", "_version"},
)
RANK = {room: rank for rank, rooms in enumerate(RANKS) for room in rooms}
LEAVES = RANKS[-1]
# What nothing compiled knows of: the loop (but for its own room), logs, the environment, files.
FOREIGN_TO_EXT = ("asyncio", "logging", "pathlib", "io", "os.environ", "os.getenv", "os.open", "os.path")

_CIMPORT = re.compile(r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+)?c?import[ \t]+(.*)$", re.MULTILINE)


def modules(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield each module's dotted name below tai_grpc, and its file."""
    package = root / "src" / "tai_grpc"
    for path in sorted(package.rglob("*.py")):
        if not path.stem.endswith(("_pb2", "_pb2_grpc")):
            yield ".".join(path.relative_to(package).with_suffix("").parts).removesuffix(".__init__"), path
    for path in sorted([*package.rglob("*.pxd"), *package.rglob("*.pyi")]):
        if not path.stem.endswith(("_pb2", "_pb2_grpc")):
            yield ".".join(path.relative_to(package).with_suffix("").parts), path
    for path in sorted((root / "_ext").rglob("*.pyx")):
        yield ".".join(path.relative_to(root).with_suffix("").parts), path


def imported(path: Path) -> Iterator[str]:
    """Yield the dotted name of every import, those for types and those inside functions too."""
    text = path.read_text()
    if path.suffix in (".pyx", ".pxd"):
        for match in _CIMPORT.finditer(text):
            # Of names in brackets over several lines, the module tells enough.
            names = re.findall(r"[\w.]+", match[2]) or [""]
            yield from (f"{match[1]}.{name}" if match[1] else name for name in names)
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(name: str) -> str:
    parts = name.split(".")
    return ".".join(parts[:2]) if parts[0] == "_ext" and len(parts) > 1 else parts[0]


def may_import(here: str, target: str) -> bool:
    """Whether a module of the room `here` may import `target`."""
    if here.startswith("_ext."):
        foreign = any(target == name or target.startswith(f"{name}.") for name in FOREIGN_TO_EXT)
        if foreign and not (here == "_ext.aio" and target.startswith("asyncio")):
            return False
    if not target.startswith("tai_grpc."):
        return target != "tai_grpc"
    there = room(target.removeprefix("tai_grpc."))
    if there not in RANK:
        # A public name, from the front door: only the command line comes in by it.
        return here == "cli"
    return there in LEAVES or there == here or RANK[there] > RANK[here]


def violations(root: Path) -> list[str]:
    return [
        f"{name} imports {target}"
        for name, path in modules(root)
        if (here := room(name)) in RANK
        for target in imported(path)
        if not may_import(here, target)
    ]


def test_imports_run_one_way() -> None:
    assert violations(ROOT) == []


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("src/tai_grpc/stores/bad.py", "from tai_grpc.services import core"),
        ("src/tai_grpc/resilience/bad.py", "import tai_grpc.client"),
        ("src/tai_grpc/server/bad.py", "def late():\n    from tai_grpc.cli import app"),
        ("src/tai_grpc/client/bad.py", "from tai_grpc.server import GrpcServer"),
        ("src/tai_grpc/config.py", "from tai_grpc.resilience import CircuitBreaker"),
        ("src/tai_grpc/_ext/primitives/bad.pxd", "from tai_grpc._ext.http2.session cimport Session"),
        ("_ext/primitives/bad.pyx", "import asyncio"),
        ("_ext/primitives/bad.pyx", "from os import environ"),
        ("_ext/http2/bad.pyx", "from logging import getLogger"),
    ],
)
def test_an_import_the_other_way_is_found(tmp_path: Path, path: str, line: str) -> None:
    bad = tmp_path / path
    bad.parent.mkdir(parents=True)
    bad.write_text(f"{line}\n")
    assert len(violations(tmp_path)) == 1
