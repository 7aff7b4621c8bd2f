"""What objects take of a process's memory: `python -m bench.workers.objects WHAT` answers with bytes."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Final

from bench.harness.processes import resident_bytes
from bench.peers.rpc.say import say
from tai_grpc._ext.primitives.arena import Memory
from tai_grpc.resilience import CircuitBreaker, Counter, LatencyHistogram
from tai_grpc.server.counts import ServerCounts

MANY: Final = 50_000
FEW: Final = 1_000


def of_each(make: Callable[[], object], count: int) -> float:
    """Return how much more the process has for each of so many, all of which are kept."""
    make()
    gc.collect()
    kept: list[object] = [None] * count
    before = resident_bytes("self")
    for place in range(count):
        kept[place] = make()
    return (resident_bytes("self") - before) / count


def state_of(breaker: CircuitBreaker) -> int:
    """Return the bytes that a breaker's state has, which are in an arena as well."""
    return next(each for each in gc.get_referents(breaker) if isinstance(each, Memory)).size


def counts() -> ServerCounts:
    """Return the counts of a service, without what is stated apart."""
    made = ServerCounts()
    del made.latency
    return made


BREAKER_STATE: Final = "breaker state"
BREAKER_OBJECT: Final = "a CircuitBreaker with its Python object"
METRICS: Final = "metrics of a service without its histogram"
MEASURES: Final[dict[str, Callable[[], float]]] = {
    BREAKER_STATE: lambda: float(state_of(CircuitBreaker())),
    BREAKER_OBJECT: lambda: of_each(CircuitBreaker, MANY),
    "a Counter": lambda: of_each(Counter, MANY),
    METRICS: lambda: of_each(counts, MANY),
    "its histogram": lambda: of_each(LatencyHistogram, FEW),
}


if __name__ == "__main__":
    say({"ready": True})
    for _ in sys.stdin:
        say({"bytes": MEASURES[sys.argv[1]]()})
