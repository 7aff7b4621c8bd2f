from tai_grpc.resilience.budget import RetryBudget, RetryBudgetConfig


def test_its_defaults_are_those_of_the_config() -> None:
    budget, config = RetryBudget(), RetryBudgetConfig()
    assert (budget.max_tokens, budget.tokens) == (config.max_tokens, 10.0)
    budget.record_failure()
    budget.record_success()
    assert budget.tokens == 9.0 + config.token_ratio


def test_retries_stop_when_half_of_the_tokens_are_gone_and_resume_with_successes() -> None:
    budget = RetryBudget(max_tokens=4, token_ratio=0.5)
    budget.record_failure()
    assert budget.try_retry()
    budget.record_failure()
    assert not budget.try_retry()
    budget.record_success()
    assert budget.try_retry()
    assert budget.try_retry(), "asking takes nothing"
