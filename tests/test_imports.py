"""Imports run one way, from what people call down to what stands on nothing of ours.

An import under `if TYPE_CHECKING` or inside a function counts like any other: what a module needs to be read
is a dependency too.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).parent.parent

# From the top down; a package imports itself and the packages below its line, never its neighbours.
PACKAGES = (
    {"cli"},
    {"tai_grpc"},  # its __init__, which names what is public
    {"load", "server", "client"},
    {"services", "security", "observability"},
    {"stores", "resilience", "transport"},
    {"aio"},
    {"_ext"},
    {"errors", "status", "checks", "config", "handlers", "tai", "_version"},
)
KNOWN = set.union(*PACKAGES)
LEAVES = PACKAGES[-1]
COMPILED_PACKAGES = ({"aio", "load"}, {"http2"}, {"primitives"})

LOOPS = {"asyncio", "uvloop"}
SOCKETS = {"socket", "select", "selectors", "ssl", "libc.stdio"}
OUTSIDE_WORLD = {"logging", "os", "pathlib", "io", "tempfile", "shutil", "fcntl"}
HARMLESS = {"os.urandom"}  # entropy
# Called by these names, whatever they were imported from.
OPENERS = re.compile(r"(?<![\w.])(?<!def )(open|fopen|openat|creat|getenv|secure_getenv)\(")


class Import(NamedTuple):
    line: int
    module: str
    """What is imported: a module, or a module and a name in it."""


def violations(repository: Path) -> list[str]:
    """Return a line for each import that runs the wrong way and each thing compiled code must not know."""
    found: list[str] = []
    for path, module in modules(repository):
        where = path.relative_to(repository).as_posix()
        source = path.read_text()
        imports = python_imports(source, module) if path.suffix in (".py", ".pyi") else cython_imports(source)
        for line, target in imports:
            if problem := wrong(module, target):
                found.append(f"{where}:{line}: {problem}")
        if module.startswith("tai_grpc._ext."):
            code = without_text(source)
            for call in OPENERS.finditer(code):
                line = code.count("\n", 0, call.start()) + 1
                found.append(f"{where}:{line}: compiled code may not call {call[1]}()")
    return sorted(found)


def modules(repository: Path) -> Iterator[tuple[Path, str]]:
    """Yield every source file and the name of the module that it is of."""
    source = repository / "src"
    for path in sorted(source.rglob("*")):
        generated = "_pb2" in path.name
        if path.suffix in (".py", ".pyi", ".pxd") and not generated:
            parts = path.relative_to(source).with_suffix("").parts
            # An __init__ keeps its last part, so that all modules are alike for relative imports.
            yield path, ".".join(parts)
    for path in sorted((repository / "_ext").rglob("*.py[xi]")):
        parts = path.relative_to(repository / "_ext").with_suffix("").parts
        yield path, ".".join(("tai_grpc", "_ext", *parts))


def python_imports(source: str, module: str) -> Iterator[Import]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (Import(node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: -node.level] if node.level else []
            base += node.module.split(".") if node.module else []
            yield from (Import(node.lineno, ".".join((*base, alias.name))) for alias in node.names)


STATEMENT = re.compile(
    r"^[ \t]*(?:from[ \t]+(?P<base>[\w.]+)[ \t]+c?import[ \t]*(?P<names>\([^)]*\)|[^\n]*)"
    r"|c?import[ \t]+(?P<modules>[^\n]+))",
    re.MULTILINE,
)


def cython_imports(source: str) -> Iterator[Import]:
    """Yield what is imported and cimported; imports are absolute (a relative one is of no known package)."""
    code = without_text(source)
    for statement in STATEMENT.finditer(code):
        line = code.count("\n", 0, statement.start()) + 1
        base = f"{statement['base']}." if statement["base"] else ""
        for clause in (statement["names"] or statement["modules"]).strip("()\n ").split(","):
            if name := clause.split(" as ")[0].strip():
                yield Import(line, base + name)


TEXT = re.compile(r'"""[\s\S]*?"""|\'\'\'[\s\S]*?\'\'\'|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|#[^\n]*')


def without_text(source: str) -> str:
    """Return the source with strings and comments taken out and every line in its place."""
    return TEXT.sub(lambda text: '""' + "\n" * text[0].count("\n"), source)


def wrong(module: str, target: str) -> str:
    """Say what is wrong with an import, "" when nothing is."""
    package, compiled_package = place(module)
    if package not in KNOWN:
        return f"{package} is not one of the packages"
    if target == "tai_grpc" or target.startswith(("tai_grpc.", ".")):
        return wrong_way(package, compiled_package, target)
    if package == "_ext" and compiled_package:
        return wrong_outside(compiled_package, target)
    return ""


def place(module: str) -> tuple[str, str]:
    """Return the package of a module, and the package within `_ext`."""
    _, package, compiled_package, *_ = (*module.split("."), "", "")
    if package in ("", "__init__"):
        package = "tai_grpc"
    return package, compiled_package if package == "_ext" and compiled_package != "__init__" else ""


def wrong_way(package: str, compiled_package: str, target: str) -> str:
    its_package, its_compiled_package = place(target)
    if its_package not in KNOWN:
        its_package = "tai_grpc"  # a public name
    below = (
        rank(PACKAGES, its_package) > rank(PACKAGES, package)
        or its_package == package
        or {package, its_package} <= LEAVES
    )
    if not below:
        return f"{package} may not import {target}"
    within = package == its_package == "_ext" and compiled_package != its_compiled_package
    if within and rank(COMPILED_PACKAGES, its_compiled_package) <= rank(COMPILED_PACKAGES, compiled_package):
        return f"_ext/{compiled_package} may not import {target}"
    return ""


def rank(packages: tuple[set[str], ...], package: str) -> int:
    """Return how far down a package is; `_ext` itself is above the packages in it."""
    return next((floor for floor, neighbours in enumerate(packages) if package in neighbours), -1)


def wrong_outside(compiled_package: str, target: str) -> str:
    forbidden = set(OUTSIDE_WORLD)
    if compiled_package != "aio":
        forbidden |= LOOPS
    if compiled_package in ("http2", "primitives"):
        forbidden |= SOCKETS
    known = any(target == name or target.startswith(f"{name}.") for name in forbidden)
    return f"_ext/{compiled_package} may not import {target}" if known and target not in HARMLESS else ""


def test_imports_run_one_way() -> None:
    assert violations(REPOSITORY) == []


def test_the_files_that_must_obey_are_found() -> None:
    """Nothing would be wrong either if nothing were read."""
    found = {module for _, module in modules(REPOSITORY)}
    assert {"tai_grpc.__init__", "tai_grpc.config", "tai_grpc.stores.memory"} <= found
    name = "tai_grpc._ext.primitives.breaker"
    kinds = {path.suffix for path, module in modules(REPOSITORY) if module == name}
    assert kinds == {".pyx", ".pxd", ".pyi"}
    breaker = (REPOSITORY / "_ext/primitives/breaker.pyx").read_text()
    assert "tai_grpc._ext.primitives.clock.monotonic_ns" in {target for _, target in cython_imports(breaker)}


ALLOWED = {
    "src/tai_grpc/__init__.py": "from tai_grpc.server import GrpcServer\nimport tai_grpc._ext\n",
    "src/tai_grpc/cli/serve.py": "from tai_grpc import tai, config, GrpcServer\nimport tai_grpc.server\n",
    "src/tai_grpc/cli/__init__.py": "from .serve import main\nfrom .. import client\n",
    "src/tai_grpc/client/layers.py": "import os, logging\nfrom tai_grpc._ext.primitives import breaker\n",
    "src/tai_grpc/status.py": "from tai_grpc.errors import TaiGrpcError\n",
    "src/tai_grpc/tai/v1/types_pb2.py": "import tai_grpc.cli\n",
    "src/tai_grpc/_ext/primitives/clock.pxd": "from libc.stdint cimport int64_t\n",
    "src/tai_grpc/_ext/__init__.py": "",
    "_ext/primitives/clock.pyx": (
        '"""\nimport asyncio\n"""\nfrom os import urandom\n# import logging\ncdef void force_open(): pass\n'
        "    def open(self): return self.open('import os')\n"
    ),
    "_ext/http2/session.pyx": "from tai_grpc._ext.primitives.clock cimport (\n    monotonic_ns,\n)\n",
    "_ext/aio/server.pyx": "import asyncio, socket\nfrom tai_grpc._ext.http2.session cimport Session\n",
    "_ext/load/engine.pyx": "from posix.unistd cimport read\nfrom tai_grpc._ext.http2 cimport session\n",
}

FORBIDDEN = {
    ("src/tai_grpc/stores/memory.py", "import json\nfrom tai_grpc.services import core\n"): (
        "2: stores may not import tai_grpc.services.core"
    ),
    ("src/tai_grpc/__init__.py", "from tai_grpc.cli import main\n"): (
        "1: tai_grpc may not import tai_grpc.cli.main"
    ),
    ("src/tai_grpc/client/a.py", "from tai_grpc.server import GrpcServer\n"): (
        "1: client may not import tai_grpc.server.GrpcServer"
    ),
    ("src/tai_grpc/server/a.py", "import tai_grpc\n"): "1: server may not import tai_grpc",
    ("src/tai_grpc/server/b.py", "from tai_grpc import GrpcClient\n"): (
        "1: server may not import tai_grpc.GrpcClient"
    ),
    ("src/tai_grpc/stores/a.py", "from .. import services\n"): "1: stores may not import tai_grpc.services",
    ("src/tai_grpc/stores/b.py", "from ..services.core import Core\n"): (
        "1: stores may not import tai_grpc.services.core.Core"
    ),
    ("src/tai_grpc/stores/deep/__init__.py", "from ...cli import main\n"): (
        "1: stores may not import tai_grpc.cli.main"
    ),
    ("src/tai_grpc/transport/a.py", "if TYPE_CHECKING:\n    import tai_grpc.client.layers\n"): (
        "2: transport may not import tai_grpc.client.layers"
    ),
    ("src/tai_grpc/config.py", "def f():\n    from tai_grpc.resilience import timeout\n"): (
        "2: config may not import tai_grpc.resilience.timeout"
    ),
    ("src/tai_grpc/attic/a.py", "import json\n"): "1: attic is not one of the packages",
    ("src/tai_grpc/_ext/primitives/a.pyi", "from tai_grpc.aio import x\n"): (
        "1: _ext may not import tai_grpc.aio.x"
    ),
    ("src/tai_grpc/_ext/http2/a.pxd", "cimport tai_grpc._ext.aio.server as server\n"): (
        "1: _ext/http2 may not import tai_grpc._ext.aio.server"
    ),
    ("_ext/primitives/a.pyx", "from tai_grpc._ext.http2 cimport (\n    session,\n)\n"): (
        "1: _ext/primitives may not import tai_grpc._ext.http2.session"
    ),
    ("_ext/aio/a.pyx", "from tai_grpc._ext.load.engine cimport Engine\n"): (
        "1: _ext/aio may not import tai_grpc._ext.load.engine.Engine"
    ),
    ("_ext/primitives/b.pyx", '"""\nA clock.\n"""\nfrom .clock cimport monotonic_ns\n'): (
        "4: _ext may not import .clock.monotonic_ns"
    ),
    ("_ext/primitives/c.pyx", "import asyncio\n"): "1: _ext/primitives may not import asyncio",
    ("_ext/http2/b.pyx", "import numpy, socket\n"): "1: _ext/http2 may not import socket",
    ("_ext/load/a.pyx", "cdef f():\n    from asyncio import sleep\n"): (
        "2: _ext/load may not import asyncio.sleep"
    ),
    ("_ext/aio/b.pyx", "from logging import getLogger\n"): "1: _ext/aio may not import logging.getLogger",
    ("_ext/primitives/d.pyx", "from os import environ\n"): "1: _ext/primitives may not import os.environ",
    ("_ext/primitives/e.pyx", "def f(path):\n    with open(path): pass\n"): (
        "2: compiled code may not call open()"
    ),
    ("_ext/aio/c.pyx", "x = getenv('HOME')\n"): "1: compiled code may not call getenv()",
}


def write(repository: Path, files: dict[str, str]) -> None:
    for name, source in files.items():
        path = repository / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)


def test_what_runs_the_right_way_is_let_through(tmp_path: Path) -> None:
    write(tmp_path, ALLOWED)
    assert violations(tmp_path) == []


@pytest.mark.parametrize(("file", "problem"), FORBIDDEN.items(), ids=[name for name, _ in FORBIDDEN])
def test_what_runs_the_wrong_way_is_caught(tmp_path: Path, file: tuple[str, str], problem: str) -> None:
    name, source = file
    write(tmp_path, {**ALLOWED, name: source})
    assert violations(tmp_path) == [f"{name}:{problem}"]
