"""When there is another attempt, and after how long."""

from __future__ import annotations

import math
import random

import pytest
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st

from tai_grpc.config import Jitter, RetryConfig
from tai_grpc.resilience import RetryBudget
from tai_grpc.resilience.retry import NEVER, Retries, backoff, pushback

UNAVAILABLE = StatusCode.UNAVAILABLE


def low(least: float, _most: float) -> float:
    return least


def high(_least: float, most: float) -> float:
    return most


def config(jitter: Jitter) -> RetryConfig:
    return RetryConfig(initial_backoff=0.1, backoff_multiplier=2.0, max_backoff=1.0, jitter=jitter)


@pytest.mark.parametrize(
    ("jitter", "least", "most"),
    [
        (Jitter.NONE, [0.1, 0.2, 0.4, 0.8, 1.0, 1.0], [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]),
        (Jitter.A6, [0.08, 0.16, 0.32, 0.64, 0.8, 0.8], [0.12, 0.24, 0.48, 0.96, 1.2, 1.2]),
        (Jitter.FULL, [0.0] * 6, [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]),
        (Jitter.EQUAL, [0.05, 0.1, 0.2, 0.4, 0.5, 0.5], [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]),
    ],
)
def test_waits_grow_to_the_maximum_within_the_jitters_bounds(
    jitter: Jitter, least: list[float], most: list[float]
) -> None:
    assert [backoff(config(jitter), n, 0.0, low) for n in range(1, 7)] == pytest.approx(least)
    assert [backoff(config(jitter), n, 0.0, high) for n in range(1, 7)] == pytest.approx(most)


def test_decorrelated_jitter_grows_from_the_wait_before() -> None:
    """min(cap, U(base, 3 * previous)), as in "Exponential Backoff And Jitter"."""
    waits = [0.0]
    for n in range(1, 6):
        waits.append(backoff(config(Jitter.DECORRELATED), n, waits[-1], high))
    assert waits[1:] == pytest.approx([0.1, 0.3, 0.9, 1.0, 1.0])
    assert backoff(config(Jitter.DECORRELATED), 4, 0.9, low) == pytest.approx(0.1)


@st.composite
def rules(draw: st.DrawFn) -> RetryConfig:
    return RetryConfig(
        initial_backoff=draw(st.floats(1e-6, 1e5)),
        max_backoff=draw(st.floats(1e-6, 1e5)),
        backoff_multiplier=draw(st.floats(1.0, 100.0)),
        jitter=draw(st.sampled_from(Jitter)),
    )


@given(rules(), st.integers(1, 100_000), st.floats(0.0, 1e5), st.randoms())
def test_a_wait_is_never_negative_nor_over_the_maximum(
    config: RetryConfig, retry: int, previous: float, rng: random.Random
) -> None:
    """Also after so many retries that no float holds the growth; A6 spreads by a fifth."""
    wait = backoff(config, retry, min(previous, config.max_backoff), rng.uniform)
    assert 0.0 <= wait <= config.max_backoff * (1.2 if config.jitter is Jitter.A6 else 1.0) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], None),
        (["0"], 0.0),
        (["25"], 0.025),
        (["60000"], 60.0),
        (["-1"], NEVER),
        (["1.5"], NEVER),
        (["soon"], NEVER),
        ([""], NEVER),
        (["٣"], NEVER),
        (["9" * 5000], NEVER),
        ([b"25"], NEVER),
        (["25", "50"], NEVER),
    ],
)
def test_pushback_is_milliseconds_and_anything_else_forbids(
    values: list[str | bytes], expected: float | None
) -> None:
    trailers = [("other", "1"), *(("grpc-retry-pushback-ms", value) for value in values)]
    assert pushback(trailers) == expected


def retries(
    rules: RetryConfig | None = None,
    budget: RetryBudget | None = None,
    *,
    method: str = "/pkg.Service/Method",
    deadline: float | None = None,
    spare: int = 0,
) -> Retries:
    return Retries(
        rules or RetryConfig(jitter=Jitter.NONE),
        budget or RetryBudget(1000),
        method=method,
        deadline=deadline,
        spare=spare,
    )


def after(
    subject: Retries,
    code: StatusCode = UNAVAILABLE,
    *,
    pushback_ms: str | None = None,
    sent: bool = True,
    committed: bool = False,
    now: float = 100.0,
) -> float | None:
    trailers = () if pushback_ms is None else (("grpc-retry-pushback-ms", pushback_ms),)
    return subject.after(code, trailers, sent=sent, committed=committed, now=now)


