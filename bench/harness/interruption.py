"""Ctrl-C and SIGTERM during a run."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Final, Self

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Has the first of them raise KeyboardInterrupt in its block, and ignores those that follow.

    What a run has started takes a moment to end, which somebody who waits must not turn into processes that
    are left behind. One that is ignored from the start stays so.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        """The signal's; None: there was none."""
        self._over = False
        self._before = {each: signal.getsignal(each) for each in _SIGNALS}

    def __enter__(self) -> Self:
        for each, before in self._before.items():
            if before is not signal.SIG_IGN:
                signal.signal(each, self._interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        for each, before in self._before.items():
            signal.signal(each, before)

    def no_more(self) -> None:
        """Ignore them until the block ends."""
        self._over = True
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._over:
            return  # it came before it could be ignored
        self.number = number
        self.no_more()
        raise KeyboardInterrupt
