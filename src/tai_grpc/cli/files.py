"""Files that a command writes what it has found to."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def check_writable(path: Path) -> None:
    """See that `write` can, before the work that it is for; neither makes nor changes the file.

    Raises:
        OSError: it cannot.
    """
    if path.is_fifo():
        # Opened and closed, it would wait for its reader, and tell him that this was all.
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    elif path.exists():
        path.open("a").close()
    if (new := _beside(path)) is not None:
        new.open("x").close()
        new.unlink()


def write(path: Path, text: str) -> None:
    """Write all of a file, or leave the one there is as it was. What is no file, as a pipe, is written to.

    Raises:
        OSError: it cannot be written.
    """
    new = _beside(path)
    if new is None:
        path.write_text(text, encoding="utf-8")
        return
    try:
        new.write_text(text, encoding="utf-8")
        if path.exists():
            new.chmod(path.stat().st_mode)
        new.replace(path.resolve())
    except OSError:
        new.unlink(missing_ok=True)
        raise


def _beside(path: Path) -> Path | None:
    """Return what is written first, in the same folder; None: this is no file that could be replaced."""
    if path.exists() and not path.is_file():
        return None
    path = path.resolve()
    return path.with_name(f".{path.name}.{os.getpid()}")
