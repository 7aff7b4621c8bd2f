# pyright: strict
from typing import reveal_type

from tai_grpc import CircuitBreaker, CircuitBreakerConfig, CircuitState
from tai_grpc.resilience import CallOutcome

breaker = CircuitBreaker(CircuitBreakerConfig(failure_threshold=3), name="database")
reveal_type(breaker)  # reveals: CircuitBreaker
reveal_type(breaker.name)  # reveals: str
reveal_type(breaker.state)  # reveals: CircuitState
reveal_type(breaker.forced_open)  # reveals: bool
reveal_type(breaker.disabled)  # reveals: bool
reveal_type(breaker.is_metrics_only)  # reveals: bool
reveal_type(breaker.acquire())  # reveals: int
reveal_type(breaker.settle(1, CallOutcome.SUCCESS, 0.1))  # reveals: None
reveal_type(breaker.is_call_allowed())  # reveals: bool
reveal_type(breaker.check())  # reveals: None
reveal_type(breaker.record_success())  # reveals: None
reveal_type(breaker.record_failure(duration=1.0))  # reveals: None
reveal_type(breaker.retry_after())  # reveals: float
reveal_type(breaker.reset())  # reveals: None
reveal_type(breaker.force_open())  # reveals: None
reveal_type(breaker.disable())  # reveals: None
reveal_type(breaker.metrics_only())  # reveals: None

metrics = breaker.metrics()
reveal_type(metrics)  # reveals: CircuitMetrics
reveal_type(metrics.calls)  # reveals: int
reveal_type(metrics.failures)  # reveals: int
reveal_type(metrics.slow_calls)  # reveals: int
reveal_type(metrics.failure_rate)  # reveals: float
reveal_type(metrics.slow_call_rate)  # reveals: float


def heard(old: CircuitState, new: CircuitState) -> None:
    print(old, new)


reveal_type(breaker.on_transition(heard))  # reveals: None

with breaker as entered:
    reveal_type(entered)  # reveals: CircuitBreaker


@breaker
def query(table: str, *, limit: int) -> float:
    return limit / len(table)


reveal_type(query("users", limit=1))  # reveals: float
query("users")  # error: a decorated function keeps its parameters
query(1, limit=1)  # error


@breaker
async def fetch(url: str) -> bytes:
    return url.encode()


async def main() -> None:
    reveal_type(await fetch("/"))  # reveals: bytes
    async with breaker as entered_too:
        reveal_type(entered_too)  # reveals: CircuitBreaker


CircuitBreaker(3)  # error: a config, not a number
CircuitBreaker(None, "database")  # error: by name only
breaker.on_transition(query)  # error
breaker.settle(1, True)  # error: a CallOutcome
breaker.state = CircuitState.OPEN  # error: read only
breaker.failure_rate()  # error: there is no such method
