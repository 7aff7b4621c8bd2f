"""Outlier ejection by the tables of gRFC A50, panic, and slow start."""

from collections import Counter

import pytest

from tai_grpc._ext.primitives.balancer import LoadBalancer
from tai_grpc._ext.primitives.clock import FrozenClock
from tai_grpc.config import (
    CircuitBreakerConfig,
    FailurePercentageEjection,
    LoadBalancingStrategy,
    OutlierConfig,
    SlowStartConfig,
    SuccessRateEjection,
)
from tai_grpc.errors import CircuitOpenError, ConfigError

EVERY_STRATEGY = pytest.mark.parametrize("strategy", list(LoadBalancingStrategy))
BY_RATE = OutlierConfig(failure_percentage=None)
BY_PERCENTAGE = OutlierConfig(success_rate=None)


def names(count: int) -> list[str]:
    return [f"s{i}" for i in range(count)]


def interval(
    balancer: LoadBalancer, clock: FrozenClock, failures: list[int], calls: int = 100, seconds: float = 10.0
) -> set[str]:
    """Each endpoint answers `calls` calls, the first of them failures; return who is ejected afterwards.

    Who is passed over has none, and draws decide how many the others have: what is beyond its `calls` says
    nothing.
    """
    wanted = dict(zip(balancer.addresses, failures, strict=True))
    done: Counter[str] = Counter()
    usable = {stats.address for stats in balancer.get_stats() if not stats.ejected}
    while any(done[address] < calls for address in usable):
        endpoint = balancer.pick()
        address = endpoint.address
        done[address] += 1
        if done[address] <= calls:
            balancer.release(endpoint, done[address] > wanted[address], 100)
    clock.advance(seconds)
    balancer.release(balancer.pick(), None, 0)
    return ejected(balancer)


def ejected(balancer: LoadBalancer) -> set[str]:
    return {stats.address for stats in balancer.get_stats() if stats.ejected}


def picked(balancer: LoadBalancer, times: int) -> Counter[str]:
    return Counter(balancer.pick().address for _ in range(times))


@pytest.mark.parametrize(
    ("failures", "calls", "expected"),
    [
        # One of five is two deviations from the mean, however little it is.
        ([0, 0, 50, 0, 0], 100, {"s2"}),
        ([0, 0, 1, 0, 0], 100, {"s2"}),
        ([100, 100, 101, 100, 100], 200, {"s2"}),
        # Nobody is below the mean of equals.
        ([40, 40, 40, 40, 40], 100, set()),
        ([0, 0, 0, 0, 0], 100, set()),
        # Two of six are 1.41 deviations from it, one that does better is on the other side.
        ([50, 0, 50, 0, 0, 0], 100, set()),
        ([50, 50, 50, 0, 50, 50], 100, set()),
        # Too few calls; too few hosts.
        ([0, 0, 50, 0, 0], 99, set()),
        ([0, 0, 50, 0], 100, set()),
    ],
)
def test_the_success_rate_ejects_below_1_9_deviations(
    clock: FrozenClock, failures: list[int], calls: int, expected: set[str]
) -> None:
    balancer = LoadBalancer(names(len(failures)), outlier=BY_RATE)
    assert interval(balancer, clock, failures, calls) == expected


@pytest.mark.parametrize(
    ("failures", "calls", "expected"),
    [
        ([0, 86, 0, 0, 0], 100, {"s1"}),
        ([0, 85, 0, 0, 0], 100, set()),
        ([86, 86, 86, 86, 86], 100, {"s0"}),
        ([0, 50, 0, 0, 0], 50, {"s1"}),
        ([0, 49, 0, 0, 0], 49, set()),
        ([0, 86, 0, 0], 100, set()),
    ],
)
def test_the_failure_percentage_ejects_above_85(
    clock: FrozenClock, failures: list[int], calls: int, expected: set[str]
) -> None:
    balancer = LoadBalancer(names(len(failures)), outlier=BY_PERCENTAGE)
    assert interval(balancer, clock, failures, calls) == expected


def test_their_figures_can_be_set(clock: FrozenClock) -> None:
    lax = OutlierConfig(success_rate=SuccessRateEjection(2.1), failure_percentage=None)
    assert interval(LoadBalancer(names(5), outlier=lax), clock, [0, 0, 50, 0, 0]) == set()
    percentage = FailurePercentageEjection(threshold=10.0, minimum_hosts=2, request_volume=10)
    strict = OutlierConfig(success_rate=None, failure_percentage=percentage)
    assert interval(LoadBalancer(names(2), outlier=strict), clock, [0, 2], calls=10) == {"s1"}
    neither = OutlierConfig(success_rate=None, failure_percentage=None)
    assert interval(LoadBalancer(names(5), outlier=neither), clock, [0, 0, 100, 0, 0]) == set()


