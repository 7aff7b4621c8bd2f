"""The wheel: made from what is tracked and nothing else, complete, and importable where it is installed."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree, output = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    for name in filter(None, listing.stdout.split("\0")):
        if (ROOT / name).exists():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    # What a wheel must have does not depend on how well it is compiled.
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    environment = {**os.environ, "CFLAGS": "-O0"}
    subprocess.run([*command, "--wheel-dir", output, tree], check=True, timeout=300, env=environment)
    (made,) = output.glob("*.whl")
    return made


def test_it_carries_headers_stubs_and_generated_code_and_no_sources(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    package = ROOT / "src" / "tai_grpc"
    for suffix in (".pxd", ".pyi", ".py"):
        wanted = {f"tai_grpc/{path.relative_to(package)}" for path in package.rglob(f"*{suffix}")}
        tracked = {name for name in wanted if "_pb2" not in name}
        assert tracked <= names, sorted(tracked - names)
    assert "tai_grpc/py.typed" in names
    for proto in ("types", "governor", "coordinator", "scheduler"):
        for suffix in ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi"):
            assert f"tai_grpc/tai/v1/{proto}{suffix}" in names
    for source in (ROOT / "_ext").glob("*/*.pyx"):
        stem = f"tai_grpc/_ext/{source.parent.name}/{source.stem}."
        assert any(name.startswith(stem) and name.endswith(".so") for name in names), stem
    assert not [name for name in names if name.endswith((".pyx", ".c", ".proto")) or name.startswith("tests")]


def test_it_works_where_it_is_installed(wheel: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path)]
    subprocess.run([*command, str(wheel)], check=True, timeout=120)
    program = """
import tai_grpc
from tai_grpc.tai import Policy

print(tai_grpc.__file__)
assert tai_grpc.CircuitBreaker().is_call_allowed()
assert tai_grpc.GrpcServer(tai_grpc.GrpcServerConfig()) and Policy(id="p")
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        timeout=60,
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    assert ran.stdout.startswith(str(tmp_path))
