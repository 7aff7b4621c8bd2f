"""How many retries a failing target is spared: see `RetryBudget`."""

from tai_grpc._ext.primitives.retry import RetryBudget
from tai_grpc.config import RetryBudgetConfig

__all__ = ["RetryBudget", "RetryBudgetConfig"]