@pytest.mark.parametrize(
    ("count", "percent", "most"), [(5, 1, 1), (10, 10, 1), (19, 10, 1), (20, 10, 2), (10, 50, 5), (5, 100, 5)]
)
def test_no_more_than_the_percentage_is_ejected_but_one_may_go(
    clock: FrozenClock, count: int, percent: int, most: int
) -> None:
    config = OutlierConfig(success_rate=None, max_ejection_percent=percent)
    balancer = LoadBalancer(names(count), outlier=config)
    assert len(interval(balancer, clock, [50] * count, calls=50)) == most


@EVERY_STRATEGY
def test_who_is_ejected_gets_no_calls_until_its_time_is_over(
    clock: FrozenClock, strategy: LoadBalancingStrategy
) -> None:
    balancer = LoadBalancer(names(5), strategy, outlier=BY_PERCENTAGE, seed=5)
    assert interval(balancer, clock, [0, 0, 0, 90, 0]) == {"s3"}
    assert set(picked(balancer, 400)) == {"s0", "s1", "s2", "s4"}
    clock.advance(29.999)
    assert ejected(balancer) == {"s3"}
    balancer.release(balancer.pick(), None, 0)
    assert ejected(balancer) == {"s3"}
    # That sweep was made 29.999 s after the ejection; the next one is 10 s later.
    clock.advance(10.0)
    balancer.release(balancer.pick(), None, 0)
    assert ejected(balancer) == set()
    assert set(picked(balancer, 400)) == set(names(5))


def test_each_ejection_is_longer_and_a_healthy_interval_forgives_one(clock: FrozenClock) -> None:
    """30 s * how often, at most 300 s; counted in intervals of 10 s."""
    balancer = LoadBalancer(names(5), outlier=BY_PERCENTAGE)
    bad = [0, 0, 0, 0, 100]

    def intervals_ejected() -> int:
        assert interval(balancer, clock, bad) == {"s4"}
        for count in range(1, 100):
            clock.advance(10.0)
            balancer.release(balancer.pick(), None, 0)
            if not ejected(balancer):
                return count
        raise AssertionError("ejected for ever")

    lengths = [intervals_ejected() for _ in range(12)]
    assert lengths == [3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 30, 30]
    # Twelve ejections; ten healthy intervals leave two of them.
    for _ in range(10):
        clock.advance(10.0)
        balancer.release(balancer.pick(), None, 0)
    assert intervals_ejected() == 9


def test_one_sweep_is_made_however_many_intervals_have_passed(clock: FrozenClock) -> None:
    """Calls of an interval that nobody judged in time are judged by the next call."""
    balancer = LoadBalancer(names(5), outlier=BY_PERCENTAGE)
    assert interval(balancer, clock, [0, 0, 0, 100, 0], seconds=1_000.0) == {"s3"}


def test_calls_that_say_nothing_are_not_judged(clock: FrozenClock) -> None:
    balancer = LoadBalancer(names(5), outlier=BY_RATE)
    for i in range(1_000):
        balancer.release(balancer.pick(), None if i % 5 == 2 else True, 1)
    clock.advance(10.0)
    balancer.release(balancer.pick(), None, 0)
    assert ejected(balancer) == set()


@EVERY_STRATEGY
@pytest.mark.parametrize(("bad", "panics"), [(5, False), (6, True), (10, True)])
def test_in_panic_ejections_are_ignored(
    clock: FrozenClock, strategy: LoadBalancingStrategy, bad: int, panics: bool
) -> None:
    """When fewer than half of the endpoints are left."""
    config = OutlierConfig(success_rate=None, max_ejection_percent=100)
    balancer = LoadBalancer(names(10), strategy, outlier=config, seed=7)
    assert interval(balancer, clock, [100] * bad + [0] * (10 - bad)) == set(names(bad))
    assert set(picked(balancer, 1_000)) == set(names(10) if panics else names(10)[bad:])


@EVERY_STRATEGY
def test_in_panic_breakers_go_on_to_refuse(clock: FrozenClock, strategy: LoadBalancingStrategy) -> None:
    """One is ejected; when the breakers of five others refuse, four are left, and the ejected one is used."""
    breakers = CircuitBreakerConfig(65_535, 3_600.0)
    balancer = LoadBalancer(names(10), strategy, outlier=BY_PERCENTAGE, breaker=breakers, seed=7)
    assert interval(balancer, clock, [100] + [0] * 9) == {"s0"}
    for address in names(10)[1:6]:
        assert "s0" not in picked(balancer, 100)
        balancer.breaker(address).force_open()
    clock.advance(10.0)
    balancer.release(balancer.pick(), None, 0)
    assert set(picked(balancer, 1_000)) == {"s0", "s6", "s7", "s8", "s9"}
    assert ejected(balancer) == {"s0"}


@EVERY_STRATEGY
def test_rather_one_that_is_ejected_than_none(clock: FrozenClock, strategy: LoadBalancingStrategy) -> None:
    """At once, even before panic is judged anew; only when every breaker refuses is the call refused."""
    balancer = LoadBalancer(names(5), strategy, outlier=BY_PERCENTAGE, breaker=CircuitBreakerConfig(65_535))
    assert interval(balancer, clock, [0, 0, 100, 0, 0]) == {"s2"}
    for address in ("s0", "s1", "s3", "s4"):
        balancer.breaker(address).force_open()
    assert set(picked(balancer, 20)) == {"s2"}
    balancer.breaker("s2").force_open()
    with pytest.raises(CircuitOpenError, match="all 5 endpoints refuse"):
        balancer.pick()


