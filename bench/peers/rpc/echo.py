"""The generated code of bench/protos: made in build/bench when it is asked for and older than its proto."""

import sys
from importlib import import_module
from typing import Any, Final

from bench.paths import BUILD, ROOT
from bench.peers.rpc.protocol import NotBuiltError

PROTO: Final = ROOT / "bench" / "protos" / "bench_echo.proto"
SERVICE: Final = "bench.v1.Echo"

TEXT: Final = "a note of a few words, 32 bytes."
"""What every message says."""

_FOLDER: Final = BUILD / "protos"


def generate() -> None:
    """Run protoc unless what it makes is there. Not to be called by two processes at once."""
    made = [_FOLDER / f"bench_echo_pb2{kind}.py" for kind in ("", "_grpc")]
    if all(path.exists() and path.stat().st_mtime > PROTO.stat().st_mtime for path in made):
        return
    try:
        # A peer that is measured need not carry the compiler.
        from grpc_tools import protoc  # noqa: PLC0415
    except ModuleNotFoundError:
        raise NotBuiltError("no grpcio-tools here: `make bench` installs it") from None

    _FOLDER.mkdir(parents=True, exist_ok=True)
    arguments = [f"-I{PROTO.parent}", f"--python_out={_FOLDER}", f"--grpc_python_out={_FOLDER}"]
    if protoc.main(["protoc", *arguments, PROTO.name]) != 0:
        raise SystemExit("protoc failed: see its messages above")


def _generated(name: str) -> Any:
    if str(_FOLDER) not in sys.path:
        sys.path.insert(0, str(_FOLDER))
    return import_module(name)


def messages() -> Any:
    return _generated("bench_echo_pb2")


def services() -> Any:
    """Return the module of the stub and the servicer that protoc makes for grpcio."""
    return _generated("bench_echo_pb2_grpc")
