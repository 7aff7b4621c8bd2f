"""The balancer against its rules in plain Python: which endpoint each pick returns, one after the other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tai_grpc._ext.primitives.balancer import Endpoint, LoadBalancer
from tai_grpc._ext.primitives.clock import FrozenClock
from tai_grpc.config import CircuitBreakerConfig, LoadBalancingStrategy
from tai_grpc.errors import CircuitOpenError, ConfigError

WORD = 2**64 - 1
DRAWS = 16


def quotients(numerator: int, denominator: int) -> list[int]:
    """The continued fraction."""
    whole, rest = divmod(numerator, denominator)
    return [whole, *(quotients(denominator, rest) if rest else [])]


def golden_stride(total: int) -> int:
    """The one with the lowest partial quotients of those within 16 of the golden section of `total`."""
    golden = round(total * 0.6180339887498949)
    near = [n for n in range(golden - 16, golden + 17) if 0 < n < total and math.gcd(n, total) == 1]
    return min(near, default=1, key=lambda n: (max(quotients(total, n)), abs(n - golden)))


@dataclass(eq=False)
class Modelled:
    address: str
    place: int
    weight: int
    in_flight: int = 0
    total: int = 0
    failures: int = 0
    turn: int = 0
    draining: bool = False
    refuses: bool = False
    cost: float = 0.0
    cost_ns: int = 0
    removed: bool = False


class Model:
    """What the balancer is documented to do, by looking at every endpoint each time."""

    def __init__(
        self, addresses: list[str], strategy: LoadBalancingStrategy, weights: dict[str, int], seed: int
    ) -> None:
        self.strategy = strategy
        self.random_state = seed
        self.turn = 0
        self.room = max(8, 1 << (len(addresses) - 1).bit_length())
        self.next_place = 0
        self.taken: dict[int, Modelled] = {}
        self.endpoints: list[Modelled] = []
        for address in addresses:
            self.add(address, weights.get(address, 1))

    def add(self, address: str, weight: int) -> None:
        for offset in range(self.room):
            place = (self.next_place + offset) % self.room
            if place not in self.taken:
                break
        else:
            place, self.room = self.room, self.room * 2
        self.next_place = place + 1
        endpoint = self.taken[place] = Modelled(address, place, weight)
        self.endpoints.append(endpoint)

    def remove(self, endpoint: Modelled) -> None:
        endpoint.draining = endpoint.removed = True
        self.endpoints.remove(endpoint)
        self.free(endpoint)

    def free(self, endpoint: Modelled) -> None:
        """A place belongs to its endpoint while that is known or has calls in flight."""
        if endpoint.removed and endpoint.in_flight == 0:
            del self.taken[endpoint.place]

    def drawn(self) -> list[Modelled]:
        return [endpoint for endpoint in self.endpoints if not endpoint.draining]

    def random_number(self) -> int:
        self.random_state = (self.random_state + 0x9E3779B97F4A7C15) & WORD
        z = self.random_state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORD
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
        return z ^ (z >> 31)

    def random(self, n: int) -> int:
        return (self.random_number() * n) >> 64

    @staticmethod
    def holder(endpoints: list[tuple[Modelled, int]], ticket: int) -> Modelled:
        for endpoint, weight in endpoints:
            ticket -= weight
            if ticket < 0:
                return endpoint
        raise AssertionError("a ticket that nobody has")

    def pick(self) -> Modelled | None:
        weights = [endpoint.weight for endpoint in self.drawn()]
        shares = [(e, e.weight // math.gcd(*weights)) for e in self.drawn()]
        if self.strategy is LoadBalancingStrategy.ROUND_ROBIN:
            picked = self.round_robin(shares)
        elif self.strategy is LoadBalancingStrategy.LEAST_LOADED:
            picked = self.least_loaded()
        elif self.strategy is LoadBalancingStrategy.RANDOM:
            picked = self.draw(shares)
        else:
            picked = self.two_choices(shares)
        if picked is None:
            picked = self.any_that_admits()
        if picked is not None:
            picked.in_flight += 1
            picked.total += 1
        return picked

    def round_robin(self, shares: list[tuple[Modelled, int]]) -> Modelled | None:
        total = sum(share for _, share in shares)
        stride = golden_stride(total)
        for _ in shares:
            ticket = self.turn % total
            self.turn += 1
            picked = self.holder(shares, ticket if total == len(shares) else ticket * stride % total)
            if not picked.refuses:
                return picked
        return None

    def least_loaded(self) -> Modelled | None:
        admitting = [endpoint for endpoint in self.drawn() if not endpoint.refuses]
        if not admitting:
            return None
        self.turn += 1
        picked = min(admitting, key=lambda e: ((e.in_flight + 1) / e.weight, e.turn, e.place))
        picked.turn = self.turn
        return picked

    def draw(self, shares: list[tuple[Modelled, int]]) -> Modelled | None:
        total = sum(share for _, share in shares)
        for _ in range(DRAWS if total else 0):
            picked = self.holder(shares, self.random(total))
            if not picked.refuses:
                return picked
        return None

    def candidate(self, shares: list[tuple[Modelled, int]], number: int) -> tuple[Modelled | None, int]:
        """Who is drawn, and what the draw leaves of the random number."""
        total = sum(share for _, share in shares)
        for _ in range(DRAWS if total else 0):
            ticket, number = divmod(number * total, WORD + 1)
            picked = self.holder(shares, ticket)
            if not picked.refuses:
                return picked, number
            number = self.random_number()
        return None, number

    def two_choices(self, shares: list[tuple[Modelled, int]]) -> Modelled | None:
        first, number = self.candidate(shares, self.random_number())
        if first is None:
            return None
        second, _ = self.candidate([share for share in shares if share[0] is not first], number)
        if second is None:
            return first
        if self.strategy is LoadBalancingStrategy.PEAK_EWMA:
            return second if self.price(second, first) < self.price(first, second) else first
        return second if self.load(second) < self.load(first) else first

    @staticmethod
    def load(endpoint: Modelled) -> float:
        return (endpoint.in_flight + 1) / endpoint.weight

    def price(self, endpoint: Modelled, other: Modelled) -> tuple[int, float]:
        """At the time of the newer of both samples."""
        if endpoint.cost == 0.0:
            return (0 if endpoint.in_flight == 0 else 2), self.load(endpoint)
        age = (max(endpoint.cost_ns, other.cost_ns) - endpoint.cost_ns) / 10e9
        # In the balancer's order, so that equals are equal.
        product = endpoint.cost * (float(endpoint.in_flight + 1) * float(other.weight))
        return 1, product * math.exp(-age)

    def any_that_admits(self) -> Modelled | None:
        admitting = [e for e in self.drawn() if not e.refuses]
        if not admitting:
            return None
        admitting.sort(key=lambda e: e.place)
        return self.holder([(e, e.weight) for e in admitting], self.random(sum(e.weight for e in admitting)))

    def release(self, endpoint: Modelled, success: bool | None, latency_us: int, now_ns: int) -> None:
        endpoint.in_flight -= 1
        endpoint.failures += success is False
        if success is not None and self.strategy is LoadBalancingStrategy.PEAK_EWMA:
            sample = max(float(latency_us), 1.0)
            weight = math.exp(-(now_ns - endpoint.cost_ns) / 10e9)
            if sample < endpoint.cost:
                decayed = endpoint.cost * weight
                sample = max(sample, decayed if success is False else sample * (1.0 - weight) + decayed)
            endpoint.cost, endpoint.cost_ns = sample, now_ns
        self.free(endpoint)


WEIGHTS = st.one_of(st.just(1), st.integers(1, 5), st.integers(1, 1000))


class Balancing(RuleBasedStateMachine):
    strategy: LoadBalancingStrategy

    @initialize(weights=st.lists(WEIGHTS, min_size=1, max_size=20), seed=st.integers(0, WORD))
    def begin(self, weights: list[int], seed: int) -> None:
        self.clock = FrozenClock()
        self.clock.__enter__()
        self.added = len(weights)
        addresses = [f"s{i}" for i in range(self.added)]
        given = dict(zip(addresses, weights, strict=True))
        self.balancer = LoadBalancer(
            addresses, self.strategy, weights=given, breaker=CircuitBreakerConfig(65_535), seed=seed
        )
        self.model = Model(addresses, self.strategy, given, seed)
        self.calls: list[tuple[Endpoint, Modelled]] = []

    def teardown(self) -> None:
        if hasattr(self, "clock"):
            self.clock.__exit__()

    def one(self, data: Any) -> Modelled:
        endpoint: Modelled = data.draw(st.sampled_from(self.model.endpoints))
        return endpoint

    @rule(times=st.integers(1, 30), kept=st.booleans())
    def pick(self, times: int, kept: bool) -> None:
        for _ in range(times):
            expected = self.model.pick()
            if expected is None:
                with pytest.raises(CircuitOpenError):
                    self.balancer.pick()
                return
            endpoint = self.balancer.pick()
            assert (endpoint.address, endpoint.index) == (expected.address, expected.place)
            if kept:
                self.calls.append((endpoint, expected))
            else:
                del endpoint
                self.model.release(expected, None, 0, self.clock.now_ns)

    @precondition(lambda self: self.calls)
    @rule(
        which=st.integers(0, WORD),
        success=st.sampled_from([True, True, False, None]),
        latency_us=st.one_of(st.integers(0, 3), st.integers(0, 10**6)),
    )
    def release(self, which: int, success: bool | None, latency_us: int) -> None:
        endpoint, modelled = self.calls.pop(which % len(self.calls))
        self.balancer.release(endpoint, success, latency_us)
        del endpoint
        self.model.release(modelled, success, latency_us, self.clock.now_ns)

    @rule(weight=WEIGHTS)
    def add(self, weight: int) -> None:
        address = f"s{self.added}"
        self.added += 1
        self.balancer.add(address, weight)
        self.model.add(address, weight)

    @rule(data=st.data(), weight=WEIGHTS)
    def set_weight(self, data: Any, weight: int) -> None:
        endpoint = self.one(data)
        self.balancer.set_weight(endpoint.address, weight)
        endpoint.weight = weight

    @rule(data=st.data(), removed=st.booleans())
    def drain_or_remove(self, data: Any, removed: bool) -> None:
        endpoint = self.one(data)
        change = self.balancer.remove if removed else self.balancer.drain
        if self.model.drawn() == [endpoint]:
            with pytest.raises(ConfigError, match=r"one of several that take calls"):
                change(endpoint.address)
            return
        change(endpoint.address)
        endpoint.draining = True
        if removed:
            self.model.remove(endpoint)

    @rule(data=st.data(), refuses=st.booleans())
    def force(self, data: Any, refuses: bool) -> None:
        endpoint = self.one(data)
        breaker = self.balancer.breaker(endpoint.address)
        if refuses:
            breaker.force_open()
        else:
            breaker.reset()
        endpoint.refuses = refuses

    @rule(seconds=st.floats(0.0, 30.0))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def the_statistics_are_right(self) -> None:
        if hasattr(self, "model"):
            assert [
                (s.address, s.active_connections, s.total_requests, s.failures, s.weight, s.draining)
                for s in self.balancer.get_stats()
            ] == [
                (e.address, e.in_flight, e.total, e.failures, e.weight, e.draining)
                for e in self.model.endpoints
            ]


class RoundRobin(Balancing):
    strategy = LoadBalancingStrategy.ROUND_ROBIN


class LeastLoaded(Balancing):
    strategy = LoadBalancingStrategy.LEAST_LOADED


class Random(Balancing):
    strategy = LoadBalancingStrategy.RANDOM


class PowerOfTwo(Balancing):
    strategy = LoadBalancingStrategy.POWER_OF_TWO


class PeakEwma(Balancing):
    strategy = LoadBalancingStrategy.PEAK_EWMA


TestRoundRobin = RoundRobin.TestCase
TestLeastLoaded = LeastLoaded.TestCase
TestRandom = Random.TestCase
TestPowerOfTwo = PowerOfTwo.TestCase
TestPeakEwma = PeakEwma.TestCase
for case in (TestRoundRobin, TestLeastLoaded, TestRandom, TestPowerOfTwo, TestPeakEwma):
    case.settings = settings(max_examples=60, stateful_step_count=40)
del case
