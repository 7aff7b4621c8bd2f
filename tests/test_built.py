"""What a build leaves in the compiled modules."""

import os
from pathlib import Path

import pytest

import tai_grpc

MODULES = sorted((Path(tai_grpc.__file__).parent / "_ext").rglob("*.so"))


@pytest.mark.skipif("-g" in os.environ.get("CFLAGS", ""), reason="a build for a debugger was asked for")
def test_a_build_carries_no_debug_information() -> None:
    """It would be four fifths of a wheel."""
    assert MODULES
    assert [path.name for path in MODULES if b".debug_info" in path.read_bytes()] == []
