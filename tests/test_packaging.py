"""The sdist and the wheel that is made of it: complete, and at work where the wheel is installed."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


# What a build leaves behind, and what is this checkout's alone.
MADE = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "*.so", "*_pb2*.py*", "__pycache__")
SOURCES = ("_ext", "bench", "protos", "scripts", "src", "tests")


@pytest.fixture(scope="module")
def clean_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(ROOT, tmp_path_factory.mktemp("tree") / "tree", ignore=MADE))


@pytest.fixture(scope="module")
def source_names(clean_tree: Path) -> set[str]:
    """The names of all source files, as they were before anything was built of them."""
    files = (path for folder in SOURCES for path in (clean_tree / folder).rglob("*") if path.is_file())
    return {path.relative_to(clean_tree).as_posix() for path in files}


@pytest.fixture(scope="module")
def sdist(clean_tree: Path, source_names: set[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("sdist")
    program = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    run([sys.executable, "-c", program, str(output)], cwd=clean_tree)
    (made,) = output.glob("*.tar.gz")
    return made


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    # What a wheel must have does not depend on how well it is compiled.
    run([*command, "--wheel-dir", str(output), str(sdist)], CFLAGS="-O0 -g0")
    (made,) = output.glob("*.whl")
    return made


def run(command: list[str], cwd: Path | None = None, **environment: str) -> str:
    """Run a command to its end, and return what it printed."""
    settings = {**os.environ, **environment}
    ran = subprocess.run(
        command, cwd=cwd, env=settings, capture_output=True, check=False, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_sdist_carries_all_sources_and_nothing_that_was_made(sdist: Path, source_names: set[str]) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames() if not archive.getmember(name).isdir()}
    about = {"CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "SECURITY.md"}
    assert (source_names | about | {"pyproject.toml", "setup.py"}) - names == set()
    assert {name for name in names if name.startswith(SOURCES)} - source_names <= {
        "src/tai_grpc.egg-info/SOURCES.txt"
    }


def test_the_wheel_carries_headers_stubs_and_generated_code_and_no_sources(
    wheel: Path, source_names: set[str]
) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {name.removeprefix("src/") for name in source_names if name.startswith("src/")}
    assert package - names == set()
    assert "tai_grpc/py.typed" in names
    for proto in ("types", "governor", "coordinator", "scheduler"):
        for suffix in ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi"):
            assert f"tai_grpc/tai/v1/{proto}{suffix}" in names
    compiled = {name.partition(".")[0] for name in names if name.endswith(".so")}
    assert compiled == {
        f"tai_grpc/{name.removesuffix('.pyx')}" for name in source_names if name.startswith("_ext/")
    }
    assert not [name for name in names if name.endswith((".pyx", ".c", ".proto")) or name.startswith("tests")]


def test_the_wheel_works_where_it_is_installed(wheel: Path, tmp_path: Path) -> None:
    """In a new environment, which borrows the dependencies of this one and so needs no network."""
    venv = tmp_path / "venv"
    run([sys.executable, "-m", "venv", "--without-pip", str(venv)])
    python = str(venv / "bin" / "python")
    packages = Path(run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip())
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    run([sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", str(wheel)])
    program = """
import tai_grpc
from tai_grpc.tai import Policy

assert tai_grpc.CircuitBreaker().is_call_allowed()
assert tai_grpc.GrpcServer(tai_grpc.GrpcServerConfig()) and Policy(id="p")
print(tai_grpc.__file__)
"""
    assert Path(run([python, "-I", "-c", program], cwd=tmp_path).strip()).is_relative_to(packages)
    assert "serve" in run([str(venv / "bin" / "tai-grpc"), "--help"], cwd=tmp_path)