@pytest.mark.parametrize("code", set(StatusCode) - {UNAVAILABLE})
def test_only_listed_codes_are_retried(code: StatusCode) -> None:
    assert after(retries(), code) is None


def test_listed_codes_are_retried() -> None:
    rules = RetryConfig(retryable_codes=frozenset({"ABORTED", "RESOURCE_EXHAUSTED"}))
    assert after(retries(rules), StatusCode.ABORTED) is not None
    assert after(retries(rules), StatusCode.RESOURCE_EXHAUSTED) is not None
    assert after(retries(rules), UNAVAILABLE) is None


def test_the_number_of_retries_is_bounded_and_counted() -> None:
    subject = retries(RetryConfig(max_retries=2, jitter=Jitter.NONE))
    assert [after(subject) for _ in range(3)] == [0.1, 0.2, None]
    assert subject.made == 2


def test_no_retry_once_the_call_is_committed() -> None:
    assert after(retries(), committed=True) is None


def test_a_late_attempt_is_retried_for_idempotent_methods_only() -> None:
    rules = RetryConfig(
        retryable_codes=frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED"}),
        idempotent_methods=frozenset({"pkg.Service/Get"}),
    )
    assert after(retries(rules, method="/pkg.Service/Add"), StatusCode.DEADLINE_EXCEEDED) is None
    assert after(retries(rules, method="/pkg.Service/Get"), StatusCode.DEADLINE_EXCEEDED) is not None
    only_method = RetryConfig(idempotent_methods=frozenset({"pkg.Service/Get"}))
    assert after(retries(only_method, method="/pkg.Service/Get"), StatusCode.DEADLINE_EXCEEDED) is not None


def test_no_wait_reaches_the_deadline() -> None:
    """A wait that would end at or after the deadline is not begun: the call fails now, with what it has."""
    assert after(retries(deadline=100.11)) == 0.1
    assert after(retries(deadline=100.1)) is None
    assert after(retries(deadline=105.0), pushback_ms="5000") is None
    assert after(retries(deadline=99.0)) is None


def test_pushback_replaces_the_wait_and_starts_the_backoff_anew() -> None:
    subject = retries(RetryConfig(max_retries=5, jitter=Jitter.NONE))
    assert [after(subject), after(subject)] == [0.1, 0.2]
    assert after(subject, pushback_ms="1234") == 1.234
    assert after(subject) == 0.1


def test_pushback_forbids_also_without_a_deadline() -> None:
    assert after(retries(), pushback_ms="-1") is None
    assert math.isinf(NEVER)


def test_pushback_does_not_make_a_final_code_transient() -> None:
    assert after(retries(), StatusCode.INVALID_ARGUMENT, pushback_ms="10") is None


def test_failures_take_from_the_budget_and_successes_give_back() -> None:
    """gRFC A6: no retries while half of the tokens or more are gone; a final code counts not."""
    budget = RetryBudget(4, 1.0)
    assert after(retries(budget=budget)) is not None  # 3 left
    assert after(retries(budget=budget)) is None  # 2 left: half
    assert after(retries(budget=budget), StatusCode.NOT_FOUND) is None
    assert budget.tokens == 2
    after(retries(budget=budget), StatusCode.OK)
    after(retries(budget=budget), StatusCode.OK)
    assert budget.tokens == 4
    assert after(retries(budget=budget)) is not None


def test_a_failure_that_may_not_be_retried_takes_from_the_budget_as_well() -> None:
    budget = RetryBudget(10)
    after(retries(budget=budget), pushback_ms="-1")
    after(retries(budget=budget), committed=True)
    after(retries(RetryConfig(max_retries=0), budget))
    assert budget.tokens == 7


def test_an_attempt_that_never_left_moves_on_at_once_and_free() -> None:
    """To each of the other endpoints once; after that it is a failure as any other."""
    budget = RetryBudget(10)
    subject = retries(RetryConfig(max_retries=1, jitter=Jitter.NONE), budget, spare=2)
    assert [after(subject, sent=False) for _ in range(4)] == [0.0, 0.0, 0.1, None]
    assert subject.made == 1
    assert budget.tokens == 8


def test_a_call_that_is_committed_does_not_move_on() -> None:
    """As a stream of requests which some were taken of, and whose connection was then lost for good."""
    assert after(retries(spare=2), sent=False, committed=True) is None


def test_an_attempt_that_never_left_does_not_outlive_the_deadline() -> None:
    assert after(retries(deadline=100.0, spare=2), sent=False) is None
