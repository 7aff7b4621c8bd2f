"""What a call passes on its way out, step by step; tests/client holds the layers against real servers."""

from __future__ import annotations

import math
import re
import time
from contextvars import ContextVar
from typing import Any

import pytest

from tai_grpc._ext.primitives.outbound import Outbound, OutboundCall
from tai_grpc.config import CircuitBreakerConfig, GrpcClientConfig, RetryBudgetConfig, TimeoutConfig
from tai_grpc.errors import CircuitOpenError, ConfigError, DeadlineError
from tai_grpc.observability.tracing import CURRENT_TRACE, TraceContext, trace_scope
from tai_grpc.resilience import CircuitState, LoadBalancer
from tai_grpc.resilience.timeout import CURRENT_DEADLINE, deadline_scope

HOUR = 3600.0
TRACE: ContextVar[Any] = CURRENT_TRACE


def made(**settings: Any) -> Outbound:
    settings.setdefault("timeout", TimeoutConfig(default_timeout=30.0, max_timeout=60.0))
    config = GrpcClientConfig(server_addresses=("a:1", "b:1"), **settings)
    balancer = LoadBalancer(config.server_addresses, breaker=config.breaker)
    return Outbound(config, balancer, TRACE, CURRENT_DEADLINE)


def begun(outbound: Outbound, timeout: float | None = None, *, long_lived: bool = False) -> OutboundCall:
    call = OutboundCall("/s/m", timeout, (), long_lived=long_lived)
    outbound.begin(call)
    return call


class TestDeadline:
    @pytest.mark.parametrize(
        ("asked", "got"), [(None, 30.0), (5.0, 5.0), (60, 60.0), (61.0, 60.0), (0.0, 0.0)]
    )
    def test_outside_of_a_handler_a_call_has_what_it_asks_for_within_the_maximum(
        self, asked: float | None, got: float
    ) -> None:
        before = time.monotonic()
        deadline = begun(made(), asked).deadline
        assert deadline is not None
        assert before + got <= deadline <= time.monotonic() + got

    @pytest.mark.parametrize("asked", [-1.0, math.nan, math.inf, 604_801.0, True, "5", [1]])
    @pytest.mark.parametrize("long_lived", [False, True])
    def test_a_timeout_that_is_no_number_of_seconds_is_refused(self, asked: Any, long_lived: bool) -> None:
        with pytest.raises(ConfigError, match=r"^timeout=.* from 0 to 604800$"):
            begun(made(), asked, long_lived=long_lived)

    @pytest.mark.parametrize("long_lived", [False, True])
    @pytest.mark.parametrize("asked", [None, HOUR])
    def test_a_call_made_in_a_handler_has_no_more_time_than_the_handler_has_left(
        self, asked: float | None, long_lived: bool
    ) -> None:
        with deadline_scope(time.monotonic() + 10.0):
            left = begun(made(), asked, long_lived=long_lived).time_left()
        assert left is not None
        assert 0.0 < left <= 10.0

    def test_a_call_made_in_a_handler_may_ask_for_less(self) -> None:
        with deadline_scope(time.monotonic() + HOUR):
            left = begun(made(), 5.0).time_left()
        assert left is not None
        assert left <= 5.0

    @pytest.mark.parametrize("long_lived", [False, True])
    def test_a_handler_without_time_left_makes_no_call(self, long_lived: bool) -> None:
        with (
            deadline_scope(time.monotonic()),
            pytest.raises(DeadlineError, match="the deadline of the handler that makes this call"),
        ):
            begun(made(), long_lived=long_lived)

    def test_a_stream_has_no_limit_unless_somebody_sets_one(self) -> None:
        assert begun(made(), long_lived=True).deadline is None
        assert begun(made(), long_lived=True).time_left() is None
        left = begun(made(stream_timeout=100.0), long_lived=True).time_left()
        assert left is not None
        assert 90.0 < left <= 100.0
        left = begun(made(), HOUR, long_lived=True).time_left()
        assert left is not None
        assert HOUR - 10.0 < left <= HOUR


class TestTrace:
    def test_a_call_outside_of_a_handler_begins_a_trace(self) -> None:
        outbound = made()
        spans = [dict(begun(outbound).sent_metadata()) for _ in range(1_000)]
        for span in spans:
            parent = str(span["traceparent"])
            assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", parent)
            assert span["x-trace-id"] == parent[3:35]
            assert TraceContext.from_metadata(tuple(span.items())) is not None
        assert len({span["x-trace-id"] for span in spans}) == len(spans)
        assert len({str(span["traceparent"])[36:52] for span in spans}) == len(spans)

    @pytest.mark.parametrize("alias", ["", "order-17"])
    @pytest.mark.parametrize("flags", [0, 1, 3])
    def test_a_call_made_in_a_handler_has_a_span_below_the_handlers(self, alias: str, flags: int) -> None:
        outer = TraceContext("ab" * 16, "cd" * 8, flags, alias)
        with trace_scope(outer):
            call = begun(made())
        span = TraceContext.from_metadata(call.sent_metadata())
        assert span is not None
        assert (span.trace_id, span.flags, span.alias) == (outer.trace_id, flags, alias)
        assert span.span_id != outer.span_id

    @pytest.mark.parametrize("key", ["traceparent", "x-trace-id"])
    def test_what_the_caller_sends_by_itself_stays_alone(self, key: str) -> None:
        call = OutboundCall("/s/m", None, (("k", "v"), (key, "mine")), long_lived=False)
        made().begin(call)
        assert call.sent_metadata() == (("k", "v"), (key, "mine"))


class TestAttempts:
    def test_a_success_is_told_to_balancer_breaker_and_budget(self) -> None:
        outbound = made(retry_budget=RetryBudgetConfig(max_tokens=10, token_ratio=0.5))
        outbound.budget.record_failure()
        call = begun(outbound)
        endpoint = outbound.attempt(call)
        assert (call.endpoint, call.attempts) == (endpoint.address, 1)
        assert outbound.balancer.get_stats()[0].active_connections == 1
        outbound.succeeded(call)
        outbound.end(call, ok=True)
        stats = outbound.balancer.get_stats()[0]
        assert (stats.active_connections, stats.total_requests, stats.failures) == (0, 1, 0)
        assert outbound.budget.tokens == 9.5
        assert (outbound.calls, outbound.failed, outbound.attempts, outbound.latency.count) == (1, 0, 1, 1)

    def test_when_every_breaker_refuses_no_endpoint_is_named(self) -> None:
        outbound = made(breaker=CircuitBreakerConfig(failure_threshold=1, open_timeout=60.0))
        for _ in range(2):
            call = begun(outbound)
            outbound.attempt(call)
            outbound.release(call, success=False)
        call = begun(outbound)
        with pytest.raises(CircuitOpenError):
            outbound.attempt(call)
        assert call.endpoint == ""
        outbound.end(call, ok=False)
        assert (outbound.calls, outbound.failed) == (1, 1)

    def test_a_proven_attempt_closes_a_half_open_breaker_and_counts_once(self) -> None:
        breaker = CircuitBreakerConfig(failure_threshold=1, open_timeout=0.001, half_open_max_calls=1)
        outbound = made(breaker=breaker)
        for address in ("a:1", "b:1"):
            outbound.balancer.breaker(address).record_failure()
        while max(outbound.balancer.breaker(address).retry_after() for address in ("a:1", "b:1")) > 0:
            pass
        call = begun(outbound, long_lived=True)
        outbound.attempt(call)
        outbound.proven(call)
        outbound.proven(call)
        assert call.answered
        assert outbound.balancer.breaker(call.endpoint).state is CircuitState.CLOSED

    def test_an_attempt_is_released_once_however_often_it_is_said(self) -> None:
        outbound = made()
        call = begun(outbound)
        outbound.attempt(call)
        outbound.release(call, success=False)
        outbound.give_up(call)
        assert sum(each.failures for each in outbound.balancer.get_stats()) == 1
        assert (outbound.calls, outbound.cancelled) == (1, 1)

    @pytest.mark.parametrize("long_lived", [False, True])
    def test_only_calls_with_one_response_have_a_latency(self, long_lived: bool) -> None:
        outbound = made()
        call = begun(outbound, long_lived=long_lived)
        outbound.end(call, ok=True)
        outbound.end(call, ok=False)
        assert outbound.latency.count == (0 if long_lived else 1)
