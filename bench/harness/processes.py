"""The processes of a run: peers in their roles and h2load, each where the plan says, ended with the run."""

from __future__ import annotations

import json
import os
import re
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal

from bench.paths import LOGS, ROOT
from bench.peers.rpc.protocol import NotBuiltError

_ALLOWED: Final = sorted(os.sched_getaffinity(0))
SERVERS: Final = _ALLOWED[0]
"""The CPU that servers run on."""
CLIENTS: Final = _ALLOWED[-1]
"""The CPU that clients and h2load run on; the last one, as the first two may be threads of one core."""

START_SECONDS: Final = 30.0
ANSWER_SECONDS: Final = 120.0
END_SECONDS: Final = 5.0
LINE_BYTES: Final = 1 << 20
"""More than this without an end of line is no answer."""
_QUOTED: Final = 300
"""How many characters of a log or a line an error has at most."""


class PeerFailedError(Exception):
    """A peer's process ended, did not answer in time, or answered with what is no answer."""


@contextmanager
def on(cpu: int) -> Iterator[None]:
    """Have what is started in the block run on this CPU alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Process:
    """Answers lines with lines of JSON; what it says on standard error is in build/bench/logs.

    One that fails because the process that it `needs` has ended is not blamed for it: that one is.

    Raises:
        PeerFailedError: it cannot be started.
    """

    def __init__(self, name: str, command: Sequence[str], cpu: int, needs: Process | None = None) -> None:
        self.name = name
        self.port = 0
        """Where it listens, if it is a server."""
        self._needs = needs
        self.versions: Mapping[str, str] = {}
        LOGS.mkdir(parents=True, exist_ok=True)
        self._log = LOGS / f"{name.replace(' ', '-')}.log"
        with on(cpu), self._log.open("wb") as log:
            try:
                self._process = subprocess.Popen(
                    command,
                    cwd=ROOT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    process_group=0,  # Ctrl-C on the terminal ends the run, which then ends this
                )
            except OSError as error:
                raise PeerFailedError(f"{name} cannot be started: {error.strerror}") from None
        self._unread = b""

    def until_ready(self) -> None:
        """Wait for the ready line.

        Raises:
            NotBuiltError: the peer says that it cannot be run here.
            PeerFailedError: it does not become ready.
        """
        while True:
            said = self._said(START_SECONDS)
            match said:
                case {"not_built": why}:
                    self.end()
                    raise NotBuiltError(why)
                case {"ready": True, **others}:
                    self.port = others.get("port", 0)
                    return
                case {"versions": dict(versions)}:
                    self.versions = versions
                case _:
                    raise self._failure(f"said {json.dumps(said)[:_QUOTED]} before it was ready")

    def ask(self, line: str, seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
        """Send a line and wait for the answer.

        Raises:
            PeerFailedError: there is none.
        """
        assert self._process.stdin is not None
        if self._process.stdin.closed:
            raise PeerFailedError(f"{self.name} ended before")
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failure("ended") from None
        return self._said(seconds)

    def _said(self, seconds: float) -> dict[str, Any]:
        try:
            line = self._line(seconds)
        except KeyboardInterrupt:
            self._process.kill()  # what it still says would be taken for the next answer
            self.end()
            raise
        try:
            said = json.loads(line)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            quoted = line[:_QUOTED].decode(errors="replace")
            raise self._failure(f"said {quoted!r}, which is no JSON object")
        return said

    def _line(self, seconds: float) -> bytes:
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        while b"\n" not in self._unread:
            if not select.select([pipe], [], [], seconds)[0]:
                raise self._failure(f"said nothing for {seconds:g} s")
            if not (data := os.read(pipe, 65536)):
                raise self._failure("ended")
            self._unread += data
            if len(self._unread) > LINE_BYTES:
                raise self._failure(f"said more than {LINE_BYTES:,} bytes without an end of line")
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _failure(self, what: str) -> PeerFailedError:
        """End the process, and return what is to be said of it."""
        self.end()
        if self._needs is not None and not self._needs.runs:
            return self._needs._failure("ended")
        if what == "ended" and (code := self._process.returncode) < 0:
            what += f" by {signal.Signals(-code).name}"
        reason = last_words(self._log.read_text(errors="replace"))
        return PeerFailedError(f"{self.name} {what}{': ' if reason else ''}{reason}")

    @property
    def runs(self) -> bool:
        """Whether it can still be asked: what it needs has to run too."""
        return self._process.poll() is None and (self._needs is None or self._needs.runs)

    @property
    def resident_bytes(self) -> int:
        return resident_bytes(self._process.pid)

    @property
    def cpu_seconds(self) -> float:
        """The CPU time that the process has had, of all its threads."""
        after_name = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")

    def ask_no_more(self) -> None:
        """Have it end in its own time."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it may have ended before it has read all
            self._process.stdin.close()

    def end(self, seconds: float = END_SECONDS) -> None:
        """End it by the end of its input, or else, after so long, by a signal."""
        assert self._process.stdout is not None
        self.ask_no_more()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def last_words(log: str) -> str:
    """Return the end of a log from the last line that begins with a word: an error's text may have many."""
    begins = [found.start() for found in re.finditer(r"^\w", log, re.MULTILINE)]
    return " ".join(log[begins[-1] if begins else 0 :].split())[:_QUOTED]


def resident_bytes(process: int | Literal["self"]) -> int:
    """Return how much of the machine's memory a process has."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize()


def python(name: str, module: str, *arguments: str, cpu: int, needs: Process | None = None) -> Process:
    return Process(name, [sys.executable, "-m", module, *arguments], cpu, needs)
