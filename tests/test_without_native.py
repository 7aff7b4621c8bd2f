"""A build without nghttp2: all but the native transport works, and what is missing says how to get it."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import Any

import pytest
import setuptools

ROOT = Path(__file__).parents[1]
NATIVE = ("aio", "http2", "load")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as it is where its native modules were not built."""
    where = tmp_path_factory.mktemp("without")
    compiled = {
        f"{path.name}" for room in NATIVE for path in (ROOT / "src/tai_grpc/_ext" / room).glob("*.so")
    }
    assert compiled
    others = {path.name for path in (ROOT / "src/tai_grpc/_ext/primitives").glob("*.so")}
    assert not compiled & others
    copytree(
        ROOT / "src",
        where / "src",
        ignore=ignore_patterns(*compiled, "__pycache__"),
        copy_function=os.symlink,
    )
    return where / "src"


def run(package: Path, program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**os.environ, "PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_client_and_server_are_grpcios(package: Path) -> None:
    program = """
import asyncio
import sys
import tai_grpc as tg
from tai_grpc.tai import HealthCheckRequest

async def main():
    async with tg.GrpcServer(tg.GrpcServerConfig(listen="127.0.0.1:0")) as server:
        config = tg.GrpcClientConfig(server_addresses=[server.address])
        async with tg.GrpcClient(config) as client:
            print((await client.governor.health_check(HealthCheckRequest())).status)
        with tg.BlockingGrpcClient(config) as client:
            print((await asyncio.to_thread(client.governor.health_check, HealthCheckRequest())).status)

asyncio.run(main())
assert not [name for name in sys.modules if name.startswith(("tai_grpc._ext.aio.", "tai_grpc._ext.http2."))]
"""
    ran = run(package, program)
    assert (ran.stdout, ran.stderr) == ("healthy\nhealthy\n", "")


def test_importing_what_is_missing_says_why_and_how_to_get_it(package: Path) -> None:
    ran = run(package, "from tai_grpc import aio")
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1] == (
        "ImportError: tai_grpc.aio: this build of tai-grpc is without the native transport; install"
        " libnghttp2-dev (Debian) or nghttp2-devel (Fedora) and pkg-config, and build it again with"
        " TAI_GRPC_NATIVE=yes"
    )


@pytest.mark.parametrize(
    "asks",
    [
        "tg.GrpcClient(tg.GrpcClientConfig(transport='native'))",
        "asyncio.run(tg.GrpcServer(tg.GrpcServerConfig(transport='native')).start())",
    ],
)
def test_asking_for_it_by_name_is_refused(package: Path, asks: str) -> None:
    ran = run(package, f"import asyncio, tai_grpc as tg; {asks}")
    assert ran.stderr.splitlines()[-1].startswith(
        "tai_grpc.errors.ConfigError: transport='native': expected 'grpcio' in this build"
    )


def test_the_command_line_says_so_too(package: Path) -> None:
    program = "import sys; from tai_grpc.cli import main; sys.argv[1:] = {!r}; main()"
    for arguments in (
        ["serve"],
        ["call", "127.0.0.1:1", "a.B/C"],
    ):
        ran = run(package, program.format([*arguments, "--transport", "native"]))
        assert (ran.returncode, len(ran.stderr.splitlines())) == (2, 1)
        assert ran.stderr.startswith("tai-grpc: transport='native': expected 'grpcio' in this build")


def test_load_says_what_it_needs(package: Path) -> None:
    program = (
        "import sys; from tai_grpc.cli import main; sys.argv[1:] = ['load', 'a:1', '--call', 'a.B/C']; main()"
    )
    ran = run(package, program)
    assert (ran.returncode, len(ran.stderr.splitlines())) == (1, 1)
    assert ran.stderr.startswith(
        "tai-grpc: this build of tai-grpc is without the load engine: install libnghttp2"
    )


def built(monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str]) -> set[str]:
    """Run setup.py up to where compiling would begin; return the rooms of what it would compile."""
    made: list[Any] = []
    monkeypatch.setattr(setuptools, "setup", lambda *, ext_modules, **_: made.extend(ext_modules))
    monkeypatch.chdir(ROOT)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    runpy.run_path(str(ROOT / "setup.py"), run_name="__main__")
    return {extension.name.split(".")[2] for extension in made}


NOWHERE = {"PATH": "/nowhere", "PKG_CONFIG_PATH": "/nowhere"}


def test_a_build_that_must_have_it_fails_without_nghttp2(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="TAI_GRPC_NATIVE=yes, and pkg-config finds no libnghttp2: install"):
        built(monkeypatch, {**NOWHERE, "TAI_GRPC_NATIVE": "yes"})


def test_a_build_takes_it_where_it_is_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert built(monkeypatch, {"TAI_GRPC_NATIVE": "no"}) == {"primitives"}
    assert built(monkeypatch, {"TAI_GRPC_NATIVE": "auto"}) >= {"primitives", *NATIVE}
    assert not capsys.readouterr().out
    assert built(monkeypatch, {**NOWHERE, "TAI_GRPC_NATIVE": "auto"}) == {"primitives"}
    assert "building without the native transport" in capsys.readouterr().out


@pytest.fixture
def without_openssl(tmp_path: Path) -> dict[str, str]:
    """Where pkg-config finds nghttp2 and nothing else."""
    where = subprocess.run(
        ["pkg-config", "--variable=pcfiledir", "libnghttp2"], check=True, capture_output=True, text=True
    ).stdout.strip()
    (tmp_path / "libnghttp2.pc").symlink_to(Path(where) / "libnghttp2.pc")
    return {"PKG_CONFIG_LIBDIR": str(tmp_path), "PKG_CONFIG_PATH": str(tmp_path)}


def test_without_openssl_there_is_no_load_engine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], without_openssl: dict[str, str]
) -> None:
    rooms = built(monkeypatch, {**without_openssl, "TAI_GRPC_NATIVE": "auto"})
    assert rooms == {"primitives", "http2", "aio"}
    assert "OpenSSL 3 was not found: building without the load engine" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"pkg-config finds no openssl from 3\.0: install libssl-dev"):
        built(monkeypatch, {**without_openssl, "TAI_GRPC_NATIVE": "yes"})


def test_only_linux_has_the_load_engine(
    monkeypatch: pytest.MonkeyPatch, without_openssl: dict[str, str]
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    rooms = built(monkeypatch, {**without_openssl, "TAI_GRPC_NATIVE": "yes"})
    assert rooms == {"primitives", "http2", "aio"}


def test_another_wish_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="TAI_GRPC_NATIVE is 'maybe': it takes yes, no or auto"):
        built(monkeypatch, {"TAI_GRPC_NATIVE": "maybe"})
