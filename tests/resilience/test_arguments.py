"""Every argument of every public constructor and method of the primitives: what is wrong is refused by name.

The fields of the configs are in tests/test_config.py. Nothing may wrap around, so each int is tried beyond 64
bits, and nothing may have happened: the primitive is as it was.
"""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tai_grpc
from tai_grpc import resilience
from tai_grpc._ext.primitives.clock import FrozenClock
from tai_grpc.config import CircuitBreakerConfig, HedgingPolicy, RetryConfig
from tai_grpc.errors import ConfigError
from tai_grpc.resilience import (
    AdaptiveLimiter,
    Arena,
    Backoff,
    Bulkhead,
    CallOutcome,
    CircuitBreaker,
    Counter,
    KeyedTokenBucket,
    LatencyHistogram,
    LoadBalancer,
    RetryBudget,
    TokenBucket,
)
from tai_grpc.resilience.backoff import backoff

NO_NUMBERS: tuple[Any, ...] = (True, False, "1", b"1", [1], object(), 1j, math.nan, math.inf, -math.inf)
HUGE: tuple[Any, ...] = (2**63, 2**64, 2**64 + 1, 10**400, -(2**63) - 1, -(2**64) + 1)
NO_TEXT: tuple[Any, ...] = (None, b"a", 1, 1.0, True, ["a"], object())
WEEK_US = 604_800_000_000


def whole(low: int, high: int | None, *, none: bool = False) -> tuple[Any, ...]:
    """What is no int from `low` to `high` (None: without an end)."""
    beyond = HUGE if high is not None else tuple(value for value in HUGE if value < 0)
    beyond += () if high is None else (high + 1,)
    return (low - 1, -1, float(low), 1.5, *beyond, *NO_NUMBERS, *(() if none else (None,)))


def number(low: float, high: float, *, above: bool = False, none: bool = False) -> tuple[Any, ...]:
    end = (low,) if above else ()
    return (low - 1e-3, high * 1.001, 10**400, -1, *end, *NO_NUMBERS, *(() if none else (None,)))


@dataclass
class Argument:
    """An argument: who takes it, how it is given, and what is wrong."""

    taker: str
    name: str
    give: Callable[[Any], object]
    wrong: tuple[Any, ...]


