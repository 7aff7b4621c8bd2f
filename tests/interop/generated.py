"""The code that protoc makes of protos/."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from grpc_tools import protoc

NAMES = ("protos.empty_pb2", "protos.messages_pb2", "protos.test_pb2", "protos.test_pb2_grpc")


class Generated(NamedTuple):
    empty: ModuleType
    messages: ModuleType
    services: ModuleType


@contextmanager
def generated(folder: Path) -> Iterator[Generated]:
    """Generate into `folder`, which is on Python's path until the block ends."""
    here = Path(__file__).parent
    sources = [f"protos/{path.name}" for path in sorted((here / "protos").glob("*.proto"))]
    arguments = [f"-I{here}", f"--python_out={folder}", f"--grpc_python_out={folder}"]
    assert protoc.main(["protoc", *arguments, *sources]) == 0
    sys.path.insert(0, str(folder))
    try:
        empty, messages, _, services = (importlib.import_module(name) for name in NAMES)
        yield Generated(empty, messages, services)
    finally:
        sys.path.remove(str(folder))
        for name in ("protos", *NAMES):
            sys.modules.pop(name, None)  # another folder of tests may have them, and be done already
