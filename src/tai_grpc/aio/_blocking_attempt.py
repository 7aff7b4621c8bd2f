"""What a blocking channel's calls are made of: a connection that is kept, calls that may be sent anew."""

from __future__ import annotations

import os
import random
import threading
import time
import weakref
from collections.abc import Callable
from typing import Final, TypeVar

from grpc import StatusCode

from tai_grpc._ext.aio.blocking import BlockingConnection
from tai_grpc._ext.aio.blocking_stream import BlockingStream, start
from tai_grpc._ext.aio.client_session import DEADLINE_PASSED, LOCALLY_CANCELLED, QUEUE_FULL
from tai_grpc._ext.http2.metadata import Metadatum
from tai_grpc.aio._blocking_connection import GivenUpError, Opening
from tai_grpc.aio._connection import ConnectError, Settings
from tai_grpc.aio._target import Target

CLOSED: Final = "Channel closed!"

_MULTIPLIER: Final = 1.6
_JITTER: Final = 0.2
_MAX_REPLAY_BYTES: Final = 256 * 1024
"""What is kept of a request stream to send it anew."""

_NEVER: Final = float("inf")
_STATUS: Final = {code.value[0]: code for code in StatusCode}

T = TypeVar("T")
Entries = tuple[tuple[str, str | bytes], ...]


