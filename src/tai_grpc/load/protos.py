"""Descriptors from files: protosets, and .proto files, which a compiler reads."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import DecodeError

from tai_grpc.load.descriptors import Declared, build_pool, services_of
from tai_grpc.load.errors import RequestError
from tai_grpc.load.payload import one_line

MAX_PROTOSET_BYTES: Final = 64 * 1024 * 1024
COMPILE_TIMEOUT: Final = 60.0
_ERROR: Final = re.compile(r".+?(:\d+:\d+: (?!warning: )|: File not found)")


def read_protoset(path: Path) -> Declared:
    """Return what a FileDescriptorSet holds: `protoc --include_imports --descriptor_set_out=FILE` makes one.

    Raises:
        RequestError: the file cannot be read, is none, or lacks what its files import.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PROTOSET_BYTES + 1)
    except OSError as error:
        raise RequestError(f"protoset: cannot read {path}: {error.strerror}") from None
    if len(data) > MAX_PROTOSET_BYTES:
        raise RequestError(f"protoset: {path} is larger than {MAX_PROTOSET_BYTES >> 20} MiB")
    return _pool(data, f"protoset: {path}")


def compile_proto(path: Path, import_paths: Sequence[Path] = ()) -> Declared:
    """Return what a .proto file and its imports declare.

    Imports are looked for in `import_paths`, the file's own folder and the working directory.

    Raises:
        RequestError: there is no compiler, the file cannot be read, or the compiler refuses it.
    """
    if not path.is_file():
        raise RequestError(f"proto: no file {path}")
    folders = [folder for folder in (*import_paths, path.parent, Path()) if folder.is_dir()]
    if missing := [str(folder) for folder in import_paths if folder not in folders]:
        raise RequestError(f"import-paths: no folder {missing[0]}")
    with tempfile.TemporaryDirectory(prefix="tai-grpc-") as scratch:
        target = Path(scratch, "set.binpb")
        command = [
            *_compiler(),
            *(f"--proto_path={folder}" for folder in dict.fromkeys(folders)),
            "--include_imports",
            f"--descriptor_set_out={target}",
            str(path),
        ]
        try:
            done = subprocess.run(  # noqa: S603 - the compiler, with the user's own files
                command, capture_output=True, timeout=COMPILE_TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired:
            raise RequestError(f"proto: {path} is not compiled within {COMPILE_TIMEOUT:g} s") from None
        except OSError as error:
            raise RequestError(f"proto: cannot run {command[0]}: {error.strerror}") from None
        if done.returncode:
            raise RequestError(f"proto: {_errors(done.stderr.decode(errors='replace'))}")
        return _pool(target.read_bytes(), f"proto: {path}")


def _errors(said: str) -> str:
    """What a compiler says of a file, without its warnings and what it says of itself."""
    lines = said.splitlines()
    return one_line(" ".join([line for line in lines if _ERROR.match(line)] or lines))


def _compiler() -> list[str]:
    if find_spec("grpc_tools") is not None:
        return [sys.executable, "-P", "-W", "ignore", "-m", "grpc_tools.protoc"]
    if (found := shutil.which("protoc")) is not None:
        return [found]
    raise RequestError(
        "proto: there is no compiler: pip install 'tai-grpc[proto]', or install protoc; "
        "or give --protoset, or a server with reflection"
    )


def _pool(data: bytes, whose: str) -> Declared:
    try:
        found = FileDescriptorSet.FromString(data)
    except DecodeError:
        raise RequestError(f"{whose} is no FileDescriptorSet") from None
    if not found.file:
        raise RequestError(f"{whose} holds no file")
    pool = build_pool({file.name: file for file in found.file}, f"{whose}: its descriptors")
    return Declared(pool, services_of(found.file))
