from collections.abc import Callable

from tai_grpc.resilience import CircuitBreaker, Outcome


def test_check(per_call: Callable[..., None]) -> None:
    per_call("breaker.is_call_allowed()", "noop.nothing()", at_most=2, breaker=CircuitBreaker())


def test_record_success(per_call: Callable[..., None]) -> None:
    per_call("breaker.record_success()", "noop.nothing()", breaker=CircuitBreaker())


def test_acquire_and_settle(per_call: Callable[..., None]) -> None:
    statement = "breaker.settle(breaker.acquire(), success)"
    per_call(statement, "noop.nothing()", breaker=CircuitBreaker(), success=Outcome.SUCCESS)


def test_refuse(per_call: Callable[..., None]) -> None:
    breaker = CircuitBreaker()
    for _ in range(5):
        breaker.record_failure()
    per_call("open_breaker.is_call_allowed()", "noop.nothing()", open_breaker=breaker)


def test_block(per_call: Callable[..., None]) -> None:
    per_call("with breaker: pass", "noop.nothing()", breaker=CircuitBreaker())


def test_decorated_function(per_call: Callable[..., None]) -> None:
    @CircuitBreaker()
    def nothing() -> None:
        pass

    per_call("decorated()", "noop.nothing()", decorated=nothing)
