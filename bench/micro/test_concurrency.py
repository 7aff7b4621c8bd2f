from collections.abc import Callable

from tai_grpc.resilience import AdaptiveLimiter, Bulkhead


def test_enter_and_leave(per_call: Callable[..., None]) -> None:
    per_call(
        "bulkhead.try_enter(); bulkhead.leave()", "noop.nothing(); noop.nothing()", bulkhead=Bulkhead(10)
    )


def test_enter_and_leave_with_a_latency(per_call: Callable[..., None]) -> None:
    statement = "limiter.try_enter(); limiter.leave(100)"
    per_call(statement, "noop.nothing(); noop.one(100)", limiter=AdaptiveLimiter())
