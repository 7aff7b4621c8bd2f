# pyright: strict
from pathlib import Path
from typing import reveal_type

from tai_grpc.resilience import Arena, CircuitBreakerConfig

arena = Arena(Path("/dev/shm/orders"), 1 << 20)
reveal_type(arena)  # reveals: Arena
reveal_type(Arena(None, size=4096))  # reveals: Arena
reveal_type(arena.path)  # reveals: Path | None
reveal_type(arena.size)  # reveals: int
reveal_type(arena.used_bytes)  # reveals: int
reveal_type(arena.entries())  # reveals: dict[str, str]
reveal_type(arena.breaker("database", CircuitBreakerConfig()))  # reveals: CircuitBreaker
reveal_type(arena.token_bucket("requests", 1000.0, 100))  # reveals: TokenBucket
reveal_type(arena.retry_budget("database"))  # reveals: RetryBudget
reveal_type(arena.counter("requests"))  # reveals: Counter
reveal_type(arena.histogram("latency"))  # reveals: LatencyHistogram

Arena("/dev/shm/orders")  # error: a size
arena.breaker(CircuitBreakerConfig())  # error: a name
arena.token_bucket("requests")  # error: a rate and a burst
