# pyright: strict
from typing import reveal_type

from tai_grpc import AdaptiveLimiter, AdaptiveLimiterConfig, Bulkhead, KeyedTokenBucket, TokenBucket

bucket = TokenBucket(rate=1000.0, burst=100)
reveal_type(bucket)  # reveals: TokenBucket
reveal_type(bucket.rate)  # reveals: float
reveal_type(bucket.burst)  # reveals: int
reveal_type(bucket.try_acquire())  # reveals: bool
reveal_type(bucket.try_acquire(2))  # reveals: bool
reveal_type(bucket.check(n=2))  # reveals: None
reveal_type(bucket.wait_time(2))  # reveals: float

buckets = KeyedTokenBucket(10.0, 20, max_keys=10_000)
reveal_type(buckets)  # reveals: KeyedTokenBucket
reveal_type(buckets.rate)  # reveals: float
reveal_type(buckets.burst)  # reveals: int
reveal_type(buckets.max_keys)  # reveals: int
reveal_type(buckets.size_bytes)  # reveals: int
reveal_type(buckets.try_acquire("client", 2))  # reveals: bool
reveal_type(buckets.try_acquire(b"client"))  # reveals: bool
reveal_type(buckets.check(7))  # reveals: None
reveal_type(buckets.wait_time("client"))  # reveals: float

bulkhead = Bulkhead(10, max_waiting=5, max_wait=0.5)
reveal_type(bulkhead)  # reveals: Bulkhead
reveal_type(bulkhead.max_concurrent)  # reveals: int
reveal_type(bulkhead.in_flight)  # reveals: int
reveal_type(bulkhead.waiting)  # reveals: int
reveal_type(bulkhead.try_enter())  # reveals: bool
reveal_type(bulkhead.leave())  # reveals: None
with bulkhead as entered:
    reveal_type(entered)  # reveals: Bulkhead

limiter = AdaptiveLimiter(AdaptiveLimiterConfig())
reveal_type(limiter)  # reveals: AdaptiveLimiter
reveal_type(limiter.limit)  # reveals: int
reveal_type(limiter.in_flight)  # reveals: int
reveal_type(limiter.try_enter())  # reveals: bool
reveal_type(limiter.leave(latency_us=250))  # reveals: None
with limiter as entered_limiter:
    reveal_type(entered_limiter)  # reveals: AdaptiveLimiter


async def main() -> None:
    reveal_type(await bucket.acquire(2, timeout=1.0))  # reveals: None
    async with bulkhead as inside:
        reveal_type(inside)  # reveals: Bulkhead
    async with limiter as inside_limiter:
        reveal_type(inside_limiter)  # reveals: AdaptiveLimiter


TokenBucket("1000", 100)  # error
TokenBucket(1000.0)  # error: a burst too
TokenBucket(1000.0, 1.5)  # error
bucket.rate = 2.0  # error: read only
bucket.try_acquire("client")  # error: it has no keys
buckets.try_acquire()  # error: a key
buckets.try_acquire(1.5)  # error
limiter.leave("fast")  # error
