"""What pyproject.toml cannot say: the compiled modules, and the code generated from protos/."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import grpc_tools
from Cython.Build import cythonize
from grpc_tools import protoc
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
PROTOS = sorted(Path("protos/tai/v1").glob("*.proto"))
GENERATED = Path("src/tai_grpc/tai/v1")
CYTHON_BUILD = Path("build/cython")

SANITIZE = os.environ.get("TAI_GRPC_SANITIZE")
"""The compiler's sanitizers, as -fsanitize takes them: a build that stops at the first wrong access."""

CFLAGS = os.environ.get("CFLAGS", "").split()
"""What whoever builds asks for. It comes before our own flags, so these must not take it back."""

OPTIMIZE = ["-fno-semantic-interposition"]
if not any(flag.startswith("-O") for flag in CFLAGS):
    OPTIMIZE.append("-O3")
if not any(flag.startswith("-g") for flag in CFLAGS):
    OPTIMIZE.append("-g0")  # Python's own flags have -g, which makes a wheel five times as large
if SANITIZE:
    # -fno-wrapv: Python's own flags define what an overflow gives; here it is an error.
    OPTIMIZE = ["-O1", "-g", "-fno-omit-frame-pointer", "-fno-wrapv"]
    OPTIMIZE += [f"-fsanitize={SANITIZE}", "-fno-sanitize-recover=all"]


NATIVE_FOLDERS = {"http2", "aio", "load"}
"""The folders of _ext that stand on nghttp2: the transport, and the load engine, on OpenSSL as well."""

CONSTRUCTOR = re.compile(r"(?ms)^static int __pyx_pw_\w+?\d+([A-Za-z]+)_\d+(__c?init__)\(.*?^}")
"""In C code by Cython: what takes the arguments of a class, by its name and that of its constructor."""

LIMITS_OF_SOME = ("stream_reset_rate_limit", "max_continuations", "glitch_rate_limit")
"""Options of nghttp2 that not every build of it has, whatever its version says."""


def native_libraries() -> dict[str, tuple[list[str], list[str]]]:
    """Return what compiler and linker need for each of the native folders that is built.

    TAI_GRPC_NATIVE says which: `yes` fails without nghttp2 or OpenSSL, `no` does not look for them,
    `auto` (or nothing) takes what is there. The load engine is for Linux alone.
    """
    wanted = os.environ.get("TAI_GRPC_NATIVE", "auto")
    if wanted not in ("yes", "no", "auto"):
        raise SystemExit(f"TAI_GRPC_NATIVE is {wanted!r}: it takes yes, no or auto")
    if wanted == "no":
        return {}
    nghttp2 = found("libnghttp2")
    if nghttp2 is None:
        if wanted == "auto":
            print("nghttp2 was not found: building without the native transport")
            return {}
        raise SystemExit(
            "TAI_GRPC_NATIVE=yes, and pkg-config finds no libnghttp2: install libnghttp2-dev (Debian) or "
            "nghttp2-devel (Fedora), with pkg-config"
        )
    folders = {"http2": nghttp2, "aio": nghttp2}
    if sys.platform != "linux":
        return folders
    openssl = found("openssl >= 3.0")
    if openssl is not None:
        folders["load"] = (nghttp2[0] + openssl[0], nghttp2[1] + openssl[1])
    elif wanted == "auto":
        print("OpenSSL 3 was not found: building without the load engine")
    else:
        raise SystemExit(
            "TAI_GRPC_NATIVE=yes, and pkg-config finds no openssl from 3.0: install libssl-dev (Debian) or "
            "openssl-devel (Fedora), with pkg-config"
        )
    return folders


def found(library: str) -> tuple[list[str], list[str]] | None:
    """Return what pkg-config says of a library; None when there is none."""
    try:
        flags = [
            subprocess.run(  # noqa: S603 - the arguments are these
                ["pkg-config", kind, library],  # noqa: S607 - where it lies is the system's matter
                check=True,
                capture_output=True,
                text=True,
            ).stdout.split()
            for kind in ("--cflags", "--libs")
        ]
    except (OSError, subprocess.CalledProcessError):
        return None
    return flags[0], flags[1]


