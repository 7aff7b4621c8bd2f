"""What the figures were taken on and of, and how much of the machine others took meanwhile."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import resource
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Final

from bench.paths import RESULTS, ROOT
from tai_grpc._ext.primitives import breaker

_TICKS: Final = os.sysconf("SC_CLK_TCK")


def machine() -> dict[str, Any]:
    cpus = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in cpus if line.startswith("model name")), "")
    return {
        "cpu": model or platform.machine(),
        "cpu_count": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "commit": _said("git", "rev-parse", "--short=12", "HEAD"),
        "changed": _changed(),
        "compiled": _compiled(),
    }


def tools() -> dict[str, str]:
    """Return the versions of libraries and compilers that no package tells, as far as they are here."""
    found = {
        "nghttp2": _nghttp2(),
        "OpenSSL": _openssl(),
        "rustc": _said("rustc", "--version").removeprefix("rustc ").partition(" ")[0],
        "go": _said("go", "env", "GOVERSION").removeprefix("go"),
    }
    return {name: version for name, version in found.items() if version}


def _said(*command: str) -> str:
    """Return what a program says here in one line, "" when it is missing or fails."""
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def _changed() -> bool | None:
    """Return whether the checkout differs from its commit, apart from the results; None when it has none."""
    if not _said("git", "rev-parse", "HEAD"):
        return None
    return bool(_said("git", "status", "--porcelain", "--", ".", f":!{RESULTS.relative_to(ROOT)}"))


def _compiled() -> str:
    """Return which compiler made our modules with which options: it leaves that for debuggers."""
    made = re.search(rb"GNU C\d* [^\0]+|clang version [^\0]+", Path(breaker.__file__).read_bytes())
    return made[0].decode(errors="replace") if made else "by a compiler that does not say"


def _nghttp2() -> str:
    try:
        from tai_grpc._ext.http2 import session  # noqa: F401, PLC0415  # loads it, where it is built
    except ImportError:
        return ""
    library = _loaded("libnghttp2")

    class Info(ctypes.Structure):
        _fields_ = (("age", ctypes.c_int), ("number", ctypes.c_int), ("text", ctypes.c_char_p))

    if library is None:
        return ""
    library.nghttp2_version.restype = ctypes.POINTER(Info)
    return str(library.nghttp2_version(0).contents.text.decode())


def _openssl() -> str:
    try:
        from tai_grpc._ext.load import tls  # noqa: F401, PLC0415
    except ImportError:
        return ""
    library = _loaded("libcrypto")
    if library is None:
        return ""
    library.OpenSSL_version.restype = ctypes.c_char_p
    return str(library.OpenSSL_version(0).decode().removeprefix("OpenSSL ").partition(" ")[0])


def _loaded(name: str) -> ctypes.CDLL | None:
    """Return a library that this process has loaded."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.split(maxsplit=5)[-1]
        if Path(path).name.startswith(name):
            return ctypes.CDLL(path)
    return None


class Others:
    """What processes that are not the run's took of the CPUs. To be asked when the run's own have ended."""

    def __init__(self) -> None:
        self._start, self._busy, self._own = time.monotonic(), _busy_seconds(), _own_seconds()

    def share(self) -> float:
        """Return it as a part of all CPUs, 0 to 1."""
        took = time.monotonic() - self._start
        others = _busy_seconds() - self._busy - (_own_seconds() - self._own)
        return min(1.0, max(0.0, others / took / (os.cpu_count() or 1)))


def _busy_seconds() -> float:
    user, nice, system, _idle, _wait, irq, softirq, steal = (
        int(field) for field in Path("/proc/stat").read_text().split(maxsplit=9)[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / _TICKS


def _own_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)
