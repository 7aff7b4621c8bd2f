import gc
import math
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from weakref import ref

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tai_grpc._ext.primitives.breaker import MAX_CALLBACKS, CircuitBreaker, CircuitState, Outcome
from tai_grpc._ext.primitives.clock import FrozenClock
from tai_grpc.config import CircuitBreakerConfig
from tai_grpc.errors import CircuitOpenError, ConfigError

CLOSED, OPEN, HALF_OPEN = CircuitState
TICK = 65_536e-9
"""The breaker's unit of time in seconds: an era begins at least one after the last."""


@dataclass
class PlainBreaker:
    """The breaker's rules in plain Python, single-threaded. Time is in ticks; an era is its number."""

    threshold: int
    timeout: int
    probes: int
    now: int = 0
    state: CircuitState = CLOSED
    forced: bool = False
    disabled: bool = False
    era: int = 0
    began: int = 0
    failures: int = 0
    admitted: int = 0
    succeeded: int = 0
    last_admission: int = 0
    transitions: list[tuple[CircuitState, CircuitState]] = field(default_factory=list)

    def enter(self, state: CircuitState, *, forced: bool = False, disabled: bool = False) -> None:
        if state is not self.state:
            self.transitions.append((self.state, state))
        self.state, self.forced, self.disabled = state, forced, disabled
        self.began = max(self.now, self.began + 1)
        self.era += 1
        self.failures = self.admitted = self.succeeded = 0

    def acquire(self) -> int | None:
        """Return the era that the permit belongs to."""
        if self.state is not CLOSED:
            if self.wait() > 0:
                return None
            if self.state is OPEN:
                self.enter(HALF_OPEN)
            elif self.admitted == self.probes:
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
        if self.state is CLOSED or (self.state is HALF_OPEN and self.admitted < self.probes):
            return 0
        since = self.began if self.state is OPEN else max(self.began, self.last_admission)
        return max(0, since + self.timeout - self.now)

    def settle(self, era: int, outcome: Outcome) -> None:
        if era != self.era or self.disabled:
            return
        if self.state is CLOSED and outcome is not Outcome.IGNORED:
            self.failures = self.failures + 1 if outcome is Outcome.FAILURE else 0
            if self.failures == self.threshold:
                self.enter(OPEN)
        elif self.state is HALF_OPEN and self.admitted > self.succeeded:
            if outcome is Outcome.FAILURE:
                self.enter(OPEN)
            elif outcome is Outcome.IGNORED:
                self.admitted -= 1
            else:
                self.succeeded += 1
                if self.succeeded == self.probes:
                    self.enter(CLOSED)


