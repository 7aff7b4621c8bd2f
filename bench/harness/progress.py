"""How far a run is: one line of a terminal."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Mapping
from typing import TextIO


class Progress:
    """Written over and over: the time it has taken, about what is left, and what is measured now.

    Nothing is written where nobody looks. `expected` has how many seconds each part of the run takes on the
    machine where that was found out; the parts that have ended tell how much slower this one is.
    """

    def __init__(
        self,
        expected: Mapping[str, float],
        stream: TextIO | None = sys.stderr,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._left = dict(expected)
        self._terminal = stream if stream is not None and stream.isatty() else None
        self._clock = clock
        self._start = self._part_start = clock()
        self.part = ""
        """What is measured now."""
        self._done = 0.0

    @property
    def seconds(self) -> float:
        return self._clock() - self._start

    @property
    def remaining(self) -> float:
        """About how many seconds the rest takes."""
        now = self._clock()
        pace = (self._part_start - self._start) / self._done if self._done else 1.0
        left = sum(self._left.values()) * pace
        spent = min(now - self._part_start, self._left.get(self.part, 0.0) * pace)
        return left - spent

    def begin(self, part: str) -> None:
        """Say that a part begins, and that the one before has ended."""
        self._done += self._left.pop(self.part, 0.0)
        self.part, self._part_start = part, self._clock()

    def show(self, what: str) -> None:
        if self._terminal is not None:
            line = f"{self.seconds:4.0f} s, about {self.remaining:.0f} s left  {what}"
            columns = shutil.get_terminal_size().columns - 1  # a line that wraps cannot be written over
            self._terminal.write(f"\r\x1b[K{line[:columns]}")
            self._terminal.flush()

    def clear(self) -> None:
        if self._terminal is not None:
            self._terminal.write("\r\x1b[K")
            self._terminal.flush()
