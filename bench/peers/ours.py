"""tai-grpc itself, in the same terms."""

from bench.peers.breakers import breaker_calls
from bench.peers.latencies import latencies
from bench.peers.subjects import FAILURES, HALF_OPEN_CALLS, RATE, Peer, call
from tai_grpc.config import Jitter, RetryConfig
from tai_grpc.resilience import (
    Backoff,
    Bulkhead,
    CircuitBreaker,
    CircuitBreakerConfig,
    KeyedTokenBucket,
    LatencyHistogram,
    RetryBudget,
    TokenBucket,
)


def breaker(recovery: float) -> CircuitBreaker:
    return CircuitBreaker(
        CircuitBreakerConfig(
            failure_threshold=FAILURES, open_timeout=recovery, half_open_max_calls=HALF_OPEN_CALLS
        )
    )


def peer() -> Peer:
    recorded = LatencyHistogram()
    recorded.record_many(latencies())
    return Peer(
        "tai-grpc",
        {
            **breaker_calls(breaker),
            "take": call("bucket.try_acquire()", bucket=TokenBucket(RATE, RATE)),
            "take_keyed": call("buckets.try_acquire('client-7')", buckets=KeyedTokenBucket(RATE, RATE, 1000)),
            "take_async": call("await bucket.acquire()", bucket=TokenBucket(RATE, RATE)),
            "enter": call("with bulkhead: pass", bulkhead=Bulkhead(10)),
            "record": call("histogram.record(12345)", histogram=LatencyHistogram()),
            "percentile": call("histogram.percentile(99.9)", histogram=recorded),
            "count": call("budget.record_success()", budget=RetryBudget()),
            "backoff": call("next(waits)", waits=Backoff(RetryConfig(jitter=Jitter.FULL))),
        },
        breaker,
    )
