from collections.abc import Callable

from tai_grpc.resilience import RetryBudget


def test_ask(per_call: Callable[..., None]) -> None:
    per_call("budget.try_retry()", "noop.nothing()", budget=RetryBudget())


def test_success(per_call: Callable[..., None]) -> None:
    per_call("budget.record_success()", "noop.nothing()", budget=RetryBudget())
