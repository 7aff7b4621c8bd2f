"""What every step is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tai_grpc import CircuitState, GrpcClient, GrpcClientConfig
from tai_grpc.cli.demo.display import Display
from tai_grpc.cli.demo.servers import Server
from tai_grpc.client.stats import ClientStats
from tai_grpc.config import Transport


@dataclass(frozen=True, slots=True)
class Stage:
    """The servers that run, what carries the calls to them, and where to say what happens."""

    servers: Sequence[Server]
    transport: Transport
    display: Display

    def client(self, **settings: Any) -> GrpcClient:
        """A client of the first server, or of the `server_addresses` among the settings."""
        usual = {"server_addresses": (self.servers[0].address,), "transport": self.transport}
        return GrpcClient(GrpcClientConfig(**{**usual, **settings}))


@dataclass(frozen=True, slots=True)
class Transition:
    """A breaker's change of state, `at` seconds after the step began."""

    at: float
    old: CircuitState
    new: CircuitState


@dataclass(frozen=True, slots=True)
class StepResult:
    """A step that held. `refused` counts the calls that had to fail, and did."""

    name: str
    stats: ClientStats
    receipts: int
    refused: int = 0
    transitions: Mapping[str, Sequence[Transition]] = field(default_factory=dict)
