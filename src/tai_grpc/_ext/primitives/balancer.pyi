from collections.abc import Iterable
from typing import Final, NamedTuple, final

from tai_grpc._ext.primitives.breaker import CircuitBreaker, CircuitState
from tai_grpc.config import CircuitBreakerConfig, LoadBalancingStrategy

MAX_ENDPOINTS: Final[int]

class EndpointStats(NamedTuple):
    address: str
    active_connections: int
    total_requests: int
    failures: int
    ejected: bool
    breaker_state: CircuitState
    latency_ewma_us: float

@final
class Endpoint:
    @property
    def address(self) -> str: ...
    @property
    def index(self) -> int: ...

class LoadBalancer:
    def __new__(
        cls,
        addresses: Iterable[str],
        strategy: LoadBalancingStrategy = ...,
        *,
        breaker: CircuitBreakerConfig | None = None,
    ) -> LoadBalancer: ...
    @property
    def addresses(self) -> tuple[str, ...]: ...
    @property
    def strategy(self) -> LoadBalancingStrategy: ...
    def pick(self) -> Endpoint: ...
    def release(self, endpoint: Endpoint, success: bool | None, latency_us: int) -> None: ...
    def breaker(self, address: str) -> CircuitBreaker: ...
    def get_stats(self) -> list[EndpointStats]: ...
