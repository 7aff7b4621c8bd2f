"""The breaker against its rules in plain Python, in all three modes, whatever is done in whatever order."""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tai_grpc._ext.primitives.breaker import CircuitBreaker, CircuitMetrics, CircuitState
from tai_grpc._ext.primitives.clock import FrozenClock
from tai_grpc.config import CallOutcome, CircuitBreakerConfig, Window

CLOSED, OPEN, HALF_OPEN = CircuitState
TICK = 65_536e-9
"""The breaker's unit of time in seconds: an era begins at least one after the last."""
SLOW = 0.1


@dataclass
class Call:
    bucket: int
    failed: bool
    slow: bool


@dataclass
class PlainBreaker:
    """The breaker's rules in plain Python, single-threaded. Time is in ticks; an era is its number."""

    config: CircuitBreakerConfig
    now: int = 0
    state: CircuitState = CLOSED
    forced: bool = False
    disabled: bool = False
    metrics_only: bool = False
    era: int = 0
    began: int = 0
    failures: int = 0
    calls: deque[Call] = field(default_factory=deque)
    admitted: int = 0
    succeeded: int = 0
    last_admission: int = 0
    transitions: list[tuple[CircuitState, CircuitState]] = field(default_factory=list)

    @property
    def timeout(self) -> int:
        return math.ceil(self.config.open_timeout / TICK) + 1

    def enter(
        self,
        state: CircuitState,
        *,
        forced: bool = False,
        disabled: bool = False,
        metrics_only: bool = False,
    ) -> None:
        if state is not self.state:
            self.transitions.append((self.state, state))
        self.state = state
        self.forced, self.disabled, self.metrics_only = forced, disabled, metrics_only
        self.began = max(self.now, self.began + 1)
        self.era += 1
        self.failures = self.admitted = self.succeeded = 0
        self.calls.clear()

    def acquire(self) -> int | None:
        """Return the era that the permit belongs to."""
        if self.state is not CLOSED:
            if self.wait() > 0:
                return None
            if self.state is OPEN:
                self.enter(HALF_OPEN)
            elif self.admitted == self.config.half_open_max_calls:
                kept = self.succeeded
                self.enter(HALF_OPEN)
                self.admitted = self.succeeded = kept
            self.admitted += 1
            self.last_admission = self.now
        return self.era

    def wait(self) -> float:
        """Ticks until a call may be admitted."""
        if self.forced:
            return math.inf
        if self.state is CLOSED:
            return 0
        if self.state is HALF_OPEN and self.admitted < self.config.half_open_max_calls:
            return 0
        since = self.began if self.state is OPEN else max(self.began, self.last_admission)
        return max(0, since + self.timeout - self.now)

    def settle(self, era: int, outcome: CallOutcome, *, slow: bool = False) -> None:
        slow = slow and self.config.slow_call_duration is not None
        failed = outcome is CallOutcome.FAILURE
        if era != self.era or self.disabled:
            return
        if self.state is CLOSED and outcome is not CallOutcome.IGNORED:
            self.count(failed, slow)
            if self.exceeded() and not self.metrics_only:
                self.enter(OPEN)
        elif self.state is HALF_OPEN and self.admitted > self.succeeded:
            if outcome is CallOutcome.IGNORED:
                self.admitted -= 1
            elif failed or slow:
                self.enter(OPEN)
            else:
                self.succeeded += 1
                if self.succeeded == (self.config.success_threshold or self.config.half_open_max_calls):
                    self.enter(CLOSED)

    def bucket(self) -> int:
        """The tenth of a TIME window that it is now, since the era began."""
        return max(0, self.now - self.began) // self.bucket_ticks

    @property
    def bucket_ticks(self) -> int:
        return math.ceil(self.config.window_size / 10 / TICK)

    def count(self, failed: bool, slow: bool) -> None:
        self.failures = self.failures + 1 if failed or slow else 0
        self.calls.append(Call(self.bucket(), failed, slow))
        if self.config.window is Window.COUNT and len(self.calls) > self.config.window_size:
            self.calls.popleft()

    def exceeded(self) -> bool:
        config, seen = self.config, self.metrics()
        if config.window is Window.CONSECUTIVE:
            return seen.failures >= config.failure_threshold
        assert config.minimum_calls is not None
        return seen.calls >= config.minimum_calls and (
            seen.failure_rate >= config.failure_rate_threshold
            or seen.slow_call_rate >= config.slow_call_rate_threshold
        )

    def metrics(self) -> CircuitMetrics:
        if self.state is HALF_OPEN:
            return CircuitMetrics(self.succeeded, 0, 0, 0.0, 0.0)
        if self.config.window is Window.CONSECUTIVE:
            return CircuitMetrics(self.failures, self.failures, 0, float(self.failures > 0), 0.0)
        known = [call for call in self.calls if not self.over(call)]
        failures, slow = sum(call.failed for call in known), sum(call.slow for call in known)
        n = max(1, len(known))
        return CircuitMetrics(len(known), failures, slow, failures / n, slow / n)

    def over(self, call: Call) -> bool:
        return self.config.window is Window.TIME and call.bucket <= self.bucket() - 10