def extensions() -> list[Extension]:
    """One extension for each _ext/FOLDER/NAME.pyx, declared by src/tai_grpc/_ext/FOLDER/NAME.pxd."""
    native = native_libraries()
    made = []
    for source in sorted(Path("_ext").glob("*/*.pyx")):
        compile_args = [*OPTIMIZE, "-Wno-unreachable-code"]
        link_args = [f"-fsanitize={SANITIZE}"] if SANITIZE else []
        if source.parent.name in NATIVE_FOLDERS:
            if source.parent.name not in native:
                continue
            compile_args += native[source.parent.name][0]
            link_args += native[source.parent.name][1]
        made.append(
            Extension(
                f"tai_grpc._ext.{source.parent.name}.{source.stem}",
                [source.as_posix()],
                extra_compile_args=compile_args,
                extra_link_args=link_args,
            )
        )
    return made


def _forget_outdated(source: Path) -> None:
    """Remove the C code of a module whose own declaration has changed: Cython asks only what it cimports."""
    generated = CYTHON_BUILD / source.with_suffix(".c")
    declaration = Path("src/tai_grpc", source.with_suffix(".pxd"))
    if generated.exists() and declaration.stat().st_mtime > generated.stat().st_mtime:
        generated.unlink()


def name_constructors(modules: list[Extension]) -> list[Extension]:
    """Have errors about a constructor's arguments name the class, as Python's own do, and not `__cinit__`.

    Cython names the method. What takes its arguments has that name as a C string for this alone.
    """
    for source in (Path(source) for module in modules for source in module.sources):
        code = source.read_text()
        named = CONSTRUCTOR.sub(lambda found: found[0].replace(f'"{found[2]}"', f'"{found[1]}"'), code)
        if named != code:
            source.write_text(named)
    return modules


def generate_protos() -> None:
    """Generate messages, stubs and their types; protoc's `tai.v1` imports become `tai_grpc.tai.v1`."""
    search_path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
    plugins = []
    for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc"):
        if (plugin := shutil.which(name, path=search_path)) is None:
            raise SystemExit(f"{name} not found: pip install mypy-protobuf")
        plugins.append(f"--plugin={name}={plugin}")
    output = ROOT / "build" / "protos"
    output.mkdir(parents=True, exist_ok=True)
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    outputs = [f"--{kind}_out={output}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    sources = [path.as_posix() for path in PROTOS]
    if protoc.main(["protoc", "-Iprotos", f"-I{well_known}", *plugins, *outputs, *sources]) != 0:
        raise SystemExit("protoc failed: see its messages above")
    for path in sorted((output / "tai" / "v1").glob("*_pb2*.py*")):
        text = re.sub(r"(?m)^(from|import) tai\.v1\b", r"\1 tai_grpc.tai.v1", path.read_text())
        target = ROOT / GENERATED / path.name
        if not target.exists() or target.read_text() != text:
            target.write_text(text)


class BuildPy(build_py):
    def run(self) -> None:
        generate_protos()
        super().run()


class BuildExt(build_ext):
    """Generates the C code only when it is to be compiled: an sdist and a query of the metadata need none."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extensions(self) -> None:
        self._generate()
        native = [each for each in self.extensions if each.name.split(".")[2] in NATIVE_FOLDERS]
        if native:
            macros = [
                (f"TAI_HAVE_{name.removeprefix('stream_').upper()}", "1")
                for name in LIMITS_OF_SOME
                if self.compiler.has_function(f"nghttp2_option_set_{name}", libraries=["nghttp2"])
            ]
            for extension in native:
                extension.define_macros += macros
        super().build_extensions()

    def _generate(self) -> None:
        for extension in self.extensions:
            _forget_outdated(Path(extension.sources[0]))
        generated = name_constructors(
            cythonize(
                self.extensions,
                nthreads=self.parallel,
                include_path=["src"],
                build_dir=CYTHON_BUILD.as_posix(),
            )
        )
        sources = {each.name: each.sources for each in generated}
        for extension in self.extensions:
            extension.sources = sources[extension.name]


if __name__ == "__main__":  # which a process that generates code is not
    os.chdir(ROOT)
    setup(ext_modules=extensions(), cmdclass={"build_py": BuildPy, "build_ext": BuildExt})
