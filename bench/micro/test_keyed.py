from collections.abc import Callable

from tai_grpc.resilience import KeyedTokenBucket


def test_acquire(per_call: Callable[..., None]) -> None:
    table = KeyedTokenBucket(rate=1e9, burst=2**31 - 1, max_keys=100_000)
    per_call("table.try_acquire('user-12345')", "noop.one('user-12345')", table=table)


def test_refuse(per_call: Callable[..., None]) -> None:
    table = KeyedTokenBucket(rate=0.001, burst=1, max_keys=100_000)
    table.try_acquire("user-12345")
    per_call("empty.try_acquire('user-12345')", "noop.one('user-12345')", empty=table)
