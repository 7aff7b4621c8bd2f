"""Calls of a blocking channel that may be sent anew: unary ones, and those with a stream on either side."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from grpc import StatusCode

from tai_grpc._ext.aio.blocking_stream import BlockingStream
from tai_grpc._ext.aio.client_session import LOCALLY_CANCELLED
from tai_grpc._ext.http2.metadata import Metadatum
from tai_grpc.aio._blocking_keeper import Keeper, RefusalError, Waiting
from tai_grpc.aio._blocking_start import Start

_MAX_REPLAY_BYTES: Final = 256 * 1024
"""What is kept of a request stream to send it anew."""

_STATUS: Final = {code.value[0]: code for code in StatusCode}

T = TypeVar("T")


def unary(keeper: Keeper, start: Start) -> BlockingStream:
    """Make a unary call and wait for its end; it is sent anew, unseen, as the protocol allows.

    Raises: as `Start.on`.
    """
    retried = False
    waiting = Waiting()
    while True:
        stream = start.on(keeper, waiting)
        stream.wait_ended()
        again = stream.may_be_sent_anew
        if not again or (again == 1 and retried):
            return stream
        retried = retried or again == 1


class Attempt:
    """A call with a stream on either side, for a thread that reads, one that writes, and any that cancel.

    Its request messages are kept until the server answers, 256 KiB of them at most: when it proves that it
    did not process the call, they are sent anew.
    """

    def __init__(self, keeper: Keeper, start: Start) -> None:
        self._keeper = keeper
        self._start_with = start
        self._replay: list[bytes] | None = []
        self._replay_bytes = 0
        self._half_closed = start.request is not None
        self._retried = False
        self._cancelled: RefusalError | None = None
        self._waiting = Waiting()
        self._lock = threading.RLock()
        self._beginning = False
        self._stream: BlockingStream | None = None
        self._refusal: RefusalError | None = None
        self._begin()

    def _begin(self) -> None:
        self._beginning = True
        try:
            self._stream = self._start_with.on(self._keeper, self._waiting)
        except RefusalError as refusal:
            self._stream = None
            self._refusal = self._cancelled or refusal
        finally:
            self._beginning = False
        if self._cancelled is not None and self._stream is not None:
            self._stream.end(self._cancelled.code.value[0], self._cancelled.details)

    def connected(self) -> bool:
        """Whether the call was put on a connection."""
        return self._stream is not None

    def answered(self) -> bool:
        """Wait for the response's headers; False when the call ended without any."""
        return self._on_stream(BlockingStream.wait_answered, lambda found: found) or False

    def read(self) -> bytes | None:
        """Wait for the next response message; None when there is none left."""
        return self._on_stream(BlockingStream.read, lambda found: found is not None)

    def write(self, message: bytes) -> bool:
        """Send a request message, waiting while the server is slow; False when the call has ended."""
        with self._lock:
            if self._replay is not None:
                self._replay_bytes += len(message)
                if self._replay_bytes > _MAX_REPLAY_BYTES or (self._stream and self._stream.answered):
                    self._replay = None
                else:
                    self._replay.append(message)
            stream = self._stream
        if stream is None or stream.write(message):
            return stream is not None
        return self._goes_on(stream)  # then the message was sent with the others

    def done_writing(self) -> None:
        """Tell the server that no request follows."""
        with self._lock:
            self._half_closed = True
            if self._stream is not None:
                self._stream.half_close()

    def wait_ended(self) -> None:
        """Wait for the status, which is here before the messages in front of it are read."""

        def end(stream: BlockingStream) -> bool:
            stream.wait_ended()
            return not stream.may_be_sent_anew

        self._on_stream(end, lambda found: found)

    def cancel(self, code: StatusCode = StatusCode.CANCELLED, details: str = LOCALLY_CANCELLED) -> bool:
        """End it, from any thread; False when it has ended already."""
        stream = self._stream
        goes_on = stream is not None and self._may_go_on(stream)
        self._cancelled = RefusalError(code, details)
        self._keeper.give_up(self._waiting)
        stream = self._stream  # after that: it may be another one
        return (stream is not None and stream.end(code.value[0], details)) or goes_on

    def abandon(self) -> None:
        """As `cancel`, from a finalizer."""
        self._cancelled = RefusalError(StatusCode.CANCELLED, LOCALLY_CANCELLED)
        if self._stream is not None:
            self._stream.abandon()

    def fail(self, details: str) -> None:
        """End it with INTERNAL, whatever its status is: a response cannot be read."""
        if self._stream is not None:
            self._stream.fail(StatusCode.INTERNAL.value[0], details)

    @property
    def ended(self) -> bool:
        return self._stream is None or (self._stream.ended and not self._may_go_on(self._stream))

    @property
    def all_read(self) -> bool:
        return self._stream is None or (self._stream.all_read and not self._may_go_on(self._stream))

    @property
    def code(self) -> StatusCode:
        """How it ended."""
        return code_of(self._stream or self._refusal)

    @property
    def details(self) -> str:
        ended = self._stream or self._refusal
        return "" if ended is None else ended.details

    def initial_metadata(self) -> tuple[Metadatum, ...]:
        return () if self._stream is None else self._stream.initial_metadata()

    def trailing_metadata(self) -> tuple[Metadatum, ...]:
        return () if self._stream is None else self._stream.trailing_metadata()

    def _on_stream(self, step: Callable[[BlockingStream], T], useful: Callable[[T], object]) -> T | None:
        while (stream := self._stream) is not None:
            found = step(stream)
            if useful(found) or not self._goes_on(stream):
                return found
        return None

    def _may_go_on(self, stream: BlockingStream) -> bool:
        """Whether the call is to be sent anew, or is being so, after it ended on this stream."""
        again = stream.may_be_sent_anew
        if not again or self._replay is None:
            return False
        return again == 2 or not self._retried or self._beginning

    def _goes_on(self, stream: BlockingStream) -> bool:
        """Whether the call is on another stream than this one, which has ended."""
        with self._lock:
            if self._stream is not stream:
                return self._stream is not None
            if self._replay is None or not self._may_go_on(stream):
                return False
            if self._cancelled is not None:
                self._stream = None
                self._refusal = self._cancelled
                return False
            self._retried = self._retried or stream.may_be_sent_anew == 1
            self._begin()
            if self._stream is None:
                return False
            for message in self._replay:
                self._stream.write(message)
            if self._half_closed:
                self._stream.half_close()
            return True


def feed(attempt: Attempt, requests: Iterator[bytes], failed: Callable[[Exception], None]) -> None:
    """Write requests in a thread of their own; it ends with them, or when the next one finds the call ended.

    `failed` is told what their source raises.
    """

    def run() -> None:
        try:
            for request in requests:
                if not attempt.write(request):
                    return
        except Exception as error:
            failed(error)
        else:
            attempt.done_writing()

    threading.Thread(target=run, name="tai-grpc-requests", daemon=True).start()


def code_of(ended: BlockingStream | RefusalError | None) -> StatusCode:
    """Return the status of what has ended."""
    if isinstance(ended, RefusalError):
        return ended.code
    return StatusCode.UNKNOWN if ended is None else _STATUS.get(ended.code, StatusCode.UNKNOWN)