def test_a_drained_endpoint_is_not_ejected_and_gives_its_ejection_back(clock: FrozenClock) -> None:
    """There is room for one ejection: it is free again when the endpoint that had it is removed."""
    balancer = LoadBalancer(names(6), outlier=BY_PERCENTAGE)
    assert interval(balancer, clock, [100, 0, 0, 0, 0, 0]) == {"s0"}
    balancer.drain("s0")
    assert ejected(balancer) == set()
    balancer.remove("s0")
    assert interval(balancer, clock, [100, 0, 0, 0, 0]) == {"s1"}


def share(balancer: LoadBalancer, address: str, times: int = 3_000) -> float:
    return picked(balancer, times)[address] / times


@pytest.mark.parametrize(
    "strategy", [LoadBalancingStrategy.ROUND_ROBIN, LoadBalancingStrategy.RANDOM], ids=lambda each: each.value
)
@pytest.mark.parametrize(
    ("aggression", "ramps"),
    [(1.0, {0.0: 0.25, 32.0: 0.5, 48.0: 0.75}), (2.0, {0.0: 0.25, 16.0: 0.5, 36.0: 0.75})],
)
def test_a_new_endpoints_share_goes_up(
    clock: FrozenClock, strategy: LoadBalancingStrategy, aggression: float, ramps: dict[float, float]
) -> None:
    """Its weight is 1 * ramp, beside two of weight 1. Random: within 5 standard deviations."""
    balancer = LoadBalancer(["a", "b"], strategy, slow_start=SlowStartConfig(64.0, 25.0, aggression), seed=11)
    assert share(balancer, "b") == pytest.approx(1 / 2, abs=0.05)
    balancer.add("c")
    age = 0.0
    for at, ramp in ramps.items():
        clock.advance(at - age)
        age = at
        error = 0.045 if strategy is LoadBalancingStrategy.RANDOM else 0.002
        assert share(balancer, "c") == pytest.approx(ramp / (2 + ramp), abs=error)
    clock.advance(64.0 - age)
    assert share(balancer, "c") == pytest.approx(1 / 3, abs=0.045)


def test_the_least_loaded_counts_by_the_ramp(clock: FrozenClock) -> None:
    """A quarter of the weight: its first call counts as the fourth of the others."""
    balancer = LoadBalancer(["a"], LoadBalancingStrategy.LEAST_LOADED, slow_start=SlowStartConfig(64.0, 25.0))
    balancer.add("b")
    calls = [balancer.pick() for _ in range(6)]
    assert [call.address for call in calls] == ["a", "a", "a", "b", "a", "a"]
    clock.advance(64.0)
    calls += [balancer.pick() for _ in range(4)]
    assert [call.address for call in calls[6:]] == ["b", "b", "b", "b"]


@pytest.mark.parametrize("strategy", [LoadBalancingStrategy.POWER_OF_TWO, LoadBalancingStrategy.PEAK_EWMA])
def test_of_two_choices_a_new_one_is_drawn_less_often(
    clock: FrozenClock, strategy: LoadBalancingStrategy
) -> None:
    """Idle equals: the first that is drawn wins."""
    balancer = LoadBalancer(["a", "b", "c"], strategy, slow_start=SlowStartConfig(64.0, 5.0), seed=3)
    balancer.add("d")
    assert 0.0 < share(balancer, "d") < 0.1
    clock.advance(64.0)
    assert share(balancer, "d") == pytest.approx(1 / 4, abs=0.05)


def test_who_is_readmitted_starts_slowly(clock: FrozenClock) -> None:
    balancer = LoadBalancer(names(5), outlier=BY_PERCENTAGE, slow_start=SlowStartConfig(60.0, 10.0))
    assert interval(balancer, clock, [0, 0, 0, 0, 100]) == {"s4"}
    clock.advance(30.0)
    balancer.release(balancer.pick(), None, 0)
    assert ejected(balancer) == set()
    assert share(balancer, "s4") == pytest.approx(0.1 / 4.1, abs=0.003)
    clock.advance(60.0)
    assert share(balancer, "s4") == pytest.approx(1 / 5, abs=0.003)


@pytest.mark.parametrize("keyword", ["outlier", "slow_start"])
@pytest.mark.parametrize("wrong", [True, 5, "on", CircuitBreakerConfig()])
def test_the_configs_are_checked(keyword: str, wrong: object) -> None:
    with pytest.raises(
        ConfigError, match=rf"{keyword}=.*expected (an OutlierConfig|a SlowStartConfig) or None$"
    ):
        LoadBalancer(["a"], **{keyword: wrong})  # type: ignore[arg-type]  # what is tested