class RefusalError(Exception):
    """A call ended before it was on a connection."""

    def __init__(self, code: StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details


class Keeper:
    """Keeps one connection: opened by the call that needs it, anew with backoff when it fails.

    A call that comes while another one connects waits for what comes of that. When it failed, those that do
    not `wait_for_ready` fail, at once until the backoff is over; the next call then tries again. There is no
    thread that would try meanwhile. A call whose deadline passes while it connects leaves that to the next
    one, which begins anew.
    """

    def __init__(self, target: Target, settings: Settings) -> None:
        self._target = target
        self._settings = settings
        self._keepalive = settings.options.keepalive_time
        self._backoff = settings.options.initial_backoff
        self._next_attempt = 0.0
        self._failure = ""
        self._failures = 0
        self._connection: BlockingConnection | None = None
        self._draining: list[BlockingConnection] = []
        self._opening: Opening | None = None
        self._closed: str | None = None
        self._changed = threading.Condition()
        _keepers.add(self)

    def connection(self, deadline_ns: int, *, wait_for_ready: bool) -> BlockingConnection:
        """Return a connection that takes calls, and have one if there is none.

        Raises:
            RefusalError: there is none; or not before the deadline, or the channel is closed.
        """
        connection = self._connection
        if connection is not None and not connection.draining:
            return connection
        deadline = deadline_ns * 1e-9 if deadline_ns else _NEVER
        while True:
            found = self._claim(deadline, wait_for_ready=wait_for_ready)
            if isinstance(found, BlockingConnection):
                return found
            self._open(found, wait_for_ready=wait_for_ready)

    def _claim(self, deadline: float, *, wait_for_ready: bool) -> BlockingConnection | Opening:
        """Return the connection, or what the caller is to open one with."""
        with self._changed:
            while True:
                if self._closed is not None:
                    raise RefusalError(StatusCode.CANCELLED, self._closed)
                connection = self._connection
                if connection is not None and not connection.draining:
                    return connection
                if connection is not None:
                    self._lose(connection)
                now = time.monotonic()
                if now >= deadline:
                    raise RefusalError(StatusCode.DEADLINE_EXCEEDED, DEADLINE_PASSED)
                failures = self._failures
                until = deadline
                if self._opening is None:
                    if now >= self._next_attempt:
                        self._opening = self._begin(now, deadline)
                        return self._opening
                    if self._failure and not wait_for_ready:
                        raise RefusalError(StatusCode.UNAVAILABLE, self._failure)
                    until = min(deadline, self._next_attempt)
                self._changed.wait(None if until == _NEVER else until - now)
                if self._failures != failures and not wait_for_ready:
                    raise RefusalError(StatusCode.UNAVAILABLE, self._failure)

    def reset_backoff(self) -> None:
        """If the target could not be reached: let the next call try again."""
        with self._changed:
            self._backoff = self._settings.options.initial_backoff
            self._next_attempt = 0.0
            self._failure = ""
            self._changed.notify_all()

    def close(self, why: str = CLOSED) -> None:
        """End every call with CANCELLED and `why`, and disconnect."""
        with self._changed:
            if self._closed is None:
                self._closed = why
            if self._opening is not None:
                self._opening.give_up()
            connections = [*self._draining]
            if self._connection is not None:
                connections.append(self._connection)
            self._connection = None
            self._draining = []
            self._changed.notify_all()
        for connection in connections:
            connection.close(why)

    def forked(self) -> None:
        """In the child of a fork: begin without a connection."""
        self._changed = threading.Condition()
        self._opening = None
        for connection in (self._connection, *self._draining):
            if connection is not None:
                connection.forget()
        self._connection = None
        self._draining = []

    def _begin(self, now: float, deadline: float) -> Opening:
        self._next_attempt = now + self._backoff * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311
        timeout = max(self._settings.options.connect_timeout, self._backoff)
        return Opening(self._settings, self._keepalive, timeout, deadline)

    def _open(self, opening: Opening, *, wait_for_ready: bool) -> None:
        connection: BlockingConnection | None = None
        failure: str | None = None
        try:
            connection = opening.open(self._target.resolve_now())
        except GivenUpError:
            pass
        except ConnectError as error:
            failure = str(error)
        except (OSError, UnicodeError) as error:
            failure = f"errors resolving {self._target.text}: {error}"
        finally:
            with self._changed:
                self._opening = None
                if failure is not None:
                    self._backoff = min(self._backoff * _MULTIPLIER, self._settings.options.max_backoff)
                    self._failure = failure
                    self._failures += 1
                elif connection is None:
                    self._next_attempt = 0.0
                elif self._closed is None:
                    self._failure = ""
                    self._connection = connection
                self._changed.notify_all()
        if connection is not None and self._closed is not None:
            connection.close(self._closed)
        if failure is not None and not wait_for_ready:
            raise RefusalError(StatusCode.UNAVAILABLE, failure)

    def _lose(self, connection: BlockingConnection) -> None:
        """A connection takes no more calls. One that was of no use and short counts as a failure."""
        if connection.too_many_pings and self._keepalive is not None:
            self._keepalive *= 2
        if connection.served or time.monotonic() >= self._next_attempt:
            self._backoff = self._settings.options.initial_backoff
            self._next_attempt = 0.0
        self._connection = None
        self._draining = [each for each in self._draining if not each.over]
        if not connection.over:
            self._draining.append(connection)


_keepers: weakref.WeakSet[Keeper] = weakref.WeakSet()


def _forked() -> None:
    for keeper in list(_keepers):
        keeper.forked()


os.register_at_fork(after_in_child=_forked)


class Start:
    """What a call is sent with, as often as it is. `deadline_ns` is of the monotonic clock; 0: none."""

    __slots__ = ("deadline_ns", "encoding", "metadata", "method", "request", "single", "wait_for_ready")

    def __init__(
        self,
        method: bytes,
        request: bytes | None,
        metadata: Entries,
        deadline_ns: int,
        *,
        encoding: int,
        wait_for_ready: bool,
        single: bool,
    ) -> None:
        self.method = method
        self.request = request
        self.metadata = metadata
        self.deadline_ns = deadline_ns
        self.encoding = encoding
        self.wait_for_ready = wait_for_ready
        self.single = single

    def on(self, keeper: Keeper) -> BlockingStream:
        """Start it on a connection.

        Raises:
            RefusalError: it ended before.
            TypeError, ValueError: a key or value of the metadata cannot be sent.
        """
        if self.deadline_ns and time.monotonic_ns() >= self.deadline_ns:
            raise RefusalError(StatusCode.DEADLINE_EXCEEDED, DEADLINE_PASSED)
        while True:
            connection = keeper.connection(self.deadline_ns, wait_for_ready=self.wait_for_ready)
            if connection.is_full():
                raise RefusalError(StatusCode.RESOURCE_EXHAUSTED, QUEUE_FULL)
            stream = start(
                connection,
                self.method,
                self.metadata,
                self.request,
                self.deadline_ns,
                self.encoding,
                self.single,
            )
            if stream is not None:
                return stream


def unary(keeper: Keeper, start: Start) -> BlockingStream:
    """Make a unary call and wait for its end; it is sent anew, unseen, as the protocol allows.

    Raises: as `Start.on`.
    """
    retried = False
    while True:
        stream = start.on(keeper)
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
        self._cancelled = False
        self._lock = threading.RLock()
        self._stream: BlockingStream | None = None
        self._refusal: RefusalError | None = None
        self._start()

    def _start(self) -> None:
        try:
            self._stream = self._start_with.on(self._keeper)
        except RefusalError as refusal:
            self._stream = None
            self._refusal = refusal
        if self._cancelled and self._stream is not None:
            self._stream.end(StatusCode.CANCELLED.value[0], LOCALLY_CANCELLED)

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
        self._cancelled = True
        stream = self._stream
        return stream is not None and stream.end(code.value[0], details)

    def abandon(self) -> None:
        """As `cancel`, from a finalizer."""
        self._cancelled = True
        if self._stream is not None:
            self._stream.abandon()

    def fail(self, details: str) -> None:
        """End it with INTERNAL, whatever its status is: a response cannot be read."""
        if self._stream is not None:
            self._stream.fail(StatusCode.INTERNAL.value[0], details)

    @property
    def ended(self) -> bool:
        return self._stream is None or self._stream.ended

    @property
    def all_read(self) -> bool:
        return self._stream is None or self._stream.all_read

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

    def _goes_on(self, stream: BlockingStream) -> bool:
        """Whether the call is on another stream than this one, which has ended."""
        with self._lock:
            if self._stream is not stream:
                return self._stream is not None
            again = stream.may_be_sent_anew
            if not again or self._replay is None or (again == 1 and self._retried) or self._cancelled:
                return False
            self._retried = self._retried or again == 1
            self._start()
            if self._stream is None:
                return False
            for message in self._replay:
                self._stream.write(message)
            if self._half_closed:
                self._stream.half_close()
            return True


def code_of(ended: BlockingStream | RefusalError | None) -> StatusCode:
    """Return the status of what has ended."""
    if isinstance(ended, RefusalError):
        return ended.code
    return StatusCode.UNKNOWN if ended is None else _STATUS.get(ended.code, StatusCode.UNKNOWN)
