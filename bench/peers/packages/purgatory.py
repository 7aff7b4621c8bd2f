from collections.abc import Callable

import purgatory

from bench.peers.breakers import breaker_calls
from bench.peers.subjects import FAILURES, Function, Peer


def breaker(recovery: float) -> Callable[[Function], Function]:
    factory = purgatory.SyncCircuitBreakerFactory(default_threshold=FAILURES, default_ttl=recovery)
    decorator: Callable[[Function], Function] = factory("database")
    return decorator


def peer() -> Peer:
    return Peer("purgatory", breaker_calls(breaker), breaker)