class BreakerAgainstItsRules(RuleBasedStateMachine):
    """Whatever is done, in whatever order and at whatever time: both breakers do the same."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FrozenClock()
        self.clock.__enter__()

    def teardown(self) -> None:
        self.clock.__exit__()

    @initialize(threshold=st.integers(1, 4), milliseconds=st.integers(1, 50), probes=st.integers(1, 4))
    def begin(self, threshold: int, milliseconds: int, probes: int) -> None:
        timeout = milliseconds / 1000
        self.breaker = CircuitBreaker(CircuitBreakerConfig(threshold, timeout, probes))
        self.plain = PlainBreaker(threshold, math.ceil(timeout / TICK) + 1, probes)
        self.permits: list[tuple[int, int]] = []
        self.transitions: list[tuple[CircuitState, CircuitState]] = []
        self.breaker.on_transition(lambda old, new: self.transitions.append((old, new)))

    @rule(ticks=st.one_of(st.integers(0, 20), st.integers(0, 2000)))
    def time_passes(self, ticks: int) -> None:
        self.clock.advance(ticks * TICK)
        self.plain.now += ticks

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

    @rule(data=st.data(), outcome=st.sampled_from(Outcome))
    def settle(self, data: st.DataObject, outcome: Outcome) -> None:
        if self.permits:
            permit, era = self.permits.pop(data.draw(st.integers(0, len(self.permits) - 1)))
            self.breaker.settle(permit, outcome)
            self.plain.settle(era, outcome)

    @rule()
    def record_success(self) -> None:
        self.breaker.record_success()
        self.plain.settle(self.plain.era, Outcome.SUCCESS)

    @rule()
    def record_failure(self) -> None:
        self.breaker.record_failure()
        self.plain.settle(self.plain.era, Outcome.FAILURE)

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

    @invariant()
    def they_agree(self) -> None:
        assert self.breaker.state is self.plain.state
        assert self.breaker.forced_open is self.plain.forced
        assert self.breaker.disabled is self.plain.disabled
        assert self.breaker.retry_after() == pytest.approx(self.plain.wait() * TICK)
        assert self.transitions == self.plain.transitions


TestBreakerAgainstItsRules = BreakerAgainstItsRules.TestCase


def opened(clock: FrozenClock, *, timeout: float = 1.0, probes: int = 3) -> CircuitBreaker:
    """A breaker that is open and ready to admit probes."""
    breaker = CircuitBreaker(CircuitBreakerConfig(1, timeout, probes))
    breaker.record_failure()
    assert breaker.state is OPEN
    clock.advance(breaker.retry_after())
    return breaker


def test_consecutive_failures_open_it_and_a_success_between_them_does_not() -> None:
    breaker = CircuitBreaker(CircuitBreakerConfig(failure_threshold=3))
    for _ in range(10):
        breaker.record_failure()
        breaker.record_failure()
        breaker.record_success()
    assert breaker.state is CLOSED
    for _ in range(3):
        breaker.record_failure()
    assert breaker.state is OPEN


@pytest.mark.parametrize("threshold", [1, 2, 65535])
def test_the_threshold_is_met_exactly(threshold: int) -> None:
    breaker = CircuitBreaker(CircuitBreakerConfig(failure_threshold=threshold))
    for _ in range(threshold - 1):
        breaker.record_failure()
    assert breaker.state is CLOSED
    breaker.record_failure()
    assert breaker.state is OPEN


@pytest.mark.parametrize("timeout", [0.001, 0.25, 30.0, 604_800.0])
def test_it_is_open_for_its_timeout_and_at_most_0_2_ms_more(clock: FrozenClock, timeout: float) -> None:
    breaker = CircuitBreaker(CircuitBreakerConfig(1, timeout, 1))
    breaker.record_failure()
    assert timeout <= breaker.retry_after() <= timeout + 0.0002
    clock.advance(timeout)
    assert not breaker.is_call_allowed()
    clock.advance(0.0002)
    assert breaker.state is OPEN
    assert breaker.is_call_allowed()
    assert breaker.state is HALF_OPEN


def test_all_probes_must_succeed(clock: FrozenClock) -> None:
    breaker = opened(clock, probes=3)
    for remaining in (2, 1, 0):
        assert breaker.state is not CLOSED
        breaker.check()
        breaker.record_success()
        assert (breaker.state is CLOSED) is (remaining == 0)


def test_one_failed_probe_opens_it_again_for_the_whole_timeout(clock: FrozenClock) -> None:
    breaker = opened(clock, probes=3)
    breaker.check()
    breaker.record_success()
    breaker.check()
    breaker.record_failure()
    assert breaker.state is OPEN
    assert breaker.retry_after() >= 1.0


def test_the_result_of_an_earlier_era_is_dropped(clock: FrozenClock) -> None:
    """A call of the CLOSED era that fails late must not count against a probe, nor close by its success."""
    breaker = CircuitBreaker(CircuitBreakerConfig(1, 1.0, 1))
    slow_failure, slow_success, last_straw = breaker.acquire(), breaker.acquire(), breaker.acquire()
    breaker.settle(last_straw, Outcome.FAILURE)
    clock.advance(breaker.retry_after())
    probe = breaker.acquire()
    breaker.settle(slow_failure, Outcome.FAILURE)
    breaker.settle(slow_success, Outcome.SUCCESS)
    assert breaker.state is HALF_OPEN
    breaker.settle(probe, Outcome.SUCCESS)
    assert breaker.state is CLOSED


def test_a_call_that_was_given_up_gives_its_permit_back(clock: FrozenClock) -> None:
    breaker = opened(clock, probes=1)
    permit = breaker.acquire()
    assert breaker.acquire() == -1
    breaker.settle(permit, Outcome.IGNORED)
    assert breaker.state is HALF_OPEN
    assert breaker.acquire() == permit


def test_permits_never_reported_come_back_when_the_newest_is_a_timeout_old(clock: FrozenClock) -> None:
    breaker = opened(clock, timeout=1.0, probes=2)
    lost = breaker.acquire()
    clock.advance(0.9)
    slow = breaker.acquire()
    clock.advance(0.9)
    assert breaker.acquire() == -1, "the second call has been under way for less than open_timeout"
    clock.advance(breaker.retry_after())
    fresh = [breaker.acquire(), breaker.acquire()]
    assert -1 not in fresh
    assert breaker.acquire() == -1
    breaker.settle(lost, Outcome.FAILURE)
    breaker.settle(slow, Outcome.FAILURE)
    assert breaker.state is HALF_OPEN
    for permit in fresh:
        breaker.settle(permit, Outcome.SUCCESS)
    assert breaker.state is CLOSED


def test_successes_of_a_half_open_era_outlive_its_lost_permits(clock: FrozenClock) -> None:
    breaker = opened(clock, probes=2)
    breaker.settle(breaker.acquire(), Outcome.SUCCESS)
    assert breaker.acquire() >= 0
    clock.advance(breaker.retry_after())
    last = breaker.acquire()
    assert breaker.acquire() == -1
    breaker.settle(last, Outcome.SUCCESS)
    assert breaker.state is CLOSED


@pytest.mark.parametrize("probes", [1, 3, 255])
def test_half_open_admits_its_total_under_any_interleaving(
    clock: FrozenClock, hammer: Callable[[Callable[[], int]], list[int]], probes: int
) -> None:
    for _ in range(20):
        breaker = opened(clock, probes=probes)
        assert sum(hammer(lambda: sum(breaker.is_call_allowed() for _ in range(100)))) == probes  # noqa: B023


def test_threads_that_report_and_probe_at_once_make_each_transition_once(
    clock: FrozenClock, hammer: Callable[[Callable[[], None]], list[None]]
) -> None:
    """Every transition is told once: so each state is left as often as it is entered, or once less."""
    breaker = CircuitBreaker(CircuitBreakerConfig(2, 0.001, 2))
    told: list[tuple[CircuitState, CircuitState]] = []
    breaker.on_transition(lambda old, new: told.append((old, new)))

    def work() -> None:
        random = Random()
        for _ in range(5_000):
            permit = breaker.acquire()
            if permit < 0:
                clock.advance(0.0005)
            else:
                breaker.settle(permit, random.choice((Outcome.SUCCESS, Outcome.FAILURE, Outcome.IGNORED)))

    hammer(work)
    steps = Counter(told)
    assert set(steps) <= {(CLOSED, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, OPEN), (HALF_OPEN, CLOSED)}
    assert min(steps.values()) > 10
    for state in CircuitState:
        entered = sum(n for (_, new), n in steps.items() if new is state) + (state is CLOSED)
        left = sum(n for (old, _), n in steps.items() if old is state)
        assert entered - left == (state is breaker.state)


def test_failures_of_eight_threads_open_it_once(hammer: Callable[[Callable[[], None]], list[None]]) -> None:
    breaker = CircuitBreaker(CircuitBreakerConfig(failure_threshold=8_000))
    told: list[tuple[CircuitState, CircuitState]] = []
    breaker.on_transition(lambda old, new: told.append((old, new)))

    def work() -> None:
        for _ in range(999):
            breaker.record_failure()

    hammer(work)
    assert breaker.state is CLOSED, "7,992 failures are fewer than 8,000"
    hammer(breaker.record_failure)
    assert breaker.state is OPEN
    assert told == [(CLOSED, OPEN)]


def test_a_refusal_says_when_and_who(clock: FrozenClock) -> None:
    breaker = CircuitBreaker(CircuitBreakerConfig(1, 12.5, 1), name="payments")
    breaker.record_failure()
    with pytest.raises(
        CircuitOpenError, match=r"circuit breaker 'payments' is OPEN: try again in 12.500 s"
    ) as e:
        breaker.check()
    assert e.value.retry_after == breaker.retry_after()
    assert repr(breaker) == "<CircuitBreaker 'payments' OPEN>"


def test_forced_open_refuses_until_it_is_reset(clock: FrozenClock) -> None:
    breaker = CircuitBreaker(CircuitBreakerConfig(1, 0.001, 1))
    breaker.force_open()
    clock.advance(604_800.0)
    breaker.record_success()
    assert breaker.retry_after() == math.inf
    with pytest.raises(CircuitOpenError, match="forced open") as e:
        breaker.check()
    assert e.value.retry_after == math.inf
    breaker.reset()
    assert breaker.is_call_allowed()


def test_disabled_admits_and_counts_nothing() -> None:
    breaker = CircuitBreaker(CircuitBreakerConfig(failure_threshold=1))
    breaker.disable()
    for _ in range(10):
        breaker.record_failure()
    assert breaker.is_call_allowed()
    assert breaker.state is CLOSED


def test_a_reset_drops_the_results_of_calls_in_flight() -> None:
    breaker = CircuitBreaker(CircuitBreakerConfig(failure_threshold=1))
    permit = breaker.acquire()
    breaker.reset()
    breaker.settle(permit, Outcome.FAILURE)
    assert breaker.state is CLOSED


@pytest.mark.parametrize("error", [KeyError("broken"), SystemExit(3), KeyboardInterrupt()])
def test_a_callback_that_raises_breaks_nothing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    seen: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: seen.append((args.exc_value, args.object)))

    def broken(old: CircuitState, new: CircuitState) -> None:
        raise error

    breaker = CircuitBreaker(CircuitBreakerConfig(failure_threshold=1))
    breaker.on_transition(broken)
    breaker.on_transition(lambda old, new: seen.append((old, new)))
    breaker.record_failure()
    assert breaker.state is OPEN
    assert seen == [(error, broken), (CLOSED, OPEN)]


def test_a_callback_may_use_the_breaker() -> None:
    breaker = CircuitBreaker(CircuitBreakerConfig(failure_threshold=1))
    breaker.on_transition(lambda old, new: breaker.reset() if new is OPEN else None)
    breaker.record_failure()
    assert breaker.state is CLOSED


def test_callbacks_are_functions_and_bounded() -> None:
    breaker = CircuitBreaker()
    for _ in range(MAX_CALLBACKS):
        breaker.on_transition(print)
    with pytest.raises(ConfigError, match="at most 32 callbacks"):
        breaker.on_transition(print)
    with pytest.raises(ConfigError, match="callback=7"):
        breaker.on_transition(7)  # type: ignore[arg-type]  # what is tested


def test_a_callback_that_refers_to_its_breaker_is_collected_with_it() -> None:
    def make() -> ref[Callable[[CircuitState, CircuitState], None]]:
        breaker = CircuitBreaker()

        def callback(old: CircuitState, new: CircuitState) -> None:
            breaker.reset()

        breaker.on_transition(callback)
        return ref(callback)

    callback = make()
    gc.collect()
    assert callback() is None


@pytest.mark.parametrize("config", [5, "config", object(), {"failure_threshold": 5}])
def test_the_config_is_checked(config: CircuitBreakerConfig) -> None:
    with pytest.raises(ConfigError, match=r"config=.*a CircuitBreakerConfig"):
        CircuitBreaker(config)


def test_the_name_is_checked() -> None:
    with pytest.raises(ConfigError, match="name=5: expected a str"):
        CircuitBreaker(name=5)  # type: ignore[arg-type]  # what is tested


@pytest.mark.parametrize("permit", [-1, 2**45, 2**64, 1.0, True, None, "1"])
def test_a_permit_is_checked(permit: int) -> None:
    with pytest.raises(ConfigError, match=r"permit=.*an int from 0"):
        CircuitBreaker().settle(permit, Outcome.SUCCESS)


@pytest.mark.parametrize("outcome", [0, True, None, "SUCCESS"])
def test_an_outcome_is_checked(outcome: Outcome) -> None:
    breaker = CircuitBreaker()
    with pytest.raises(ConfigError, match=r"outcome=.*an Outcome"):
        breaker.settle(breaker.acquire(), outcome)
