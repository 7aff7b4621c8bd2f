"""What the compiled classes say of themselves: signatures, errors about wrong arguments, reprs."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from tai_grpc import resilience
from tai_grpc.config import Jitter, RetryConfig
from tai_grpc.resilience import (
    AdaptiveLimiter,
    Arena,
    Backoff,
    Bulkhead,
    CallOutcome,
    CircuitBreaker,
    CircuitState,
    Counter,
    KeyedTokenBucket,
    LatencyHistogram,
    LoadBalancer,
    RetryBudget,
    TokenBucket,
)

SIGNATURES = {
    AdaptiveLimiter: "(config=None)",
    Backoff: "(config=None, *, uniform=Ellipsis)",
    CircuitBreaker: "(config=None, *, name='')",
    Counter: "()",
    KeyedTokenBucket: "(rate, burst, max_keys)",
    LatencyHistogram: "(lowest=1, highest=60000000, significant_digits=3)",
    LoadBalancer: (
        "(addresses, strategy=Ellipsis, *, weights=None, breaker=None, outlier=None, slow_start=None, "
        "seed=None)"
    ),
    RetryBudget: "(max_tokens=10, token_ratio=0.1)",
}


@pytest.mark.parametrize(
    ("kind", "signature"), SIGNATURES.items(), ids=lambda value: getattr(value, "__name__", "")
)
def test_signatures_are_known_to_inspect_and_help(kind: type, signature: str) -> None:
    assert str(inspect.signature(kind)) == signature
    assert kind.__doc__ is not None
    assert not kind.__doc__.lstrip().startswith(kind.__name__)


def test_every_class_has_a_signature() -> None:
    for name in resilience.__all__:
        thing = getattr(resilience, name)
        if "tai_grpc._ext" in str(thing.__mro__) and name != "Endpoint":  # which only a balancer makes
            assert inspect.signature(thing), name


@pytest.mark.parametrize("kind", [*SIGNATURES, Arena, Bulkhead, TokenBucket])
def test_a_wrong_argument_is_told_by_the_name_of_the_class(kind: Any) -> None:
    name = rf"^{kind.__name__}(\.__new__)?\(\)"
    with pytest.raises(TypeError, match=rf"{name} (got|takes).* keyword arguments?( 'treshold')?"):
        kind(treshold=1)
    with pytest.raises(TypeError, match=rf"{name} takes"):
        kind(*range(9))


def test_a_missing_argument_is_told_by_the_name_of_the_class() -> None:
    kinds: tuple[Any, ...] = (KeyedTokenBucket, LoadBalancer)
    for kind in kinds:
        with pytest.raises(TypeError, match=rf"^{kind.__name__}\(\) takes"):
            kind()


def test_reprs_say_what_matters() -> None:
    limiter = AdaptiveLimiter()
    limiter.try_enter()
    bulkhead = Bulkhead(3)
    bulkhead.try_enter()
    budget = RetryBudget()
    budget.record_failure()
    histogram = LatencyHistogram()
    assert repr(histogram) == "<LatencyHistogram count=0 min=0 max=0>"
    histogram.record(5)
    backoff = Backoff(RetryConfig(jitter=Jitter.NONE))
    next(backoff)
    assert [repr(each) for each in (limiter, bulkhead, budget, histogram, backoff)] == [
        "<AdaptiveLimiter 1 of 20 in flight>",
        "<Bulkhead 1 of 3 in flight>",
        "<RetryBudget 9 of 10 tokens>",
        "<LatencyHistogram count=1 min=5 max=5>",
        "<Backoff after 1 retries>",
    ]
    assert repr(TokenBucket(1000.0, 10)) == "<TokenBucket rate=1000 burst=10>"
    assert repr(KeyedTokenBucket(0.5, 2, 100)) == "<KeyedTokenBucket rate=0.5 burst=2 max_keys=100>"
    assert repr(LoadBalancer(["a", "b"])) == "<LoadBalancer ROUND_ROBIN of 2 endpoints>"
    assert repr(LoadBalancer(["a"])) == "<LoadBalancer ROUND_ROBIN of 1 endpoint>"
    assert repr(CircuitBreaker(name="db")) == "<CircuitBreaker 'db' CLOSED>"


def test_members_print_their_names() -> None:
    assert f"{CircuitState.OPEN} {CircuitState.OPEN!s}" == "CircuitState.OPEN CircuitState.OPEN"
    assert f"{CallOutcome.FAILURE}" == "CallOutcome.FAILURE"
