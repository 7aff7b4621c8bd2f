from collections.abc import Callable

from tai_grpc.resilience import Counter


def test_add(per_call: Callable[..., None]) -> None:
    per_call("counter.add()", "noop.optional()", at_most=3, counter=Counter())
