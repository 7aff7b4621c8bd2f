from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tai_grpc._ext.primitives.retry import RetryBudget
from tai_grpc.errors import ConfigError


@given(
    max_tokens=st.integers(1, 20),
    thousandths=st.integers(1, 3000),
    outcomes=st.lists(st.booleans(), max_size=200),
)
def test_it_is_the_bucket_of_grfc_a6(max_tokens: int, thousandths: int, outcomes: list[bool]) -> None:
    budget = RetryBudget(max_tokens, thousandths / 1000)
    tokens = Fraction(max_tokens)
    for success in outcomes:
        if success:
            budget.record_success()
            tokens = min(tokens + Fraction(thousandths, 1000), Fraction(max_tokens))
        else:
            budget.record_failure()
            tokens = max(tokens - 1, Fraction(0))
        assert budget.tokens == pytest.approx(float(tokens), abs=1e-9)
        assert budget.try_retry() is (tokens > Fraction(max_tokens, 2))


def test_a_target_that_only_fails_gets_a_bounded_number_of_retries() -> None:
    """Amplification under total failure: max_tokens / 2 retries in all, not a share of the calls."""
    budget = RetryBudget(max_tokens=10, token_ratio=0.1)
    retries = 0
    for _ in range(10_000):
        budget.record_failure()
        if budget.try_retry():
            retries += 1
            budget.record_failure()
    assert retries <= 5


def test_decimals_after_the_third_are_cut_off_and_the_third_is_kept() -> None:
    for ratio, kept in ((0.0019, 0.001), (0.57, 0.57), (0.29, 0.29), (0.1, 0.1)):
        budget = RetryBudget(10, ratio)
        budget.record_failure()
        budget.record_success()
        assert budget.tokens == 9 + kept


def test_eight_threads_lose_no_token(hammer: Callable[[Callable[[], None]], list[None]]) -> None:
    budget = RetryBudget(max_tokens=1000, token_ratio=0.001)

    def fail() -> None:
        for _ in range(100):
            budget.record_failure()

    def succeed() -> None:
        for _ in range(1000):
            budget.record_success()

    hammer(fail)
    assert budget.tokens == 200.0
    hammer(succeed)
    assert budget.tokens == 208.0
    assert budget.max_tokens == 1000


@pytest.mark.parametrize("value", [0, -1, 1001, 2.5, True, None, "10"])
def test_max_tokens_is_checked(value: int) -> None:
    with pytest.raises(ConfigError, match=r"max_tokens=.*an int from 1 to 1000"):
        RetryBudget(max_tokens=value)


@pytest.mark.parametrize("value", [0, 0.0009, -0.1, 1000.5, float("nan"), float("inf"), True, None, "0.1"])
def test_token_ratio_is_checked(value: float) -> None:
    with pytest.raises(ConfigError, match=r"token_ratio=.*a number from 0.001 to 1000"):
        RetryBudget(token_ratio=value)
