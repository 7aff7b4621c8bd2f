"""A call with a stream on either side, made by the threads that wait for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Final

from grpc import StatusCode

from tai_grpc._ext.primitives.outbound import END, WAIT
from tai_grpc.aio._blocking_attempt import Attempt, feed
from tai_grpc.aio._blocking_keeper import RefusalError
from tai_grpc.client.invocation import Invocation, call_error
from tai_grpc.client.layers import sent_with
from tai_grpc.client.thread_layers import ThreadLayers
from tai_grpc.transport.base import Reply
from tai_grpc.transport.blocking import stream_reply

_CANCELLED: Final = Reply(StatusCode.CANCELLED, "cancelled by the caller")
_BROKEN_OFF: Final = Reply(StatusCode.CANCELLED, "an exception was raised while it was being made")


class ThreadStream:
    """A call with a stream on either side, over the attempts that it takes until it is committed to one.

    With one request the response's headers commit it, otherwise its being on a connection: a stream of
    requests is sent once. Attempts are made by whoever waits for the call: while nobody does, a failed one is
    not followed by another.
    """

    def __init__(
        self,
        layers: ThreadLayers,
        call: Invocation,
        request: bytes | None,
        requests: Iterator[bytes] | None,
    ) -> None:
        self.call = call
        self._layers = layers
        self._request = request
        self._requests = requests
        self._attempt: Attempt | None = None
        self._reply: Reply | None = None
        self._failure: Exception | None = None
        self._heard = False
        self._cancelled = False
        self._lock = threading.RLock()
        self._woken = threading.Event()
        refusal = layers.enter()
        layers.track(self)
        try:
            self._proceed(refusal)
            if request is None:
                self._commit()
        except BaseException:
            self._break_off()
            raise

    # --- Attempts ---

    def _proceed(self, ended: Reply | None) -> None:
        """Go on after an attempt that ended like this, until another one is under way or the call is over."""
        self._attempt = None
        try:
            while self._attempt is None and self._reply is None:
                ended = self._step(ended)
        except BaseException:
            self._break_off()
            raise

    def _step(self, ended: Reply | None) -> Reply | None:
        if self._cancelled and (ended is None or not ended.ok):
            self._give_up()
            return None
        step = self._layers.next_step(self.call, ended)
        if step == END:
            self._end(self.call.reply)
        elif step == WAIT:
            self._woken.wait(self.call.wait)
        else:
            transport = self._layers.transport(self.call)
            try:
                self._attempt = transport.stream(
                    self.call.method, self._request, sent_with(self.call), single=not self.call.long_lived
                )
            except RefusalError as refusal:
                return Reply(refusal.code, refusal.details, sent=False)
            if self._cancelled:
                self._attempt.cancel()
        return None

    def _break_off(self) -> None:
        self._layers.fail(self.call)
        self._end(_BROKEN_OFF)

    def _give_up(self) -> None:
        self._layers.give_up(self.call)
        self._end(_CANCELLED)

    def _end(self, reply: Reply) -> None:
        """The call is over in the layers: so it is here, once."""
        with self._lock:
            if self._reply is None:
                self._reply = reply
                self._layers.leave()

    def _commit(self) -> Attempt | None:
        """Wait for the attempt that the call is committed to; None when it ended without one."""
        if self.call.committed:
            return self._attempt
        with self._lock:
            while self._reply is None and not self.call.committed:
                attempt = self._attempt
                assert attempt is not None  # noqa: S101 - `_proceed` leaves an attempt or a reply
                if attempt.connected() if self._request is None else attempt.answered():
                    if self._request is not None:
                        self._proven()
                    if self._requests is not None:
                        feed(attempt, self._requests, self._source_failed)
                    self.call.committed = True
                else:
                    attempt.wait_ended()
                    self._proceed(stream_reply(attempt))
            return self._attempt if self.call.committed else None

    def _source_failed(self, error: Exception) -> None:
        self._failure = error
        if self._attempt is not None:
            self._attempt.cancel()

    def _proven(self) -> None:
        with self._layers.lock:
            self._layers.layers.proven(self.call)

    # --- For its caller ---

    def read(self) -> bytes | None:
        """Wait for the next response message; None after the last one of a call that ended with OK."""
        attempt = self._commit()
        data = None if attempt is None else attempt.read()
        if data is None:
            self.end()
        elif not self._heard:
            self._heard = True
            self._proven()
        return data

    def end(self) -> Reply:
        """Wait for the end; raise how the call has failed."""
        reply = self.reply()
        if self._failure is not None:
            raise self._failure
        if reply.code is not StatusCode.OK:
            raise call_error(self.call, reply)
        return reply

    def reply(self) -> Reply:
        """Wait for the status. The call is over once the messages before it were read."""
        attempt = self._commit()
        if attempt is not None:
            attempt.wait_ended()
        with self._lock:
            if self._reply is None and attempt is not None:
                message = None if self.call.long_lived else attempt.read()
                reply = self._described(attempt, message)
                if not attempt.all_read:
                    return reply
                if self._cancelled and reply.code is StatusCode.CANCELLED:
                    self._give_up()
                else:
                    self._layers.next_step(self.call, reply)
                    self._end(self.call.reply)
            assert self._reply is not None  # noqa: S101 - `_commit` leaves an attempt or a reply
            return self._reply

    def _described(self, attempt: Attempt, message: bytes | None) -> Reply:
        if self._cancelled and attempt.code is StatusCode.CANCELLED:
            return _CANCELLED
        reply = stream_reply(attempt, message)
        if not self.call.long_lived and reply.code is StatusCode.OK and message is None:
            return reply._replace(code=StatusCode.INTERNAL, details="the server sent no response message")
        return reply

    def initial_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        attempt = self._commit()
        if attempt is None:
            return self.reply().initial_metadata
        attempt.answered()
        return attempt.initial_metadata()

    def cancel(self) -> None:
        self._cancelled = True
        self._woken.set()
        if self._attempt is not None:
            self._attempt.cancel()

    def wake(self) -> None:
        """End the wait for the next attempt: the client was closed. What is under way has been told."""
        self._woken.set()

    def settle(self) -> None:
        """It was cancelled, and nobody waits for it any more: end it in the layers."""
        with self._lock:
            if self._reply is None:
                self._give_up()

    def abandon(self) -> None:
        """Its reader is gone: from a finalizer."""
        self._cancelled = True
        if self._attempt is not None:
            self._attempt.abandon()
        self.settle()
