"""The layers of a client. `_ext/primitives/outbound.pyx` states their order and says what is done next.

Here is what they ask when an attempt has failed: what that says of its endpoint, whether there is another
attempt, and where; and the driver of calls that are asyncio tasks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Final

from grpc import StatusCode

from tai_grpc._ext.primitives.outbound import END, WAIT, Outbound, OutboundCall
from tai_grpc.client.endpoints import AnyEndpoints, Endpoints
from tai_grpc.client.invocation import AnyInvocation, Invocation, call_error
from tai_grpc.config import CODE_OUTCOMES, CallOutcome, GrpcClientConfig
from tai_grpc.errors import CircuitOpenError, DeadlineError
from tai_grpc.observability.tracing import CURRENT_TRACE
from tai_grpc.resilience import Endpoint
from tai_grpc.resilience.retry import Retries
from tai_grpc.resilience.timeout import CURRENT_DEADLINE
from tai_grpc.transport.base import CallOptions, Reply

MAX_MOVES: Final = 8
"""How many endpoints that cannot be reached a call leaves for another, before that counts as a failure."""

Sleep = Callable[[float], Awaitable[None]]


class Layers(Outbound):
    """The layers of one client. How an attempt or a call has ended is a `Reply`."""

    def __init__(self, config: GrpcClientConfig, endpoints: AnyEndpoints) -> None:
        super().__init__(config, endpoints.balancer, CURRENT_TRACE, CURRENT_DEADLINE)
        self._config = config
        self._endpoints = endpoints

    def pick_elsewhere(self, avoid: Collection[str]) -> Endpoint:
        return self._endpoints.pick(avoid)

    def refused(self, call: OutboundCall, error: DeadlineError | CircuitOpenError) -> Reply:
        """Return what the call ends with; when attempts have failed before, the last one's status."""
        if isinstance(error, DeadlineError):
            return Reply(StatusCode.DEADLINE_EXCEEDED, str(error), sent=False)
        refusal = self._endpoints.refusal()
        last: Reply | None = call.reply
        if last is None:
            return Reply(StatusCode.UNAVAILABLE, refusal, sent=False)
        return last._replace(details=f"{last.details}; it is not tried again: {refusal}")

    def verdict(self, call: OutboundCall, ended: Reply) -> bool | None:
        """Return what the failed attempt says of its endpoint.

        A stream that was answered has counted as a success already; that it then reached the deadline which
        its caller set for it says nothing more.
        """
        if call.answered and ended.code is StatusCode.DEADLINE_EXCEEDED:
            return None
        outcome_of = self._config.breaker.outcome_of
        if outcome_of is None:
            outcome = CODE_OUTCOMES[ended.code.name]
        else:
            outcome = outcome_of(call_error(call, ended))
        if outcome is CallOutcome.FAILURE:
            return False
        return None if call.answered or outcome is CallOutcome.IGNORED else True

    def wait_after(self, call: OutboundCall, ended: Reply) -> float | None:
        """Return the seconds until the next attempt, None when this one was the last.

        An attempt that could not leave the client moves to another endpoint at once, at most `MAX_MOVES`
        times.
        """
        if call.retries is None:
            call.retries = Retries(
                self._config.retry,
                self.budget,
                method=call.method,
                deadline=call.deadline,
                spare=min(len(self._endpoints) - 1, MAX_MOVES),
            )
        wait: float | None = call.retries.after(
            ended.code,
            ended.trailing_metadata,
            sent=ended.sent,
            committed=call.committed,
            now=time.monotonic(),
        )
        return wait


async def run(
    call: AnyInvocation,
    layers: Layers,
    endpoints: Endpoints,
    sleep: Sleep = asyncio.sleep,
    ended: Reply | None = None,
) -> Reply:
    """Make a call: as many attempts as the layers want, with the waits between them; none with an end."""
    try:
        while (step := layers.next_step(call, ended)) != END:
            if step == WAIT:
                ended = None
                await sleep(call.wait)
            else:
                call.proven = partial(layers.proven, call)
                ended = await call.perform(endpoints.transport(call.endpoint), sent_with(call))
    except asyncio.CancelledError:
        layers.give_up(call)
        raise
    except BaseException:
        layers.fail(call)
        raise
    reply: Reply = call.reply
    return reply


def sent_with(call: Invocation) -> CallOptions:
    """Return what the next attempt is sent with: the time that is left, and the metadata as it is by now."""
    return call.options._replace(timeout=call.time_left(), metadata=call.sent_metadata())
