import gc
import math
import sys
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any
from weakref import ref

import pytest

from tai_grpc._ext.primitives.breaker import MAX_CALLBACKS, CircuitBreaker, CircuitMetrics, CircuitState
from tai_grpc._ext.primitives.clock import FrozenClock
from tai_grpc.config import CallOutcome, CircuitBreakerConfig, Window
from tai_grpc.errors import CircuitOpenError, ConfigError

CLOSED, OPEN, HALF_OPEN = CircuitState
# Every mode, so set that one failure opens it.
ONE_FAILURE: dict[str, dict[str, Any]] = {
    "consecutive": {"failure_threshold": 1},
    "count": {"window": Window.COUNT, "window_size": 20, "minimum_calls": 1, "failure_rate_threshold": 0.01},
    "time": {"window": Window.TIME, "window_size": 20, "minimum_calls": 1, "failure_rate_threshold": 0.01},
}
EVERY_MODE = pytest.mark.parametrize("mode", ONE_FAILURE.values(), ids=ONE_FAILURE)


def opened(clock: FrozenClock, *, timeout: float = 1.0, probes: int = 3, **settings: Any) -> CircuitBreaker:
    """A breaker that is open and ready to admit probes."""
    settings = settings or ONE_FAILURE["consecutive"]
    config = CircuitBreakerConfig(open_timeout=timeout, half_open_max_calls=probes, **settings)
    breaker = CircuitBreaker(config)
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


@EVERY_MODE
def test_all_probes_must_succeed(clock: FrozenClock, mode: dict[str, Any]) -> None:
    breaker = opened(clock, probes=3, **mode)
    for remaining in (2, 1, 0):
        assert breaker.state is not CLOSED
        breaker.check()
        breaker.record_success()
        assert (breaker.state is CLOSED) is (remaining == 0)


@EVERY_MODE
def test_one_failed_probe_opens_it_again_for_the_whole_timeout(
    clock: FrozenClock, mode: dict[str, Any]
) -> None:
    breaker = opened(clock, probes=3, **mode)
    breaker.check()
    breaker.record_success()
    breaker.check()
    breaker.record_failure()
    assert breaker.state is OPEN
    assert breaker.retry_after() >= 1.0


@EVERY_MODE
def test_the_result_of_an_earlier_era_is_dropped(clock: FrozenClock, mode: dict[str, Any]) -> None:
    """A call of the CLOSED era that fails late must not count against a probe, nor close by its success."""
    breaker = CircuitBreaker(CircuitBreakerConfig(open_timeout=1.0, half_open_max_calls=1, **mode))
    slow_failure, slow_success, last_straw = breaker.acquire(), breaker.acquire(), breaker.acquire()
    breaker.settle(last_straw, CallOutcome.FAILURE)
    clock.advance(breaker.retry_after())
    probe = breaker.acquire()
    breaker.settle(slow_failure, CallOutcome.FAILURE)
    breaker.settle(slow_success, CallOutcome.SUCCESS)
    assert breaker.state is HALF_OPEN
    breaker.settle(probe, CallOutcome.SUCCESS)
    assert breaker.state is CLOSED


@EVERY_MODE
def test_a_call_that_was_given_up_gives_its_permit_back(clock: FrozenClock, mode: dict[str, Any]) -> None:
    breaker = opened(clock, probes=1, **mode)
    permit = breaker.acquire()
    assert breaker.acquire() == -1
    breaker.settle(permit, CallOutcome.IGNORED)
    assert breaker.state is HALF_OPEN
    assert breaker.acquire() == permit


@EVERY_MODE
def test_permits_never_reported_come_back_when_the_newest_is_a_timeout_old(
    clock: FrozenClock, mode: dict[str, Any]
) -> None:
    breaker = opened(clock, timeout=1.0, probes=2, **mode)
    lost = breaker.acquire()
    clock.advance(0.9)
    slow = breaker.acquire()
    clock.advance(0.9)
    assert breaker.acquire() == -1, "the second call has been under way for less than open_timeout"
    clock.advance(breaker.retry_after())
    fresh = [breaker.acquire(), breaker.acquire()]
    assert -1 not in fresh
    assert breaker.acquire() == -1
    breaker.settle(lost, CallOutcome.FAILURE)
    breaker.settle(slow, CallOutcome.FAILURE)
    assert breaker.state is HALF_OPEN
    for permit in fresh:
        breaker.settle(permit, CallOutcome.SUCCESS)
    assert breaker.state is CLOSED


