"""The processes of a run: peers in their roles and h2load, each where the plan says, ended with the run."""

from __future__ import annotations

import json
import os
import resource
import select
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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


class PeerFailedError(Exception):
    """A peer's process ended, or did not answer in time."""


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
    """Answers lines with lines of JSON; what it says on standard error is in build/bench/logs."""

    def __init__(self, name: str, command: Sequence[str], cpu: int) -> None:
        self.name = name
        self.versions: Mapping[str, str] = {}
        LOGS.mkdir(parents=True, exist_ok=True)
        self._log = LOGS / f"{name.replace(' ', '-')}.log"
        with on(cpu), self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        self._unread = b""

    def until_ready(self) -> None:
        """Wait for the ready line.

        Raises:
            NotBuiltError: the peer says that it cannot be run here.
        """
        while True:
            said = self._said(START_SECONDS)
            if "not_built" in said:
                self.end()
                raise NotBuiltError(said["not_built"])
            if "ready" in said:
                return
            self.versions = said["versions"]

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
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        while b"\n" not in self._unread:
            if not select.select([pipe], [], [], seconds)[0]:
                raise self._failure(f"said nothing for {seconds:g} s")
            if not (data := os.read(pipe, 65536)):
                raise self._failure("ended")
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        said = json.loads(line)
        assert isinstance(said, dict)
        return said

    def _failure(self, what: str) -> PeerFailedError:
        self.end()
        last = self._log.read_text(errors="replace").strip().splitlines()[-1:]
        return PeerFailedError(f"{self.name} {what}{': ' if last else ''}{''.join(last)}")

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    @property
    def resident_bytes(self) -> int:
        return resident_bytes(self._process.pid)

    @property
    def cpu_seconds(self) -> float:
        """The CPU time that the process has had, of all its threads."""
        after_name = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        """End it by the end of its input, or else by a signal."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def resident_bytes(process: int | Literal["self"]) -> int:
    """Return how much of the machine's memory a process has."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize()


def python(name: str, module: str, *arguments: str, cpu: int) -> Process:
    return Process(name, [sys.executable, "-m", module, *arguments], cpu)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        assert isinstance(port, int)
        return port