RATES = st.sampled_from([0.01, 0.2, 1 / 3, 0.5, 0.6, 2 / 3, 0.9, 1.0])


@st.composite
def settings(draw: st.DrawFn) -> CircuitBreakerConfig:
    window = draw(st.sampled_from(Window))
    probes = draw(st.integers(1, 4))
    chosen: dict[str, Any] = {
        "window": window,
        "open_timeout": draw(st.integers(1, 50)) / 1000,
        "half_open_max_calls": probes,
        "success_threshold": draw(st.none() | st.integers(1, probes)),
        "slow_call_duration": draw(st.none() | st.just(SLOW)),
    }
    if window is Window.CONSECUTIVE:
        return CircuitBreakerConfig(**chosen, failure_threshold=draw(st.integers(1, 4)))
    chosen["window_size"] = size = draw(st.integers(1, 3 if window is Window.TIME else 30))
    chosen["minimum_calls"] = draw(st.integers(1, min(size, 8) if window is Window.COUNT else 8))
    chosen["failure_rate_threshold"] = draw(RATES)
    if chosen["slow_call_duration"] is not None:
        chosen["slow_call_rate_threshold"] = draw(RATES)
    return CircuitBreakerConfig(**chosen)


class BreakerAgainstItsRules(RuleBasedStateMachine):
    """Both breakers do the same, with several permits out, settled in any order, early or late."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FrozenClock()
        self.clock.__enter__()

    def teardown(self) -> None:
        self.clock.__exit__()

    @initialize(config=settings())
    def begin(self, config: CircuitBreakerConfig) -> None:
        self.breaker = CircuitBreaker(config)
        self.plain = PlainBreaker(config)
        self.permits: list[tuple[int, int]] = []
        self.transitions: list[tuple[CircuitState, CircuitState]] = []
        self.breaker.on_transition(lambda old, new: self.transitions.append((old, new)))

    @rule(ticks=st.one_of(st.integers(0, 20), st.integers(0, 2000)))
    def time_passes(self, ticks: int) -> None:
        self.clock.advance(ticks * TICK)
        self.plain.now += ticks

    @rule(tenths=st.integers(1, 21), short=st.integers(0, 1))
    def buckets_pass(self, tenths: int, short: int) -> None:
        """To the start of a later bucket of a TIME window, or to the tick before it."""
        bucket, began = self.plain.bucket(), self.plain.began
        self.time_passes(max(0, began + (bucket + tenths) * self.plain.bucket_ticks - short - self.plain.now))

    @rule()
    def wait_out(self) -> None:
        wait = self.breaker.retry_after()
        if math.isfinite(wait):
            self.clock.advance(wait)
            self.plain.now += round(wait / TICK)

    @rule()
    def acquire(self) -> None:
        permit, era = self.breaker.acquire(), self.plain.acquire()
        assert (permit >= 0) is (era is not None)
        if era is not None:
            assert all((permit == other) is (era == its) for other, its in self.permits)
            self.permits.append((permit, era))

    @rule()
    def ask(self) -> None:
        assert self.breaker.is_call_allowed() is (self.plain.acquire() is not None)

    @rule(data=st.data(), outcome=st.sampled_from(CallOutcome), slow=st.booleans())
    def settle(self, data: st.DataObject, outcome: CallOutcome, slow: bool) -> None:
        if self.permits:
            permit, era = self.permits.pop(data.draw(st.integers(0, len(self.permits) - 1)))
            self.breaker.settle(permit, outcome, 2 * SLOW if slow else SLOW)
            self.plain.settle(era, outcome, slow=slow)

    @rule(calls=st.lists(st.tuples(st.booleans(), st.booleans()), max_size=12))
    def record(self, calls: list[tuple[bool, bool]]) -> None:
        for failed, slow in calls:
            duration = 2 * SLOW if slow else None
            if failed:
                self.breaker.record_failure(duration)
            else:
                self.breaker.record_success(duration)
            outcome = CallOutcome.FAILURE if failed else CallOutcome.SUCCESS
            self.plain.settle(self.plain.era, outcome, slow=slow)
            self.they_agree()

    @rule()
    def reset(self) -> None:
        self.breaker.reset()
        self.plain.enter(CLOSED)

    @rule()
    def force_open(self) -> None:
        self.breaker.force_open()
        self.plain.enter(OPEN, forced=True)

    @rule()
    def disable(self) -> None:
        self.breaker.disable()
        self.plain.enter(CLOSED, disabled=True)

    @rule()
    def metrics_only(self) -> None:
        self.breaker.metrics_only()
        self.plain.enter(CLOSED, metrics_only=True)

    @invariant()
    def they_agree(self) -> None:
        assert self.breaker.state is self.plain.state
        assert self.breaker.forced_open is self.plain.forced
        assert self.breaker.disabled is self.plain.disabled
        assert self.breaker.is_metrics_only is self.plain.metrics_only
        assert self.breaker.retry_after() == pytest.approx(self.plain.wait() * TICK)
        assert self.breaker.metrics() == self.plain.metrics()
        assert self.transitions == self.plain.transitions


TestBreakerAgainstItsRules = BreakerAgainstItsRules.TestCase
