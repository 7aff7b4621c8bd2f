"""The client's layers driven by the threads that make the calls: no event loop, no thread of its own.

`_ext/primitives/outbound.pyx` says what is done next; one lock is around what is asked of it, never around an
attempt. A callback of a breaker runs in the
thread whose call changed its state, under that lock; calls that it makes are possible and hold up the others.
"""

from __future__ import annotations

import threading
import weakref
from typing import Final, Protocol

from grpc import StatusCode

from tai_grpc._ext.primitives.outbound import END, WAIT
from tai_grpc.client.channel import CUT_OFF, MAX_IN_FLIGHT, client_stats, too_many
from tai_grpc.client.endpoints import EndpointTable
from tai_grpc.client.invocation import Invocation
from tai_grpc.client.layers import Layers, sent_with
from tai_grpc.client.stats import ClientStats
from tai_grpc.config import GrpcClientConfig
from tai_grpc.errors import TaiGrpcError
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
            raise TaiGrpcError("this BlockingGrpcClient is closed")
        with self._idle:
            self._in_flight += 1
            return too_many() if self._in_flight > MAX_IN_FLIGHT else None

    def leave(self) -> None:
        with self._idle:
            self._in_flight -= 1
            if self._closed and self._in_flight == 0:
                self._idle.notify_all()

    def next_step(self, call: Invocation, ended: Reply | None) -> int:
        """Ask what to do next; once the client is closed there are no more attempts."""
        if self.cut_off.is_set():
            call.committed = True
            ended = ended or CLOSED_OFF
        with self.lock:
            return self.layers.next_step(call, ended)

    def transport(self, call: Invocation) -> BlockingTransport:
        """Return where the next attempt goes."""
        with self._connecting:
            transport = self.endpoints.transport(call.endpoint)
        if self.cut_off.is_set():  # `close` may not have seen this one
            transport.close(CUT_OFF)
        return transport

    def give_up(self, call: Invocation) -> None:
        with self.lock:
            self.layers.give_up(call)

    def fail(self, call: Invocation) -> None:
        with self.lock:
            self.layers.fail(call)

    def unary(self, call: Invocation, request: bytes) -> Reply:
        """Make a unary call: as many attempts as the layers want, with the waits between them."""
        ended = self.enter()
        try:
            while (step := self.next_step(call, ended)) != END:
                if step == WAIT:
                    ended = None
                    self.cut_off.wait(call.wait)
                else:
                    transport = self.transport(call)
                    ended, call.committed = transport.unary(call.method, request, sent_with(call))
        except Exception:
            self.fail(call)
            raise
        finally:
            if not call.over:  # a signal's handler has raised something
                self.give_up(call)
            self.leave()
        reply: Reply = call.reply
        return reply

    def track(self, stream: Waiting) -> None:
        """Have `close` wake it."""
        self._streams.add(stream)
