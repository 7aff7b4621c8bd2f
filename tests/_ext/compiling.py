"""Code of tests that is compiled as code outside of the package would be."""

from __future__ import annotations

import shlex
import subprocess
import sys
import sysconfig
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import tai_grpc


def compile_and_load(source: Path, folder: Path) -> Any:
    """Compile a .pyx into a folder, and return the module."""
    name = source.stem
    generated, module = folder / f"{name}.c", folder / f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}"
    interfaces = Path(tai_grpc.__file__).parents[1]
    cython = [sys.executable, "-m", "cython", f"-I{interfaces}", "-o", str(generated), str(source)]
    subprocess.run(cython, check=True)
    compiler = [*shlex.split(sysconfig.get_config_var("CC")), "-O1", "-shared", "-fPIC"]
    include = sysconfig.get_path("include")
    subprocess.run([*compiler, f"-I{include}", str(generated), "-o", str(module)], check=True)
    spec = spec_from_file_location(name, module)
    assert spec is not None
    assert spec.loader is not None
    loaded = module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded
