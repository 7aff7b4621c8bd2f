"""What a call passes on its way out, step by step; tests/client holds the layers against real servers."""

from __future__ import annotations

import math
import re
import time
from contextvars import ContextVar
from typing import Any, NamedTuple

import pytest

from tai_grpc._ext.primitives.outbound import ATTEMPT, END, WAIT, Outbound, OutboundCall
from tai_grpc.config import CircuitBreakerConfig, GrpcClientConfig, RetryBudgetConfig, TimeoutConfig
from tai_grpc.errors import CircuitOpenError, ConfigError, DeadlineError
from tai_grpc.observability.tracing import CURRENT_TRACE, TraceContext, trace_scope
from tai_grpc.resilience import CircuitState, LoadBalancer
from tai_grpc.resilience.timeout import CURRENT_DEADLINE, deadline_scope

HOUR = 3600.0
TRACE: ContextVar[Any] = CURRENT_TRACE


class Ended(NamedTuple):
    """How an attempt ended, as far as the layers ask."""

    ok: bool


class Steps(Outbound):
    """Each failed attempt is followed by another as long as there are `waits`."""

    waits: tuple[float, ...] = ()

    def verdict(self, call: OutboundCall, ended: Any) -> bool | None:
        return False

    def wait_after(self, call: OutboundCall, ended: Any) -> float | None:
        if not self.waits:
            return None
        wait, *rest = self.waits
        self.waits = tuple(rest)
        return wait

    def refused(self, call: OutboundCall, error: DeadlineError | CircuitOpenError) -> Any:
        return error


OK, FAILED = Ended(ok=True), Ended(ok=False)


def made(**settings: Any) -> Steps:
    settings.setdefault("timeout", TimeoutConfig(default_timeout=30.0, max_timeout=60.0))
    config = GrpcClientConfig(server_addresses=("a:1", "b:1"), **settings)
    balancer = LoadBalancer(config.server_addresses, breaker=config.breaker)
    return Steps(config, balancer, TRACE, CURRENT_DEADLINE)


def begun(outbound: Outbound, timeout: float | None = None, *, long_lived: bool = False) -> OutboundCall:
    call = OutboundCall("/s/m", timeout, (), long_lived=long_lived)
    assert outbound.next_step(call, None) == ATTEMPT
    return call


class TestDeadline:
    @pytest.mark.parametrize(
        ("asked", "got"), [(None, 30.0), (5.0, 5.0), (60, 60.0), (1e9, 60.0), (math.inf, 60.0), (1e-9, 0.0)]
    )
    def test_outside_of_a_handler_a_call_has_what_it_asks_for_within_the_maximum(
        self, asked: float | None, got: float
    ) -> None:
        before = time.monotonic()
        deadline = begun(made(), asked).deadline
        assert deadline is not None
        assert before + got <= deadline <= time.monotonic() + got

    @pytest.mark.parametrize("asked", [math.nan, True, "5", b"5", [1]])
    @pytest.mark.parametrize("long_lived", [False, True])
    def test_a_timeout_that_is_no_number_is_refused(self, asked: Any, long_lived: bool) -> None:
        with pytest.raises(ConfigError, match=r"^timeout=.*: expected a number of seconds, or None$"):
            OutboundCall("/s/m", asked, (), long_lived=long_lived)

    @pytest.mark.parametrize("asked", [0, 0.0, -1e-9, -1.0, -math.inf])
    @pytest.mark.parametrize("long_lived", [False, True])
    def test_a_deadline_that_has_passed_leaves_no_attempt(self, asked: float, long_lived: bool) -> None:
        """A caller works out `deadline - now`, which may be less than nothing by then."""
        outbound = made()
        call = OutboundCall("/s/m", asked, (), long_lived=long_lived)
        assert outbound.next_step(call, None) == END
        assert isinstance(call.reply, DeadlineError)
        assert (outbound.calls, outbound.failed, outbound.attempts, call.attempts) == (1, 1, 0, 0)

    @pytest.mark.parametrize("asked", [1e9, math.inf])
    def test_the_longest_timeout_of_a_stream_is_ten_years_at_least(self, asked: float) -> None:
        left = begun(made(), asked, long_lived=True).time_left()
        assert left is not None
        assert left > 315_000_000.0

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
        call = OutboundCall("/s/m", None, (), long_lived=long_lived)
        with deadline_scope(time.monotonic()):
            assert made().next_step(call, None) == END
        assert isinstance(call.reply, DeadlineError)
        assert "the deadline of the handler that makes this call" in str(call.reply)

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
        made().next_step(call, None)
        assert call.sent_metadata() == (("k", "v"), (key, "mine"))


class TestMetadata:
    @pytest.mark.parametrize(
        ("metadata", "error", "said"),
        [
            ({"key": "value"}, TypeError, "expected (key, value) pairs, as a dict's items() are: got str"),
            ("ab", TypeError, "got str"),
            (5, TypeError, "got int"),
            ((("a", "b", "secret"),), TypeError, "got tuple"),
            (((1, "b"),), TypeError, "a key is a str, not int"),
            ((("a", 1),), TypeError, "metadata 'a': a value is a str"),
            ((("a-bin", "b"),), TypeError, "metadata 'a-bin': the value of a -bin key is bytes, not str"),
            ((("Upper", "b"),), ValueError, "key 'Upper' is not of lower-case letters"),
            ((("", "b"),), ValueError, "key '' is not of"),
            ((("te", "b"),), ValueError, "key 'te' is the protocol's own"),
            ((("a", "sécret"),), ValueError, "the value of 'a' is not printable ASCII"),
        ],
    )
    def test_what_cannot_be_sent_is_named_and_its_value_is_not(
        self, metadata: Any, error: type[Exception], said: str
    ) -> None:
        with pytest.raises(error, match=re.escape(said)) as caught:
            OutboundCall("/s/m", None, metadata, long_lived=False)
        assert "cret" not in str(caught.value)

    @pytest.mark.parametrize("metadata", [[("a", "b"), ["c-bin", b"\xff"]], {"a": "b"}.items(), (), None])
    def test_any_iterable_of_pairs_will_do(self, metadata: Any) -> None:
        call = OutboundCall("/s/m", None, metadata, long_lived=False)
        assert call.metadata == tuple(metadata or ())


class TestSteps:
    def test_a_success_is_told_to_balancer_breaker_and_budget(self) -> None:
        outbound = made(retry_budget=RetryBudgetConfig(max_tokens=10, token_ratio=0.5))
        outbound.budget.record_failure()
        call = begun(outbound)
        assert (call.endpoint, call.attempts, call.over) == ("a:1", 1, False)
        assert outbound.balancer.get_stats()[0].active_connections == 1
        assert outbound.next_step(call, OK) == END
        assert (call.reply, call.over) == (OK, True)
        stats = outbound.balancer.get_stats()[0]
        assert (stats.active_connections, stats.total_requests, stats.failures) == (0, 1, 0)
        assert outbound.budget.tokens == 9.5
        assert (outbound.calls, outbound.failed, outbound.attempts, outbound.latency.count) == (1, 0, 1, 1)

    def test_a_failed_attempt_is_followed_by_another_at_once_or_after_a_wait(self) -> None:
        outbound = made()
        outbound.waits = (0.0, 1.5)
        call = begun(outbound)
        assert outbound.next_step(call, FAILED) == ATTEMPT
        assert (call.endpoint, call.attempts) == ("b:1", 2)
        assert outbound.next_step(call, FAILED) == WAIT
        assert (call.wait, call.failed_at, call.over) == (1.5, frozenset({"a:1", "b:1"}), False)
        assert outbound.next_step(call, None) == ATTEMPT
        assert outbound.next_step(call, FAILED) == END
        assert (call.reply, call.over, call.attempts) == (FAILED, True, 3)
        assert (outbound.calls, outbound.failed, outbound.attempts, outbound.retries) == (1, 1, 3, 2)
        assert sum(each.failures for each in outbound.balancer.get_stats()) == 3

    def test_a_call_may_end_without_an_attempt(self) -> None:
        """As when its client has too many, or was closed while it waited: no attempt follows."""
        outbound = made()
        outbound.waits = (1.0,)
        call = OutboundCall("/s/m", None, (), long_lived=False)
        assert outbound.next_step(call, FAILED) == END
        waiting = begun(outbound)
        assert outbound.next_step(waiting, FAILED) == WAIT
        assert outbound.next_step(waiting, FAILED) == END
        assert (outbound.calls, outbound.failed, outbound.attempts) == (2, 2, 1)

    def test_when_every_breaker_refuses_the_call_ends(self) -> None:
        outbound = made(breaker=CircuitBreakerConfig(failure_threshold=1, open_timeout=60.0))
        outbound.waits = (0.0, 0.0)
        call = begun(outbound)
        assert outbound.next_step(call, FAILED) == ATTEMPT
        assert outbound.next_step(call, FAILED) == END
        assert (type(call.reply), call.endpoint) == (CircuitOpenError, "b:1")
        fresh = OutboundCall("/s/m", None, (), long_lived=False)
        assert outbound.next_step(fresh, None) == END
        assert (type(fresh.reply), fresh.endpoint, fresh.attempts) == (CircuitOpenError, "", 0)
        assert (outbound.calls, outbound.failed) == (2, 2)

    def test_a_proven_attempt_closes_a_half_open_breaker_and_counts_once(self) -> None:
        breaker = CircuitBreakerConfig(failure_threshold=1, open_timeout=0.001, half_open_max_calls=1)
        outbound = made(breaker=breaker)
        for address in ("a:1", "b:1"):
            outbound.balancer.breaker(address).record_failure()
        while max(outbound.balancer.breaker(address).retry_after() for address in ("a:1", "b:1")) > 0:
            pass
        call = begun(outbound, long_lived=True)
        outbound.proven(call)
        outbound.proven(call)
        assert call.answered
        assert outbound.balancer.breaker(call.endpoint).state is CircuitState.CLOSED

    @pytest.mark.parametrize("end", ["give_up", "fail"])
    def test_a_call_ends_once_however_often_it_is_said(self, end: str) -> None:
        outbound = made()
        call = begun(outbound)
        getattr(outbound, end)(call)
        outbound.give_up(call)
        outbound.fail(call)
        stats = outbound.balancer.get_stats()
        assert [(each.active_connections, each.failures) for each in stats] == [(0, 0), (0, 0)]
        cancelled, failed = (1, 0) if end == "give_up" else (0, 1)
        assert (outbound.calls, outbound.cancelled, outbound.failed) == (1, cancelled, failed)

    @pytest.mark.parametrize("long_lived", [False, True])
    def test_only_calls_with_one_response_have_a_latency(self, long_lived: bool) -> None:
        outbound = made()
        outbound.next_step(begun(outbound, long_lived=long_lived), OK)
        outbound.next_step(begun(outbound, long_lived=long_lived), FAILED)
        assert outbound.latency.count == (0 if long_lived else 1)