def arguments() -> list[Argument]:
    found: list[Argument] = []

    def add(taker: str, name: str, give: Callable[[Any], object], wrong: tuple[Any, ...]) -> None:
        found.append(Argument(taker, name, give, wrong))

    breaker = CircuitBreaker()
    add("CircuitBreaker", "config", CircuitBreaker, (1, "config", {}, CircuitBreakerConfig))
    add("CircuitBreaker", "name", lambda v: CircuitBreaker(name=v), (None, b"n", 1, True))
    success = CallOutcome.SUCCESS
    add("CircuitBreaker.settle", "permit", lambda v: breaker.settle(v, success), whole(0, 2**45 - 1))
    no_outcome = (0, 1, True, None, "SUCCESS", CircuitBreakerConfig, math.nan)
    add("CircuitBreaker.settle", "outcome", lambda v: breaker.settle(0, v), no_outcome)
    seconds = number(0.0, 1e9, none=True)
    add("CircuitBreaker.settle", "duration", lambda v: breaker.settle(0, success, v), seconds)
    add("CircuitBreaker.record_success", "duration", breaker.record_success, seconds)
    add("CircuitBreaker.record_failure", "duration", breaker.record_failure, seconds)
    add("CircuitBreaker.on_transition", "callback", breaker.on_transition, (None, 1, "f", object()))
    add("CircuitBreaker.__call__", "function", breaker, (None, 1, "f", object()))

    bucket = TokenBucket(10.0, 5)
    rate = number(0.0, 1e9, above=True)
    add("TokenBucket", "rate", lambda v: TokenBucket(v, 1), (0, -0.0, *rate))
    add("TokenBucket", "burst", lambda v: TokenBucket(1e9, v), whole(1, 2**31 - 1))
    add("TokenBucket", "burst", lambda v: TokenBucket(1e-3, v), (31_537,))
    add("TokenBucket", "max_waiters", lambda v: TokenBucket(1.0, 1, max_waiters=v), whole(0, 1_000_000))
    add("TokenBucket.try_acquire", "n", bucket.try_acquire, whole(1, 5))
    add("TokenBucket.check", "n", bucket.check, whole(1, 5))
    add("TokenBucket.wait_time", "n", bucket.wait_time, whole(1, 5))
    add("TokenBucket.acquire", "n", lambda v: run(bucket.acquire(v)), whole(1, 5))
    week = number(0.0, 604_800.0, none=True)
    add("TokenBucket.acquire", "timeout", lambda v: run(bucket.acquire(1, v)), week)

    keyed = KeyedTokenBucket(10.0, 5, 100)
    no_key = (None, 1.0, math.nan, True, False, (1,), bytearray(b"k"), 2**63, -(2**63) - 1, 10**400)
    add("KeyedTokenBucket", "rate", lambda v: KeyedTokenBucket(v, 1, 1), rate)
    add("KeyedTokenBucket", "burst", lambda v: KeyedTokenBucket(1e9, v, 1), whole(1, 2**31 - 1))
    add("KeyedTokenBucket", "max_keys", lambda v: KeyedTokenBucket(1.0, 1, v), whole(1, 100_000_000))
    for method in (keyed.try_acquire, keyed.check, keyed.wait_time):
        add(f"KeyedTokenBucket.{method.__name__}", "key", method, no_key)
        add(f"KeyedTokenBucket.{method.__name__}", "n", partial(method, "k"), whole(1, 5))

    limiter = AdaptiveLimiter()
    limiter.try_enter()
    add("Bulkhead", "max_concurrent", Bulkhead, whole(1, 1_000_000))
    add("Bulkhead", "max_waiting", lambda v: Bulkhead(1, max_waiting=v), whole(0, 1_000_000))
    add("Bulkhead", "max_wait", lambda v: Bulkhead(1, max_waiting=1, max_wait=v), week)
    add("AdaptiveLimiter", "config", AdaptiveLimiter, (1, "config", {}, CircuitBreakerConfig()))
    add("AdaptiveLimiter.leave", "latency_us", limiter.leave, whole(0, WEEK_US, none=True))

    balancer = LoadBalancer(["a", "b"], breaker=CircuitBreakerConfig())
    picked = balancer.pick()
    add("LoadBalancer", "addresses", LoadBalancer, (None, 1, "a", b"a", [], [1], [""], ["a", "a"], [None]))
    for name in ("strategy", "weights", "breaker", "outlier", "slow_start"):
        wrong = (1, "round_robin", True, object(), math.nan)
        add("LoadBalancer", name, partial(balancer_with, name), wrong)
    add("LoadBalancer", "weights", lambda v: LoadBalancer(["a"], weights=v), ({"b": 1}, ["a"]))
    add("LoadBalancer", "weight", lambda v: LoadBalancer(["a"], weights={"a": v}), whole(1, 1000))
    add("LoadBalancer", "seed", lambda v: LoadBalancer(["a"], seed=v), (-1, 2**64, 1.0, "1", True, math.nan))
    latency = whole(0, WEEK_US)
    add("LoadBalancer.release", "latency_us", lambda v: balancer.release(picked, True, v), latency)
    no_flag = (0, 1, "yes", math.nan, object())
    add("LoadBalancer.release", "success", lambda v: balancer.release(picked, v, 1), no_flag)
    no_pick = (None, 1, "a", object(), balancer)
    add("LoadBalancer.release", "endpoint", lambda v: balancer.release(v, True, 1), no_pick)
    add("LoadBalancer.add", "address", balancer.add, ("", "a", *NO_TEXT))
    add("LoadBalancer.add", "weight", lambda v: balancer.add("c", v), whole(1, 1000))
    add("LoadBalancer.set_weight", "address", lambda v: balancer.set_weight(v, 1), ("", "c", *NO_TEXT))
    add("LoadBalancer.set_weight", "weight", lambda v: balancer.set_weight("a", v), whole(1, 1000))
    for each in (balancer.drain, balancer.remove, balancer.breaker):
        add(f"LoadBalancer.{each.__name__}", "address", each, ("", "c", *NO_TEXT))

    ratio = number(0.001, 1000.0)
    add("RetryBudget", "max_tokens", RetryBudget, whole(1, 1000))
    add("RetryBudget", "token_ratio", lambda v: RetryBudget(10, v), (0, *ratio))
    add("Backoff", "config", Backoff, (1, "config", {}, RetryConfig))
    add("Backoff", "uniform", lambda v: Backoff(uniform=v), (None, 1, "f"))
    add("backoff", "config", lambda v: backoff(v, 1, 0.0), (None, 1, "config", RetryConfig))
    add("backoff", "retry", lambda v: backoff(RetryConfig(), v, 0.0), (0, -1, 1.0, *HUGE[4:], *NO_NUMBERS))
    add("backoff", "previous", lambda v: backoff(RetryConfig(), 1, v), number(0.0, 1e9))
    add("backoff", "uniform", lambda v: backoff(RetryConfig(), 1, 0.0, v), (None, 1, "f"))
    add("HedgingPolicy", "hedging_delay", HedgingPolicy, number(0.0, 604_800.0))

    counter = Counter()
    add("Counter.add", "n", counter.add, whole(0, 2**56))
    add("Counter.together", "count", Counter.together, whole(1, 8))
    histogram = LatencyHistogram()
    add("LatencyHistogram", "lowest", LatencyHistogram, whole(1, 2**40))
    add("LatencyHistogram", "highest", lambda v: LatencyHistogram(10, v), (19, *whole(20, 2**61)))
    add("LatencyHistogram", "significant_digits", lambda v: LatencyHistogram(1, 100, v), whole(1, 5))
    add("LatencyHistogram.record", "us", histogram.record, whole(0, None))
    add("LatencyHistogram.record_corrected", "us", lambda v: histogram.record_corrected(v, 1), whole(0, None))
    interval = whole(0, None)
    add(
        "LatencyHistogram.record_corrected",
        "expected_interval",
        lambda v: histogram.record_corrected(1, v),
        interval,
    )
    no_array = (
        None,
        1,
        "1",
        [1.5],
        [math.nan],
        [True],
        [[1]],
        [[1], [2, 3]],
        [-1],
        [-(2**63)],
        ["1"],
        np.array([1.0]),
        [2**64],
    )
    add("LatencyHistogram.record_many", "values", histogram.record_many, no_array)
    add("LatencyHistogram.percentile", "percentile", histogram.percentile, number(0.0, 100.0))
    add(
        "LatencyHistogram.percentiles",
        "percentiles",
        lambda v: histogram.percentiles([50, v]),
        number(0.0, 100.0),
    )
    add(
        "LatencyHistogram.percentiles",
        "percentiles",
        histogram.percentiles,
        (None, 1, 50.0, "", np.array(50.0)),
    )
    for other in (histogram.merge, histogram.subtract):
        add(f"LatencyHistogram.{other.__name__}", "other", other, (None, 1, "h", Counter(), [1]))
    add("LatencyHistogram.decode", "blob", LatencyHistogram.decode, (None, 1, "", b"x", "é", [1]))

    arena = Arena(None, 1 << 16)
    add("Arena", "size", lambda v: Arena(None, v), whole(4096, 2**40))
    add("Arena", "path", lambda v: Arena(v, 4096), (1, b"arena", True, 1.0, object()))
    makers: list[tuple[str, Callable[[Any], object]]] = [
        ("breaker", arena.breaker),
        ("token_bucket", lambda v: arena.token_bucket(v, 1.0, 1)),
        ("retry_budget", arena.retry_budget),
        ("counter", arena.counter),
        ("histogram", arena.histogram),
    ]
    for method_name, make in makers:
        add(f"Arena.{method_name}", "name", make, ("", "x" * 129, *NO_TEXT))
    add("Arena.breaker", "config", lambda v: arena.breaker("b", v), (1, "config", {}))
    add("Arena.token_bucket", "rate", lambda v: arena.token_bucket("t", v, 1), rate)
    add("Arena.token_bucket", "burst", lambda v: arena.token_bucket("t", 1e9, v), whole(1, 2**31 - 1))
    add("Arena.retry_budget", "max_tokens", lambda v: arena.retry_budget("r", v), whole(1, 1000))
    add("Arena.retry_budget", "token_ratio", lambda v: arena.retry_budget("r", 10, v), ratio)
    add("Arena.histogram", "lowest", lambda v: arena.histogram("h", v), whole(1, 2**40))
    add("Arena.histogram", "highest", lambda v: arena.histogram("h", 1, v), whole(2, 2**61))
    digits = whole(1, 5)
    add("Arena.histogram", "significant_digits", lambda v: arena.histogram("h", 1, 100, v), digits)

    def advance(v: Any) -> None:
        with FrozenClock() as clock:
            clock.advance(v)

    add("FrozenClock.advance", "seconds", advance, number(0.0, 604_800.0))
    return found


