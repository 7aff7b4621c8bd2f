import pybreaker

from bench.peers.breakers import breaker_calls
from bench.peers.subjects import FAILURES, Peer


def breaker(recovery: float) -> pybreaker.CircuitBreaker:
    return pybreaker.CircuitBreaker(fail_max=FAILURES, reset_timeout=recovery)


def peer() -> Peer:
    return Peer("pybreaker", breaker_calls(breaker), breaker)
