from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, Self, final

from typing_extensions import disjoint_base

from tai_grpc._ext.primitives.breaker import CircuitBreaker, CircuitState
from tai_grpc.config import CircuitBreakerConfig, LoadBalancingStrategy, OutlierConfig, SlowStartConfig

MAX_ENDPOINTS: Final[int]
MAX_WEIGHT: Final[int]

class EndpointStats(NamedTuple):
    address: str
    active_connections: int
    total_requests: int
    failures: int
    ejected: bool
    breaker_state: CircuitState
    latency_ewma_us: float
    weight: int
    draining: bool

@final
class Endpoint:
    @property
    def address(self) -> str: ...
    @property
    def index(self) -> int: ...

@disjoint_base
class LoadBalancer:
    def __new__(
        cls,
        addresses: Iterable[str],
        strategy: LoadBalancingStrategy = ...,
        *,
        weights: Mapping[str, int] | None = None,
        breaker: CircuitBreakerConfig | None = None,
        outlier: OutlierConfig | None = None,
        slow_start: SlowStartConfig | None = None,
        seed: int | None = None,
    ) -> Self: ...
    @property
    def addresses(self) -> tuple[str, ...]: ...
    @property
    def strategy(self) -> LoadBalancingStrategy: ...
    def pick(self) -> Endpoint: ...
    def release(self, endpoint: Endpoint, success: bool | None, latency_us: int) -> None: ...
    def add(self, address: str, weight: int = 1) -> None: ...
    def set_weight(self, address: str, weight: int) -> None: ...
    def drain(self, address: str) -> None: ...
    def remove(self, address: str) -> None: ...
    def breaker(self, address: str) -> CircuitBreaker: ...
    def get_stats(self) -> list[EndpointStats]: ...
