"""Files that results are written to."""

from __future__ import annotations

import os
import resource
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tai_grpc.cli.files import check_writable, write


@contextmanager
def small_files() -> Iterator[None]:
    """As on a device with little room left; for a write alone, as pytest may write to a file as well."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_check_neither_makes_nor_changes_a_file(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("old")
    check_writable(old)
    check_writable(new)
    assert list(tmp_path.iterdir()) == [old]
    assert old.read_text() == "old"


def test_a_check_finds_what_a_write_would(tmp_path: Path) -> None:
    for path, error in (
        (tmp_path / "missing" / "new", FileNotFoundError),
        (tmp_path, IsADirectoryError),
        (Path("/proc/self/new"), OSError),
    ):
        for attempt in (check_writable, lambda path: write(path, "new")):
            with pytest.raises(error):
                attempt(path)


def test_a_file_keeps_its_mode_and_its_links(tmp_path: Path) -> None:
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_text("old")
    path.chmod(0o640)
    link.symlink_to("file")
    write(link, "new")
    assert link.is_symlink()
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o640)


def test_what_does_not_fit_leaves_the_file_there_was(tmp_path: Path) -> None:
    path, other = tmp_path / "file", tmp_path / "other"
    path.write_text("old")
    for each in (path, other):
        with small_files(), pytest.raises(OSError, match="File too large"):
            write(each, "x" * 1000)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "old"


def test_a_check_of_a_named_pipe_is_not_seen_by_its_reader(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    check_writable(pipe)
    end = select.poll()
    end.register(reader, select.POLLIN)
    assert end.poll(0) == []  # else a writer has come and gone, and the reader is told that this was all
    write(pipe, "new")
    assert os.read(reader, 10) == b"new"
    os.close(reader)


def test_what_is_no_file_is_written_to_and_stays(tmp_path: Path) -> None:
    check_writable(Path("/dev/null"))
    write(Path("/dev/null"), "new")
    assert Path("/dev/null").is_char_device()
    ours, theirs = os.pipe()
    write(Path(f"/dev/fd/{theirs}"), "new")
    assert os.read(ours, 10) == b"new"
    os.close(ours)
    os.close(theirs)
