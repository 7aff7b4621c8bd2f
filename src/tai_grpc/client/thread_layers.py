"""The client's layers driven by the threads that make the calls: no event loop, no thread of its own.

The order is that of `_ext/primitives/outbound.pyx`, and what a failed attempt leads to that of `layers.py`.
One lock is around what is asked of the layers, never around an attempt. A callback of a breaker runs in the
thread whose call changed its state, under that lock; calls that it makes are possible and hold up the others.
"""

from __future__ import annotations

import threading
import weakref
from typing import Final, Protocol

from grpc import StatusCode

from tai_grpc.client.channel import CLOSED, CUT_OFF, MAX_IN_FLIGHT, client_stats, too_many
from tai_grpc.client.endpoints import EndpointTable
from tai_grpc.client.invocation import Invocation
from tai_grpc.client.layers import Layers, sent_with
from tai_grpc.client.stats import ClientStats
from tai_grpc.config import GrpcClientConfig
from tai_grpc.errors import CircuitOpenError, DeadlineError, TaiGrpcError
from tai_grpc.resilience import CircuitBreaker, EndpointStats
from tai_grpc.transport.base import Reply
from tai_grpc.transport.blocking import BlockingTransport

CLOSED_OFF: Final = Reply(StatusCode.CANCELLED, CUT_OFF)


class Waiting(Protocol):
    """A call that may wait for its next attempt."""

    def wake(self) -> None: ...


class ThreadLayers:
    """The layers of one client, and what is in flight within them."""

    def __init__(self, config: GrpcClientConfig) -> None:
        self.endpoints = EndpointTable(config, BlockingTransport)
        self.layers = Layers(config, self.endpoints)
        self.lock = threading.RLock()
        self._connecting = threading.RLock()  # a signal's handler may close the client
        self._closed = False
        self._in_flight = 0
        self._idle = threading.Condition()
        self.cut_off = threading.Event()
        self._streams: weakref.WeakSet[Waiting] = weakref.WeakSet()

    def close(self, grace: float | None = None) -> None:
        """Refuse new calls, give those in flight `grace` seconds to end (None: none), end the others with
        CANCELLED, and disconnect.
        """
        self._closed = True
        if grace:
            with self._idle:
                self._idle.wait_for(lambda: self._in_flight == 0, grace)
        self.cut_off.set()
        with self._connecting:
            transports = self.endpoints.take()
        for transport in transports:
            transport.close(CUT_OFF)
        for stream in list(self._streams):
            stream.wake()

    def breaker(self, address: str) -> CircuitBreaker:
        return self.endpoints.breaker(address)

    def endpoint_stats(self) -> list[EndpointStats]:
        return self.endpoints.stats()

    def stats(self) -> ClientStats:
        """Return what has been counted since the channel was made."""
        return client_stats(self.layers, self.endpoints)

    def enter(self) -> Reply | None:
        """Let a call in; return what it ends with when there are too many.

        Raises:
            TaiGrpcError: the client is closed.
        """
        if self._closed:
            raise TaiGrpcError(CLOSED)
        with self._idle:
            if self._in_flight >= MAX_IN_FLIGHT:
                return too_many()
            self._in_flight += 1
            return None

    def leave(self) -> None:
        with self._idle:
            self._in_flight -= 1
            if self._closed and self._in_flight == 0:
                self._idle.notify_all()

    def begin(self, call: Invocation) -> Reply | None:
        """Let a call into the layers; return what it ends with at once, if it does."""
        try:
            with self.lock:
                self.layers.begin(call)
        except DeadlineError as error:
            return Reply(StatusCode.DEADLINE_EXCEEDED, str(error), sent=False)
        return None

    def attempt(self, call: Invocation) -> BlockingTransport | Reply:
        """Return where the next attempt goes, or what the call ends with as there is none."""
        if self.cut_off.is_set():
            return CLOSED_OFF
        try:
            with self.lock:
                endpoint = self.layers.attempt(call)
        except CircuitOpenError:
            return self.layers.refusal()
        with self._connecting:
            transport = self.endpoints.transport(endpoint.address)
        if self.cut_off.is_set():  # `close` may not have seen this one
            transport.close(CUT_OFF)
        return transport

    def after(self, call: Invocation, reply: Reply) -> float | None:
        """Take note of a failed attempt; return the seconds until the next one, None: it was the last."""
        with self.lock:
            wait = self.layers.after(call, reply)
        return None if self.cut_off.is_set() else wait

    def unary(self, call: Invocation, request: bytes) -> Reply:
        """Make a unary call: as many attempts as the layers want, with the waits between them."""
        if (refusal := self.enter()) is not None:
            return refusal
        ok = ended = False
        try:
            reply = self.begin(call)
            if reply is None:
                reply = self._attempts(call, request)
            ok = reply.code is StatusCode.OK
            ended = True
        except Exception:
            ended = True
            raise
        finally:
            with self.lock:
                self.layers.release(call, None)
                if ended:
                    self.layers.end(call, ok=ok)
                else:  # a signal's handler has raised something
                    self.layers.give_up(call)
            self.leave()
        return reply

    def _attempts(self, call: Invocation, request: bytes) -> Reply:
        while True:
            transport = self.attempt(call)
            if isinstance(transport, Reply):
                return transport
            reply, call.committed = transport.unary(call.method, request, sent_with(call))
            if reply.code is StatusCode.OK:
                with self.lock:
                    self.layers.succeeded(call)
                return reply
            if self.cut_off.is_set():
                return reply
            wait = self.after(call, reply)
            if wait is None:
                return reply
            if wait > 0 and self.cut_off.wait(wait):
                return CLOSED_OFF

    def track(self, stream: Waiting) -> None:
        """Have `close` wake it."""
        self._streams.add(stream)
