# pyright: strict
from typing import reveal_type

from tai_grpc import Backoff, Jitter, RetryBudget, RetryConfig

budget = RetryBudget(max_tokens=10, token_ratio=0.1)
reveal_type(budget)  # reveals: RetryBudget
reveal_type(budget.tokens)  # reveals: float
reveal_type(budget.max_tokens)  # reveals: int
reveal_type(budget.try_retry())  # reveals: bool
reveal_type(budget.record_success())  # reveals: None
reveal_type(budget.record_failure())  # reveals: None

waits = Backoff(RetryConfig(jitter=Jitter.FULL))
reveal_type(waits)  # reveals: Backoff
reveal_type(next(waits))  # reveals: float
reveal_type(waits.retries)  # reveals: int
reveal_type(waits.reset())  # reveals: None
for wait in waits:
    reveal_type(wait)  # reveals: float

RetryBudget(10.5)  # error: whole tokens
budget.tokens = 3.0  # error: read only
budget.try_retry(1)  # error