def balancer_with(name: str, value: Any) -> LoadBalancer:
    return LoadBalancer(["a"], **{name: value})


def run(coroutine: Any) -> object:
    """Carry out what does not wait."""
    try:
        coroutine.send(None)
    except StopIteration as ended:
        return ended.value
    finally:
        coroutine.close()
    raise AssertionError("it waits")


ARGUMENTS = arguments()


@pytest.mark.parametrize("argument", ARGUMENTS, ids=lambda each: f"{each.taker}({each.name})")
def test_what_is_wrong_is_refused_by_name(argument: Argument) -> None:
    for value in argument.wrong:
        with pytest.raises(ValueError) as refused:
            argument.give(value)
        if argument.taker == "LatencyHistogram.decode":
            assert "not an HdrHistogram V2 blob" in str(refused.value)
        else:
            assert isinstance(refused.value, ConfigError), value
            assert refused.value.field.startswith(argument.name), value
            assert refused.value.accepted, value


def test_the_table_above_has_every_argument() -> None:
    """Of what is compiled or a facade of that: constructors and public methods, by their signatures."""
    listed = {(each.taker, each.name) for each in ARGUMENTS}
    missing = []
    for name in resilience.__all__:
        thing = getattr(resilience, name)
        if "tai_grpc._ext" not in str(thing.__mro__) or issubclass(thing, (int, tuple)) or name == "Endpoint":
            continue
        constructor = thing.__new__ if thing.__new__ is not object.__new__ else thing.__init__
        methods = {name: constructor}
        methods |= {
            f"{name}.{member}": getattr(thing, member)
            for member in dir(thing)
            if not member.startswith("_") and callable(getattr(thing, member))
        }
        for taker, method in methods.items():
            missing += [
                (taker, each) for each in parameters(name, taker, method) if (taker, each) not in listed
            ]
    assert missing == []


def parameters(kind: str, taker: str, method: Any) -> list[str]:
    """The names of a method's parameters, of compiled ones by their stub."""
    try:
        names = list(inspect.signature(method).parameters)
    except ValueError:
        names = ["args", "kwargs"]
    if names[-2:] == ["args", "kwargs"]:
        names = STUBS[kind].get("__new__" if taker == kind else taker.partition(".")[2], [])
    return [each for each in names if each not in ("self", "cls")]


def stubs() -> dict[str, dict[str, list[str]]]:
    """The parameters of each method of each compiled class."""
    found: dict[str, dict[str, list[str]]] = {}
    for path in (Path(tai_grpc.__file__).parent / "_ext" / "primitives").glob("*.pyi"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                found[node.name] = {
                    each.name: [argument.arg for argument in [*each.args.args, *each.args.kwonlyargs]]
                    for each in node.body
                    if isinstance(each, ast.FunctionDef)
                }
    return found


STUBS = stubs()
