from collections.abc import Callable

from tai_grpc.config import Jitter, RetryConfig
from tai_grpc.resilience import Backoff, RetryBudget
from tai_grpc.resilience.backoff import backoff


def test_ask(per_call: Callable[..., None]) -> None:
    per_call("budget.try_retry()", "noop.nothing()", budget=RetryBudget())


def test_success(per_call: Callable[..., None]) -> None:
    per_call("budget.record_success()", "noop.nothing()", budget=RetryBudget())


def test_next_wait(per_call: Callable[..., None]) -> None:
    per_call("next(waits)", "noop.nothing()", waits=Backoff(RetryConfig(jitter=Jitter.FULL)))


def test_wait(per_call: Callable[..., None]) -> None:
    config = RetryConfig(jitter=Jitter.FULL)
    per_call("backoff(config, 3, 0.0)", "noop.three(None, 3, 0.0)", backoff=backoff, config=config)
