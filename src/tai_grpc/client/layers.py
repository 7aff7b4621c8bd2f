"""The layers that every call passes through, and their order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol

from grpc import StatusCode

from tai_grpc.client.endpoints import Endpoints
from tai_grpc.client.invocation import Invocation
from tai_grpc.client.stats import Meter
from tai_grpc.config import (
    MAX_SECONDS,
    CircuitBreakerConfig,
    GrpcClientConfig,
    Outcome,
    RetryConfig,
    check_float,
)
from tai_grpc.errors import CircuitOpenError, DeadlineError
from tai_grpc.observability.tracing import TraceContext, current_trace
from tai_grpc.resilience import RetryBudget
from tai_grpc.resilience.retry import Retries
from tai_grpc.resilience.timeout import current_deadline, effective_timeout, within_current
from tai_grpc.status import ENDPOINT_FAILURES
from tai_grpc.transport.base import CallOptions, Reply

MAX_MOVES: Final = 8
"""How many endpoints that cannot be reached a call leaves for another, before that counts as a failure."""

Handler = Callable[[Invocation], Awaitable[Reply]]


class Layer(Protocol):
    """Does its part of a call and leaves the rest to `proceed`."""

    def __call__(self, call: Invocation, proceed: Handler) -> Awaitable[Reply]: ...


def pipeline(config: GrpcClientConfig, endpoints: Endpoints, meter: Meter) -> Handler:
    """Stub -> trace -> metrics -> deadline -> retry -> pick endpoint -> its breaker -> transport.

    So a call that is refused is still measured; one deadline spans all attempts and the waits between them;
    a retry picks anew; a breaker sees attempts, not calls.

    The retry budget is the client's, not an endpoint's: the addresses are replicas of one service, and a
    retry's load goes to another of them.
    """
    budget = RetryBudget(config.retry_budget.max_tokens, config.retry_budget.token_ratio)
    layers: tuple[Layer, ...] = (
        trace,
        Measure(meter),
        Deadline(config),
        Retry(config.retry, budget, endpoints, meter),
    )
    handler: Handler = Balance(endpoints, meter, config.breaker)
    for layer in reversed(layers):
        handler = partial(layer, proceed=handler)
    return handler


async def trace(call: Invocation, proceed: Handler) -> Reply:
    """Give the call a span: the caller's own, or one below the handler's that makes it, or a new trace."""
    if TraceContext.from_metadata(call.metadata) is None:
        outer = current_trace()
        span = TraceContext.new() if outer is None else outer.child()
        call.metadata += span.to_metadata()
    return await proceed(call)


class Measure:
    """Counts the call, and how long it took when it has one response."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    async def __call__(self, call: Invocation, proceed: Handler) -> Reply:
        meter = self._meter
        start = time.perf_counter_ns()
        try:
            reply = await proceed(call)
        except asyncio.CancelledError:
            meter.cancelled += 1
            raise
        except Exception:
            meter.failed += 1
            raise
        finally:
            meter.calls += 1
        if reply.code is not StatusCode.OK:
            meter.failed += 1
        elif not call.long_lived:
            meter.latency.record((time.perf_counter_ns() - start) // 1000)
        return reply


class Deadline:
    """Sets the one deadline of the call and all its attempts, within that of the handler which makes it.

    A call with one response has the default timeout and at most the maximum. A stream of responses may be a
    watch that is meant to last: it has `stream_timeout`, and a longer one when its caller says so.
    """

    def __init__(self, config: GrpcClientConfig) -> None:
        self._config = config

    async def __call__(self, call: Invocation, proceed: Handler) -> Reply:
        try:
            timeout = (
                self._stream_timeout(call.options.timeout)
                if call.long_lived
                else effective_timeout(call.options.timeout, self._config.timeout)
            )
        except DeadlineError as error:
            return Reply(StatusCode.DEADLINE_EXCEEDED, str(error), sent=False)
        call.deadline = None if timeout is None else time.monotonic() + timeout
        return await proceed(call)

    def _stream_timeout(self, wanted: float | None) -> float | None:
        if wanted is None:
            wanted = self._config.stream_timeout
        else:
            check_float("timeout", wanted, 0.0, MAX_SECONDS)
        if wanted is None and current_deadline() is None:
            return None
        return within_current(MAX_SECONDS if wanted is None else wanted)


class Retry:
    """Makes attempts until one succeeds, commits the call, or is the last that the rules allow.

    An attempt that could not leave the client moves to another endpoint at once, at most `MAX_MOVES` times.
    """

    def __init__(self, config: RetryConfig, budget: RetryBudget, endpoints: Endpoints, meter: Meter) -> None:
        self._config = config
        self._budget = budget
        self._endpoints = endpoints
        self._meter = meter

    async def __call__(self, call: Invocation, proceed: Handler) -> Reply:
        spare = min(len(self._endpoints) - 1, MAX_MOVES)
        retries = Retries(
            self._config,
            self._budget,
            method=call.method,
            deadline=call.deadline,
            spare=spare,
        )
        metadata = call.metadata
        while True:
            reply = await proceed(call)
            if not call.endpoint:
                return reply
            wait = retries.after(
                reply.code,
                reply.trailing_metadata,
                sent=reply.sent,
                committed=call.committed,
                now=time.monotonic(),
            )
            if wait is None:
                return reply
            self._meter.retries += 1
            call.failed_at |= {call.endpoint}
            if retries.made:
                call.metadata = (*metadata, ("grpc-previous-rpc-attempts", str(retries.made)))
            if wait > 0:
                await asyncio.sleep(wait)


class Balance:
    """Picks an endpoint whose breaker admits the attempt, makes it there, and tells both how it went."""

    def __init__(self, endpoints: Endpoints, meter: Meter, breaker: CircuitBreakerConfig) -> None:
        self._endpoints = endpoints
        self._meter = meter
        self._outcome_of = breaker.outcome_of

    async def __call__(self, call: Invocation) -> Reply:
        try:
            endpoint = self._endpoints.pick(call.failed_at)
        except CircuitOpenError:
            call.endpoint = ""
            return Reply(StatusCode.UNAVAILABLE, self._endpoints.refusal(), sent=False)
        call.endpoint = endpoint.address
        call.attempts += 1
        self._meter.attempts += 1
        start = time.perf_counter_ns()
        answered = 0

        def proven() -> None:
            nonlocal answered
            if not answered:
                answered = time.perf_counter_ns()
                self._endpoints.breaker(endpoint.address).record_success()

        call.proven = proven
        success: bool | None = None
        try:
            reply = await call.perform(self._endpoints.transport(endpoint.address), _options(call))
            success = self._verdict(call, reply, answered=answered > 0)
        finally:
            self._endpoints.release(endpoint, success, (answered or time.perf_counter_ns()) - start)
        return reply

    def _verdict(self, call: Invocation, reply: Reply, *, answered: bool) -> bool | None:
        """Return what the end of an attempt says of its endpoint.

        A stream that was answered has counted as a success already; that it then reached the deadline which
        its caller set for it says nothing more.
        """
        if answered and reply.code is StatusCode.DEADLINE_EXCEEDED:
            return None
        if reply.code is StatusCode.OK or self._outcome_of is None:
            failed, ignored = reply.code in ENDPOINT_FAILURES, False
        else:
            outcome = self._outcome_of(call.error(reply))
            failed, ignored = outcome is Outcome.FAILURE, outcome is Outcome.IGNORED
        if failed:
            return False
        return None if answered or ignored else True


def _options(call: Invocation) -> CallOptions:
    """Return what the next attempt is sent with: the time that is left, and the metadata as it is by now."""
    timeout = None if call.deadline is None else max(0.0, call.deadline - time.monotonic())
    return call.options._replace(timeout=timeout, metadata=call.metadata)
