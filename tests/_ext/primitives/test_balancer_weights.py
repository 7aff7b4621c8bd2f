"""Weights, two choices and peak EWMA: what each strategy makes of them."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tai_grpc._ext.primitives.balancer import Endpoint, LoadBalancer
from tai_grpc._ext.primitives.clock import FrozenClock
from tai_grpc.config import LoadBalancingStrategy
from tai_grpc.errors import ConfigError

ROUND_ROBIN, LEAST_LOADED, RANDOM, POWER_OF_TWO, PEAK_EWMA = LoadBalancingStrategy
EVERY_STRATEGY = pytest.mark.parametrize("strategy", list(LoadBalancingStrategy))


def names(count: int) -> list[str]:
    return [f"s{i}" for i in range(count)]


def weighted(weights: list[int], strategy: LoadBalancingStrategy, seed: int = 1) -> LoadBalancer:
    addresses = names(len(weights))
    return LoadBalancer(addresses, strategy, weights=dict(zip(addresses, weights, strict=True)), seed=seed)


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=30))
def test_in_each_round_robin_each_has_exactly_its_weight(weights: list[int]) -> None:
    balancer = weighted(weights, ROUND_ROBIN)
    divisor = math.gcd(*weights)
    for _ in range(2):
        picked = Counter(balancer.pick().index for _ in range(sum(weights) // divisor))
        assert [picked[i] for i in range(len(weights))] == [weight // divisor for weight in weights]


@given(st.lists(st.integers(1, 20), min_size=2, max_size=6))
def test_a_round_robins_turns_lie_spread_over_the_round(weights: list[int]) -> None:
    """At no time is anybody 3 turns from its share or more: nothing like all turns of one in a row."""
    balancer = weighted(weights, ROUND_ROBIN)
    picked = [0] * len(weights)
    for turn in range(1, sum(weights) + 1):
        picked[balancer.pick().index] += 1
        for count, weight in zip(picked, weights, strict=True):
            assert abs(count - turn * weight / sum(weights)) < 3


def test_round_robin_by_weight_is_smooth() -> None:
    balancer = weighted([5, 1, 1], ROUND_ROBIN)
    assert [balancer.pick().index for _ in range(7)] == [0, 1, 0, 0, 2, 0, 0]


def test_random_goes_by_weight() -> None:
    """Within 6 standard deviations."""
    weights = [1, 2, 7, 90, 900]
    balancer = weighted(weights, RANDOM)
    picked = Counter(balancer.pick().index for _ in range(100_000))
    for i, weight in enumerate(weights):
        part = weight / sum(weights)
        assert abs(picked[i] - 100_000 * part) < 6 * math.sqrt(100_000 * part * (1 - part))


@pytest.mark.parametrize("strategy", [LEAST_LOADED, POWER_OF_TWO])
def test_calls_in_flight_go_by_weight(strategy: LoadBalancingStrategy) -> None:
    """Exactly, as long as the two choices are all that there is."""
    balancer = weighted([1, 3], strategy)
    calls = [balancer.pick() for _ in range(400)]
    assert Counter(call.index for call in calls) == {0: 100, 1: 300}


@EVERY_STRATEGY
def test_a_weight_can_be_changed(strategy: LoadBalancingStrategy) -> None:
    balancer = LoadBalancer(["a", "b"], strategy, seed=1)
    balancer.set_weight("b", 1000)
    calls = [balancer.pick() for _ in range(1001)]
    assert Counter(call.address for call in calls)["b"] >= 985
    assert [stats.weight for stats in balancer.get_stats()] == [1, 1000]


def test_of_two_choices_the_less_loaded_wins() -> None:
    """The most loaded of three is picked never, the least loaded whenever it is drawn, so in 2 of 3 picks."""
    balancer = LoadBalancer(["a", "b", "c"], POWER_OF_TWO, seed=1)
    kept: Counter[str] = Counter()
    calls = []
    for call in [balancer.pick() for _ in range(90)]:
        if kept[call.address] < {"a": 0, "b": 10, "c": 20}[call.address]:
            kept[call.address] += 1
            calls.append(call)
        else:
            balancer.release(call, True, 1)
    assert kept == {"b": 10, "c": 20}
    picked = Counter(balancer.pick().address for _ in range(10_000))
    assert picked["c"] == 0
    assert abs(picked["a"] - 6_667) < 6 * math.sqrt(10_000 * 2 / 9)


def test_two_choices_spread_far_better_than_one() -> None:
    """10,000 calls over 100 endpoints: the fullest has at most a handful more than the mean, not dozens."""
    fullest = {}
    for strategy in (RANDOM, POWER_OF_TWO):
        balancer = LoadBalancer(names(100), strategy, seed=1)
        calls = [balancer.pick() for _ in range(10_000)]
        fullest[strategy] = max(Counter(call.index for call in calls).values())
    assert fullest[POWER_OF_TWO] <= 105
    assert fullest[RANDOM] >= 115


class Peak:
    """Two endpoints, both of which are drawn each time: the cheaper one is picked."""

    def __init__(self, weights: dict[str, int] | None = None) -> None:
        self.balancer = LoadBalancer(["a", "b"], PEAK_EWMA, weights=weights, seed=1)

    def sample(self, address: str, latency_us: int, success: bool = True) -> None:
        self.balancer.release(self.call(address), success, latency_us)

    def call(self, address: str) -> Endpoint:
        held = []
        while (endpoint := self.balancer.pick()).address != address:
            held.append(endpoint)
            assert len(held) < 100_000
        return endpoint

    def choice(self) -> set[str]:
        return {self.balancer.pick().address for _ in range(20)}


@pytest.mark.parametrize(
    ("seconds", "latency_us", "expected"),
    # After 10 s, 1,000 has become 368, and after 5 s 607.
    [
        (10.0, 367, "b"),
        (10.0, 369, "a"),
        (5.0, 606, "b"),
        (5.0, 607, "a"),
        (0.0, 999, "b"),
        (0.0, 1_001, "a"),
    ],
)
def test_a_cost_decays_as_time_goes_by(
    clock: FrozenClock, seconds: float, latency_us: int, expected: str
) -> None:
    peak = Peak()
    peak.sample("a", 1_000)
    clock.advance(seconds)
    peak.sample("b", latency_us)
    assert peak.choice() == {expected}


@pytest.mark.parametrize(
    ("samples", "below", "above"),
    # (seconds before it, its latency); costs above the sample come down by e^(-dt / 10 s).
    [
        ([(0.0, 100), (1.0, 1_000)], 999, 1_001),
        ([(0.0, 1_000), (10.0, 100)], 431, 432),
        ([(0.0, 1_000), (0.0, 100)], 999, 1_001),
        ([(0.0, 1_000), (5.0, 100), (5.0, 100)], 431, 432),
        ([(0.0, 1_000), (100.0, 100)], 100, 101),
        ([(0.0, 0)], 0, 2),
    ],
)
def test_a_slower_sample_is_the_new_cost_and_a_faster_one_brings_it_down_slowly(
    clock: FrozenClock, samples: list[tuple[float, int]], below: int, above: int
) -> None:
    for other, expected in ((below, {"b"}), (above, {"a"})):
        peak = Peak()
        for seconds, latency_us in samples:
            clock.advance(seconds)
            peak.sample("a", latency_us)
        peak.sample("b", other)
        if other > 0:
            assert peak.choice() == expected


def test_calls_in_flight_multiply_the_cost_and_the_weight_divides_it(clock: FrozenClock) -> None:
    peak = Peak({"a": 4})
    peak.sample("a", 100)
    peak.sample("b", 100)
    calls = [peak.balancer.pick() for _ in range(500)]
    assert Counter(call.address for call in calls) == {"a": 400, "b": 100}


def test_a_failure_makes_nobody_cheaper(clock: FrozenClock) -> None:
    """It is quick; but a slow one counts."""
    peak = Peak()
    peak.sample("a", 1_000)
    peak.sample("b", 500)
    for _ in range(10):
        peak.sample("a", 1, success=False)
    assert peak.choice() == {"b"}
    peak.sample("b", 2_000, success=False)
    assert peak.choice() == {"a"}


def test_who_was_never_measured_is_tried_once_and_then_waited_for(clock: FrozenClock) -> None:
    peak = Peak()
    peak.sample("a", 1)
    first = peak.balancer.pick()
    assert first.address == "b"
    others = [peak.balancer.pick() for _ in range(1_000)]
    assert {call.address for call in others} == {"a"}


@pytest.mark.parametrize("weight", [0, -1, 1001, 2**64, 1.0, True, "1", None])
def test_a_weight_is_checked(weight: int) -> None:
    balancer = LoadBalancer(["a", "b"])
    match = r"weight=.*an int from 1 to 1000"
    with pytest.raises(ConfigError, match=match):
        balancer.add("c", weight)
    with pytest.raises(ConfigError, match=match):
        balancer.set_weight("a", weight)
    with pytest.raises(ConfigError, match=match):
        LoadBalancer(["a"], weights={"a": weight})
    assert balancer.addresses == ("a", "b")


@pytest.mark.parametrize("weights", [{"z": 1}, [("a", 1)], 5, "a"])
def test_weights_are_a_mapping_of_the_addresses(weights: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"weights=.*a mapping of some of the addresses"):
        LoadBalancer(["a"], weights=weights)


@pytest.mark.parametrize("seed", [-1, 2**64, 1.0, "1", True])
def test_a_seed_is_checked(seed: int) -> None:
    with pytest.raises(ConfigError, match=r"seed=.*an int from 0 to 18446744073709551615"):
        LoadBalancer(["a"], seed=seed)


def test_a_seed_repeats_what_was_random() -> None:
    first, second = (LoadBalancer(names(50), RANDOM, seed=9) for _ in range(2))
    assert [first.pick().index for _ in range(100)] == [second.pick().index for _ in range(100)]
