"""What the GIL serialises, these run truly at once: threads in compiled loops that do not hold it.

It is also the proof that the declared interfaces can be cimported by code outside of the package.
"""

import shlex
import subprocess
import sys
import sysconfig
import time
from collections import Counter as Tally
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from threading import get_ident
from typing import Any

import numpy as np
import pytest

import tai_grpc
from tai_grpc._ext.primitives.balancer import LoadBalancer
from tai_grpc._ext.primitives.breaker import CircuitBreaker, CircuitState
from tai_grpc._ext.primitives.clock import FrozenClock
from tai_grpc._ext.primitives.counter import Counter
from tai_grpc._ext.primitives.histogram import LatencyHistogram
from tai_grpc._ext.primitives.limiter import TokenBucket
from tai_grpc._ext.primitives.retry import RetryBudget
from tai_grpc.config import CircuitBreakerConfig, LoadBalancingStrategy

Hammer = Callable[[Callable[[], Any]], list[Any]]


@pytest.fixture(scope="module")
def parallel(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """parallel.pyx, compiled."""
    source = Path(__file__).with_name("parallel.pyx")
    folder = tmp_path_factory.mktemp("parallel")
    generated = folder / "parallel.c"
    module = folder / f"parallel{sysconfig.get_config_var('EXT_SUFFIX')}"
    interfaces = Path(tai_grpc.__file__).parents[1]
    subprocess.run(
        [sys.executable, "-m", "cython", f"-I{interfaces}", "-o", str(generated), str(source)], check=True
    )
    compiler = shlex.split(sysconfig.get_config_var("CC"))
    include = sysconfig.get_path("include")
    subprocess.run(
        [*compiler, "-O1", "-shared", "-fPIC", f"-I{include}", str(generated), "-o", str(module)], check=True
    )
    spec = spec_from_file_location("parallel", module)
    assert spec is not None
    assert spec.loader is not None
    loaded = module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.mark.parametrize("probes", [1, 3, 255])
def test_half_open_admits_its_total(parallel: Any, clock: FrozenClock, hammer: Hammer, probes: int) -> None:
    for _ in range(50):
        breaker = CircuitBreaker(CircuitBreakerConfig(1, 1.0, probes))
        breaker.record_failure()
        clock.advance(breaker.retry_after())
        assert sum(hammer(lambda: parallel.ask(breaker, 1_000))) == probes  # noqa: B023 - called in this turn


def test_no_era_of_half_open_admits_more_than_its_total(parallel: Any, hammer: Hammer) -> None:
    """While probes succeed, fail and come late; and each transition is told to exactly one thread."""
    probes = 3
    breaker = CircuitBreaker(CircuitBreakerConfig(2, 0.001, probes))
    results: dict[int, tuple[Any, Any, Any]] = {}

    def work() -> None:
        permits, probing = np.full(1_000_000, -1), np.full(1_000_000, -1)
        changes = np.zeros((8, 8), dtype=np.int64)
        parallel.call(breaker, permits, probing, changes)
        results[get_ident()] = permits, probing, changes

    hammer(work)
    permits = Tally(permit for each, _, _ in results.values() for permit in each.tolist() if permit >= 0)
    began = [era for _, each, _ in results.values() for era in each.tolist() if era >= 0]
    changes = sum(each for _, _, each in results.values())
    assert len(began) == len(set(began)) > 3
    assert all(1 <= permits[era] <= probes for era in began)
    for state in CircuitState:
        entered = changes[:, state].sum() + (state is CircuitState.CLOSED)
        assert entered - changes[state].sum() == (state is breaker.state)


def test_a_bucket_is_emptied_exactly(parallel: Any, clock: FrozenClock, hammer: Hammer) -> None:
    bucket = TokenBucket(rate=1.0, burst=8_000_000)
    assert sum(hammer(lambda: parallel.take(bucket, 2_000_000))) == 8_000_000


def test_a_bucket_is_not_over_admitted(parallel: Any, hammer: Hammer) -> None:
    bucket = TokenBucket(rate=1_000_000.0, burst=100)
    before = time.monotonic_ns()
    taken = sum(hammer(lambda: parallel.take(bucket, 200_000)))
    elapsed = (time.monotonic_ns() - before) / 1e9
    assert 100 <= taken <= 100 + 1_000_000 * elapsed


def test_no_count_is_lost(parallel: Any, hammer: Hammer) -> None:
    counter, histogram = Counter(), LatencyHistogram()
    hammer(lambda: parallel.count(counter, histogram, 1_000_000))
    assert counter.value == histogram.count == 8_000_000
    assert set(histogram.counts[:2048].tolist()) == {8}


def test_no_token_of_a_budget_is_lost(parallel: Any, hammer: Hammer) -> None:
    budget = RetryBudget(max_tokens=1000, token_ratio=0.001)
    hammer(lambda: parallel.spend(budget, 100, 10_000))
    # 800 tokens go and 80 come back, in whatever order, and none of it meets an end of the budget.
    assert budget.tokens == 280.0


@pytest.mark.parametrize("strategy", list(LoadBalancingStrategy))
def test_no_call_of_a_balancer_is_lost(
    parallel: Any, hammer: Hammer, strategy: LoadBalancingStrategy
) -> None:
    balancer = LoadBalancer(["a", "b", "c"], strategy, breaker=CircuitBreakerConfig(2, 0.001, 2))
    refused = sum(hammer(lambda: parallel.balance(balancer, 100_000)))
    stats = balancer.get_stats()
    assert sum(each.total_requests for each in stats) == 800_000 - refused
    assert [each.active_connections for each in stats] == [0, 0, 0]
