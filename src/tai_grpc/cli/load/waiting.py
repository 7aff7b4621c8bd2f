"""What is waited for before the first call: one line of a terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tai_grpc.load.report.text import printable


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say on stderr what takes its time while the block runs, and nothing when that is no terminal.

    The cursor stays as it is: Ctrl-C, which ends the process here, could not bring it back.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    columns = shutil.get_terminal_size().columns - 1  # a line that wraps cannot be wiped away
    _write(printable(what)[:columns])
    try:
        yield
    finally:
        _write("")


def _write(line: str) -> None:
    sys.stderr.write(f"\r\x1b[K{line}")
    sys.stderr.flush()