@EVERY_MODE
def test_successes_of_a_half_open_era_outlive_its_lost_permits(
    clock: FrozenClock, mode: dict[str, Any]
) -> None:
    breaker = opened(clock, probes=2, **mode)
    breaker.settle(breaker.acquire(), CallOutcome.SUCCESS)
    assert breaker.acquire() >= 0
    clock.advance(breaker.retry_after())
    last = breaker.acquire()
    assert breaker.acquire() == -1
    breaker.settle(last, CallOutcome.SUCCESS)
    assert breaker.state is CLOSED


@EVERY_MODE
@pytest.mark.parametrize("probes", [1, 3, 255])
def test_half_open_admits_its_total_under_any_interleaving(
    clock: FrozenClock, hammer: Callable[[Callable[[], int]], list[int]], probes: int, mode: dict[str, Any]
) -> None:
    for _ in range(20):
        breaker = opened(clock, probes=probes, **mode)
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
                breaker.settle(permit, random.choice(list(CallOutcome)))

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


@EVERY_MODE
def test_forced_open_refuses_until_it_is_reset(clock: FrozenClock, mode: dict[str, Any]) -> None:
    breaker = CircuitBreaker(CircuitBreakerConfig(open_timeout=0.001, **mode))
    breaker.force_open()
    clock.advance(604_800.0)
    breaker.record_success()
    assert breaker.retry_after() == math.inf
    with pytest.raises(CircuitOpenError, match="forced open") as e:
        breaker.check()
    assert e.value.retry_after == math.inf
    breaker.reset()
    assert breaker.is_call_allowed()


@EVERY_MODE
def test_disabled_admits_and_counts_nothing(mode: dict[str, Any]) -> None:
    breaker = CircuitBreaker(CircuitBreakerConfig(**mode))
    breaker.disable()
    for _ in range(10):
        breaker.record_failure()
    assert breaker.is_call_allowed()
    assert (breaker.state, breaker.disabled) == (CLOSED, True)
    assert breaker.metrics().calls == 0


@EVERY_MODE
def test_metrics_only_admits_and_counts_and_never_opens(mode: dict[str, Any]) -> None:
    breaker = CircuitBreaker(CircuitBreakerConfig(**mode))
    breaker.force_open()
    breaker.metrics_only()
    for _ in range(10):
        breaker.settle(breaker.acquire(), CallOutcome.FAILURE)
        breaker.settle(breaker.acquire(), CallOutcome.IGNORED)
    assert (breaker.state, breaker.is_metrics_only, breaker.forced_open) == (CLOSED, True, False)
    assert (breaker.is_call_allowed(), breaker.retry_after()) == (True, 0.0)
    assert breaker.metrics() == CircuitMetrics(10, 10, 0, 1.0, 0.0)
    breaker.reset()
    assert not breaker.is_metrics_only
    assert breaker.metrics() == CircuitMetrics(0, 0, 0, 0.0, 0.0)
    breaker.record_failure()
    assert breaker.state is OPEN


def test_metrics_only_counts_consecutive_failures_to_65535_and_no_further() -> None:
    breaker = CircuitBreaker()
    breaker.metrics_only()
    for _ in range(65_540):
        breaker.record_failure()
    assert breaker.metrics().failures == 65_535
    breaker.record_success()
    assert breaker.metrics().failures == 0


