"""The layers of a client. Their hot path is compiled and states their order: `_ext/primitives/outbound.pyx`.

Here is what a failed attempt needs: what it says of its endpoint, whether there is another one, and where.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Final

from grpc import StatusCode

from tai_grpc._ext.primitives.outbound import Outbound, OutboundCall
from tai_grpc.client.endpoints import AnyEndpoints, Endpoints
from tai_grpc.client.invocation import AnyInvocation, Invocation, call_error
from tai_grpc.config import CallOutcome, GrpcClientConfig
from tai_grpc.errors import CircuitOpenError, DeadlineError
from tai_grpc.observability.tracing import CURRENT_TRACE
from tai_grpc.resilience import Endpoint
from tai_grpc.resilience.retry import Retries
from tai_grpc.resilience.timeout import CURRENT_DEADLINE
from tai_grpc.status import ENDPOINT_FAILURES
from tai_grpc.transport.base import CallOptions, Reply

MAX_MOVES: Final = 8
"""How many endpoints that cannot be reached a call leaves for another, before that counts as a failure."""

Sleep = Callable[[float], Awaitable[None]]


class Layers(Outbound):
    """The layers of one client."""

    def __init__(self, config: GrpcClientConfig, endpoints: AnyEndpoints) -> None:
        super().__init__(config, endpoints.balancer, CURRENT_TRACE, CURRENT_DEADLINE)
        self._config = config
        self._endpoints = endpoints

    def pick_elsewhere(self, avoid: Collection[str]) -> Endpoint:
        return self._endpoints.pick(avoid)

    def refusal(self) -> Reply:
        """Return what a call ends with that every breaker refuses."""
        return Reply(StatusCode.UNAVAILABLE, self._endpoints.refusal(), sent=False)

    def after(self, call: OutboundCall, reply: Reply) -> float | None:
        """Take note of a failed attempt; return the seconds until the next one, None when it was the last.

        An attempt that could not leave the client moves to another endpoint at once, at most `MAX_MOVES`
        times.
        """
        self.release(call, self._verdict(call, reply))
        if call.retries is None:
            call.retries = Retries(
                self._config.retry,
                self.budget,
                method=call.method,
                deadline=call.deadline,
                spare=min(len(self._endpoints) - 1, MAX_MOVES),
            )
        wait: float | None = call.retries.after(
            reply.code,
            reply.trailing_metadata,
            sent=reply.sent,
            committed=call.committed,
            now=time.monotonic(),
        )
        if wait is not None:
            self.retries += 1
            call.failed_at |= {call.endpoint}
        return wait

    def _verdict(self, call: OutboundCall, reply: Reply) -> bool | None:
        """Return what the failed attempt says of its endpoint.

        A stream that was answered has counted as a success already; that it then reached the deadline which
        its caller set for it says nothing more.
        """
        if call.answered and reply.code is StatusCode.DEADLINE_EXCEEDED:
            return None
        outcome_of = self._config.breaker.outcome_of
        if outcome_of is None:
            failed, ignored = reply.code in ENDPOINT_FAILURES, False
        else:
            outcome = outcome_of(call_error(call, reply))
            failed, ignored = outcome is CallOutcome.FAILURE, outcome is CallOutcome.IGNORED
        if failed:
            return False
        return None if call.answered or ignored else True


async def run(
    call: AnyInvocation, layers: Layers, endpoints: Endpoints, sleep: Sleep = asyncio.sleep
) -> Reply:
    """Make a call: as many attempts as the layers want, with the waits between them."""
    try:
        layers.begin(call)
        reply = await _attempts(call, layers, endpoints, sleep)
    except DeadlineError as error:
        reply = Reply(StatusCode.DEADLINE_EXCEEDED, str(error), sent=False)
    except asyncio.CancelledError:
        layers.give_up(call)
        raise
    except Exception:
        layers.end(call, ok=False)
        raise
    layers.end(call, ok=reply.code is StatusCode.OK)
    return reply


async def _attempts(call: AnyInvocation, layers: Layers, endpoints: Endpoints, sleep: Sleep) -> Reply:
    while True:
        try:
            endpoint = layers.attempt(call)
        except CircuitOpenError:
            return layers.refusal()
        call.proven = partial(layers.proven, call)
        try:
            transport = endpoints.transport(endpoint.address)
            reply = await call.perform(transport, sent_with(call))
        except BaseException:
            layers.release(call, None)
            raise
        if reply.code is StatusCode.OK:
            layers.succeeded(call)
            return reply
        wait = layers.after(call, reply)
        if wait is None:
            return reply
        if wait > 0:
            await sleep(wait)


def sent_with(call: Invocation) -> CallOptions:
    """Return what the next attempt is sent with: the time that is left, and the metadata as it is by now."""
    return call.options._replace(timeout=call.time_left(), metadata=call.sent_metadata())
