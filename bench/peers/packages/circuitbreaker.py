import circuitbreaker

from bench.peers.breakers import breaker_calls
from bench.peers.subjects import FAILURES, Peer


def breaker(recovery: float) -> circuitbreaker.CircuitBreaker:
    return circuitbreaker.CircuitBreaker(failure_threshold=FAILURES, recovery_timeout=recovery)


def peer() -> Peer:
    return Peer("circuitbreaker", breaker_calls(breaker), breaker)
