"""What a coordinator and its engine processes say to each other: pickles, each after its length.

Only between processes of ours: who may start an engine process can run anything there anyway.
"""

from __future__ import annotations

import pickle
from typing import IO, Any, Final, Protocol

MAX_FRAME_BYTES: Final = 1 << 30

_SIZE: Final = 8


class NoFrameError(EOFError):
    """What a process says cannot be read: nor can what follows."""


class Readable(Protocol):
    """A pipe, or what stands before one."""

    def read(self, size: int, /) -> bytes: ...


def write_frame(pipe: IO[bytes], said: object) -> None:
    """Say it; raises BrokenPipeError when nobody listens any more."""
    data = pickle.dumps(said)
    pipe.write(len(data).to_bytes(_SIZE, "big") + data)
    pipe.flush()


def read_frame(pipe: Readable) -> Any:
    """Return what was said.

    Raises:
        EOFError: the other process has ended.
        NoFrameError: it says something else.
    """
    size = int.from_bytes(_exactly(pipe, _SIZE), "big")
    if size > MAX_FRAME_BYTES:
        raise NoFrameError
    data = _exactly(pipe, size)
    try:
        return pickle.loads(data)  # noqa: S301 - see above
    except Exception as error:  # whatever what is none, or is of another version, may raise
        raise NoFrameError from error


def _exactly(pipe: Readable, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:  # a pipe without a buffer gives what is there
        if not (piece := pipe.read(size - len(data))):
            raise EOFError
        data += piece
    return bytes(data)
