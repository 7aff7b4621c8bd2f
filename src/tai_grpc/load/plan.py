"""What a load run sends, to whom, and for how long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from tai_grpc.config import MAX_SECONDS, Transport, check_address, check_float, check_int, check_transport
from tai_grpc.errors import ConfigError
from tai_grpc.load.methods import Method
from tai_grpc.status import Metadata


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """A closed loop: `concurrency` workers, each sending its next request when it has the last response.

    The run ends after `total` calls or, when `duration` (seconds) is given, after that time instead; calls in
    flight then are waited for. `requests` are serialized messages, sent in turn. Each call may take `timeout`
    seconds. The workers share `connections` connections, which are made, each within `connect_timeout`
    seconds, before the clock starts; `transport` carries them, None: the native one where it was built. More
    than `total` workers would have nothing to do and are not started.
    """

    host: str
    method: Method
    requests: tuple[bytes, ...]
    metadata: Metadata = ()
    concurrency: int = 50
    total: int = 200
    duration: float | None = None
    timeout: float = 20.0
    connections: int = 1
    connect_timeout: float = 10.0
    transport: Transport | None = None
    name: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_address("host", self.host)
        if self.method.client_streaming or self.method.server_streaming:
            raise ConfigError(
                "call", self.method.full_name, f"a unary method (this one is {self.method.kind})"
            )
        if not self.requests:
            raise ConfigError("data", "", "at least one request")
        check_int("concurrency", self.concurrency, 1, 10_000)
        check_int("total", self.total, 1, 1_000_000_000)
        if self.duration is not None:
            check_float("duration", self.duration, 0.0, MAX_SECONDS, above=True)
        check_float("timeout", self.timeout, 0.0, 3600.0, above=True)
        check_int("connections", self.connections, 1, 1_000)
        if self.connections > self.concurrency:
            raise ConfigError("connections", self.connections, f"at most concurrency ({self.concurrency})")
        check_transport(self.transport)
        check_float("connect_timeout", self.connect_timeout, 0.0, 3600.0, above=True)
        object.__setattr__(self, "tags", MappingProxyType(dict(self.tags)))
