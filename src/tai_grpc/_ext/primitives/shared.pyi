from tai_grpc._ext.primitives.arena import Region
from tai_grpc._ext.primitives.breaker import CircuitBreaker
from tai_grpc._ext.primitives.counter import Counter
from tai_grpc._ext.primitives.histogram import LatencyHistogram
from tai_grpc._ext.primitives.limiter import TokenBucket
from tai_grpc._ext.primitives.retry import RetryBudget

def share(
    region: Region,
    name: str,
    what: str,
    primitive: CircuitBreaker | TokenBucket | RetryBudget | Counter | LatencyHistogram,
) -> None: ...
