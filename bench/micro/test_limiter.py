from collections.abc import Callable

from tai_grpc.resilience import TokenBucket


def test_acquire(per_call: Callable[..., None]) -> None:
    bucket = TokenBucket(rate=1e9, burst=2**31 - 1)
    per_call("bucket.try_acquire()", "noop.optional()", at_most=3, bucket=bucket)


def test_refuse(per_call: Callable[..., None]) -> None:
    bucket = TokenBucket(rate=0.001, burst=1)
    bucket.try_acquire()
    per_call("empty_bucket.try_acquire()", "noop.optional()", empty_bucket=bucket)
