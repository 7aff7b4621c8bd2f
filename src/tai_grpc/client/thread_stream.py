"""A call with a stream on either side, made by the threads that wait for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Final

from grpc import StatusCode

from tai_grpc.aio._blocking_attempt import Attempt, feed
from tai_grpc.aio._blocking_keeper import RefusalError
from tai_grpc.client.invocation import Invocation, call_error
from tai_grpc.client.layers import sent_with
from tai_grpc.client.thread_layers import CLOSED_OFF, ThreadLayers
from tai_grpc.transport.base import Reply
from tai_grpc.transport.blocking import stream_reply

_CANCELLED: Final = Reply(StatusCode.CANCELLED, "cancelled by the caller")


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
        self._over = False
        self._reply = layers.enter()
        if self._reply is not None:
            self._over = True
            return
        layers.track(self)
        try:
            self._reply = layers.begin(call)
            if self._reply is None:
                self._start()
                if request is None:
                    self._commit()
        except BaseException:
            self._over = True
            with layers.lock:
                layers.layers.release(call, None)
                layers.layers.end(call, ok=False)
            layers.leave()
            raise
        self._leave_if_over()

    # --- Attempts ---

    def _start(self) -> None:
        """Start an attempt; `_attempt` is None when that has ended the call or failed at once."""
        transport = self._layers.attempt(self.call)
        self._attempt = None
        if isinstance(transport, Reply):
            self._reply = transport
            return
        try:
            self._attempt = transport.stream(
                self.call.method, self._request, sent_with(self.call), single=not self.call.long_lived
            )
        except RefusalError as refusal:
            self._after(Reply(refusal.code, refusal.details, sent=False))
            return
        if self._cancelled:
            self._attempt.cancel()

    def _after(self, reply: Reply) -> None:
        """An attempt has ended without committing the call."""
        if reply.code is StatusCode.OK or self._cancelled:
            self._reply = reply
            return
        wait = self._layers.after(self.call, reply)
        if wait is None:
            self._reply = reply
            return
        if wait > 0:
            self._woken.wait(wait)
        if self._cancelled or self._layers.cut_off.is_set():
            self._reply = _CANCELLED if self._cancelled else CLOSED_OFF
            return
        self._start()

    def _commit(self) -> Attempt | None:
        """Wait for the attempt that the call is committed to; None when it ended without one."""
        if self.call.committed:
            return self._attempt
        with self._lock:
            while self._reply is None and not self.call.committed:
                attempt = self._attempt
                if attempt is None:
                    self._start()
                elif attempt.connected() if self._request is None else attempt.answered():
                    if self._request is not None:
                        self._proven()
                    if self._requests is not None:
                        feed(attempt, self._requests, self._source_failed)
                    self.call.committed = True
                else:
                    attempt.wait_ended()
                    self._after(stream_reply(attempt))
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
                self._reply = reply
            self._leave_if_over()
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
                self._reply = _CANCELLED
            self._leave_if_over()

    def abandon(self) -> None:
        """Its reader is gone: from a finalizer."""
        self._cancelled = True
        if self._attempt is not None:
            self._attempt.abandon()
        self.settle()

    def _leave_if_over(self) -> None:
        with self._lock:
            if self._reply is None or self._over:
                return
            self._over = True
            reply = self._reply
        layers = self._layers.layers
        with self._layers.lock:
            if self._cancelled and reply.code is StatusCode.CANCELLED:
                layers.give_up(self.call)
            elif reply.code is StatusCode.OK:
                layers.succeeded(self.call)
                layers.end(self.call, ok=True)
            else:
                if self.call.committed:
                    layers.after(self.call, reply)
                layers.release(self.call, None)
                layers.end(self.call, ok=False)
        self._layers.leave()
