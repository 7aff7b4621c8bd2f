"""An engine process: runs its part of a plan for a coordinator, which it talks to by stdin and stdout.

Told: the version; the plan and the part; then "go"; then "stop", or the end of stdin, which stops it too.
Says: "ready", `Interval`s, and at last a `LoadResult`, or the error that ended it.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from typing import IO

from tai_grpc._version import __version__
from tai_grpc.errors import TaiGrpcError
from tai_grpc.load.errors import EngineProcessError
from tai_grpc.load.frames import read_frame, write_frame
from tai_grpc.load.run import open_run

READY = "ready"
GO = "go"
STOP = "stop"


def serve() -> int:
    """Run the part that stdin says, and return the process's exit code."""
    # The thread that listens may still do so when the process ends: it must not hold a buffer's lock then.
    told = os.fdopen(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
    # Whatever else writes to stdout, a library's warning say, must not come between the frames.
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as said:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        try:
            _serve(told, said)
        except TaiGrpcError as error:
            write_frame(said, error)
            return 1
        except (EOFError, BrokenPipeError):  # the coordinator has gone: nobody is left to be told
            return 1
    return 0


def _serve(told: IO[bytes], said: IO[bytes]) -> None:
    version = read_frame(told)
    if version != __version__:
        raise EngineProcessError(f"an engine process is of version {__version__}, its coordinator {version}")
    plan, part = read_frame(told)
    with open_run(plan, part) as run:
        write_frame(said, READY)
        if read_frame(told) != GO:
            return
        stop = threading.Event()
        threading.Thread(target=_hear_stop, args=(told, stop), daemon=True).start()
        result = run.run(lambda interval: write_frame(said, interval), stop)
    write_frame(said, result)


def _hear_stop(told: IO[bytes], stop: threading.Event) -> None:
    with suppress(EOFError):
        read_frame(told)
    stop.set()
