"""Engine processes, here or elsewhere: started, told, listened to, and ended for certain."""

from __future__ import annotations

import os
import queue
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, BinaryIO, Final, Self, cast

from tai_grpc.checks import check_int
from tai_grpc.errors import ConfigError
from tai_grpc.load.errors import EngineProcessError
from tai_grpc.load.frames import NoFrameError, read_frame, write_frame
from tai_grpc.load.result import Interval

LOCAL: Final = (sys.executable, "-m", "tai_grpc.cli")
"""What runs `tai-grpc` on this machine."""

MAX_PROCESSES: Final = 256

_END_SECONDS: Final = 10.0
"""How long a process may take to end once it has said its last."""


def commands(processes: int, via: Sequence[str]) -> list[list[str]]:
    """Return what starts each engine process: `processes` here, and one by each of `via`, like "ssh box".

    Raises:
        ConfigError: a number is out of its range, or what `via` says is no command.
    """
    check_int("processes", processes, 0 if via else 1, MAX_PROCESSES)
    here = [[*LOCAL, "load", "engine"]] * processes
    return here + [[*_words(each), "tai-grpc", "load", "engine"] for each in via]


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ConfigError("via", command, f"a command, as a shell takes it ({error})") from None
    if not words:
        raise ConfigError("via", command, "a command, like 'ssh box'")
    return words


Said = queue.Queue[tuple[int, Any]]
"""What processes say, each beside its number; an EOFError is the last that one says."""

MAX_WAITING: Final = 1024
"""While so much of what was said waits to be heard, intervals are dropped: they are there to be looked at."""


class EngineProcess:
    """An engine process. What it says goes into a queue; it ends with the block."""

    def __init__(self, command: Sequence[str], number: int, said: Said) -> None:
        self._command = shlex.join(command)
        self._number = number
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the user's own command
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is the coordinator's to answer
            )
        except OSError as error:
            raise EngineProcessError(f"cannot start {self._command}: {error.strerror}") from None
        self.heard = False
        """Whether anything came from it since this was last set to False."""
        self._to_tell: queue.SimpleQueue[object] = queue.SimpleQueue()
        # One that reads nothing must not hold up the others, nor one that says nothing.
        self._threads = (
            threading.Thread(target=self._listen, args=(said,), daemon=True),
            threading.Thread(target=self._speak, daemon=True),
        )
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._to_tell.put(None)
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        for thread in self._threads:
            thread.join(_END_SECONDS)  # what it has started itself may still hold the pipes

    def __str__(self) -> str:
        return f"engine process {self._number + 1} ({self._command})"

    def tell(self, what: object) -> None:
        """Have it told in its turn; nothing happens when it has ended, which the queue says too."""
        self._to_tell.put(what)

    def kill(self) -> None:
        """End it, and what it has started, at once."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def how_it_ended(self, last: object) -> str:
        """What became of one whose `last` word was this."""
        if not isinstance(last, EOFError) or isinstance(last, NoFrameError):
            return "said what no engine process says: does its command print something else?"
        with suppress(subprocess.TimeoutExpired):
            code = self._process.wait(1)
            if code >= 0:
                return f"ended with exit status {code} and without a result"
            return f"was killed by {signal.Signals(-code).name}"
        return "said nothing more and did not end"

    def _speak(self) -> None:
        with suppress(BrokenPipeError), cast(BinaryIO, self._process.stdin) as pipe:
            while (what := self._to_tell.get()) is not None:
                write_frame(pipe, what)

    def _listen(self, said: Said) -> None:
        with cast(BinaryIO, self._process.stdout) as pipe:
            try:
                while True:
                    what = read_frame(_Heard(pipe, self))
                    if said.qsize() < MAX_WAITING or not isinstance(what, Interval):
                        said.put((self._number, what))
            except EOFError as error:
                said.put((self._number, error))


class _Heard:
    """A pipe of which every piece that comes is noted: a result may take a while to come whole."""

    def __init__(self, pipe: BinaryIO, process: EngineProcess) -> None:
        self._pipe = pipe
        self._process = process

    def read(self, size: int) -> bytes:
        piece: bytes = self._pipe.read1(size)  # type: ignore[attr-defined]  # of a BufferedReader
        self._process.heard = True
        return piece