@EVERY_MODE
@pytest.mark.parametrize("needed", [1, 2])
def test_fewer_successes_than_probes_may_close_it(
    clock: FrozenClock, mode: dict[str, Any], needed: int
) -> None:
    """And the probes still under way then are of an earlier era: they cannot open it again."""
    breaker = opened(clock, probes=3, success_threshold=needed, **mode)
    permits = [breaker.acquire() for _ in range(3)]
    assert -1 not in permits
    assert breaker.acquire() == -1
    for _ in range(needed):
        assert breaker.state is HALF_OPEN
        breaker.settle(permits.pop(), CallOutcome.SUCCESS)
    assert breaker.state is CLOSED
    breaker.settle(permits.pop(), CallOutcome.FAILURE)
    assert breaker.state is CLOSED
    assert breaker.metrics() == CircuitMetrics(0, 0, 0, 0.0, 0.0)


@EVERY_MODE
def test_a_slow_probe_opens_it_again(clock: FrozenClock, mode: dict[str, Any]) -> None:
    """Slow is longer than slow_call_duration, not as long."""
    breaker = opened(clock, probes=2, slow_call_duration=0.3, **mode)
    breaker.settle(breaker.acquire(), CallOutcome.SUCCESS, 0.3)
    assert breaker.state is HALF_OPEN
    breaker.settle(breaker.acquire(), CallOutcome.SUCCESS, 0.300001)
    assert breaker.state is OPEN


@EVERY_MODE
def test_a_slow_probe_that_was_given_up_says_nothing(clock: FrozenClock, mode: dict[str, Any]) -> None:
    breaker = opened(clock, probes=1, slow_call_duration=0.3, **mode)
    permit = breaker.acquire()
    breaker.settle(permit, CallOutcome.IGNORED, 100.0)
    assert breaker.acquire() == permit


def test_in_consecutive_mode_a_slow_call_is_a_failure() -> None:
    breaker = CircuitBreaker(CircuitBreakerConfig(failure_threshold=3, slow_call_duration=0.5))
    breaker.record_success(0.6)
    breaker.record_success(1)
    breaker.record_success(0.5)
    breaker.record_success(0.6)
    breaker.record_failure(0.6)
    assert (breaker.state, breaker.metrics().failures) == (CLOSED, 2)
    breaker.record_success(0.6)
    assert breaker.state is OPEN


def test_without_a_slow_call_duration_no_call_is_slow() -> None:
    breaker = CircuitBreaker(CircuitBreakerConfig(failure_threshold=1))
    breaker.record_success(1e9)
    assert breaker.state is CLOSED


def test_the_probes_that_succeeded_are_what_half_open_knows(clock: FrozenClock) -> None:
    breaker = opened(clock, probes=3)
    breaker.settle(breaker.acquire(), CallOutcome.SUCCESS)
    assert breaker.metrics() == CircuitMetrics(1, 0, 0, 0.0, 0.0)


@EVERY_MODE
def test_a_reset_drops_the_results_of_calls_in_flight(mode: dict[str, Any]) -> None:
    breaker = CircuitBreaker(CircuitBreakerConfig(**mode))
    permit = breaker.acquire()
    breaker.reset()
    breaker.settle(permit, CallOutcome.FAILURE)
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
        CircuitBreaker().settle(permit, CallOutcome.SUCCESS)


@pytest.mark.parametrize("duration", [-1, -1e-9, math.nan, math.inf, 1.1e9, 10**400, True, "1", [1]])
def test_a_duration_is_checked(duration: float) -> None:
    breaker = CircuitBreaker(CircuitBreakerConfig(failure_threshold=1, half_open_max_calls=1))
    refused = pytest.raises(ConfigError, match=r"duration=.*a number from 0 to 1e\+09")
    with refused:
        breaker.settle(0, CallOutcome.FAILURE, duration)
    with refused:
        breaker.record_success(duration)
    with refused:
        breaker.record_failure(duration)
    assert breaker.state is CLOSED


@pytest.mark.parametrize("outcome", [0, True, None, "SUCCESS"])
def test_an_outcome_is_checked(outcome: CallOutcome) -> None:
    breaker = CircuitBreaker()
    with pytest.raises(ConfigError, match=r"outcome=.*a CallOutcome"):
        breaker.settle(breaker.acquire(), outcome)
