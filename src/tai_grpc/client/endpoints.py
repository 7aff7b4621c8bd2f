"""The client's endpoints: one balancer with a breaker each, and one lazily made transport each."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Final, Generic, Protocol, TypeVar

from tai_grpc.checks import MAX_SECONDS
from tai_grpc.config import GrpcClientConfig
from tai_grpc.errors import CircuitOpenError
from tai_grpc.resilience import CircuitBreaker, CircuitState, Endpoint, EndpointStats, LoadBalancer
from tai_grpc.transport.base import ClientTransport


class Reconnecting(Protocol):
    """What endpoints ask of a transport of any kind."""

    def reconnect(self) -> None: ...


T = TypeVar("T", bound=Reconnecting)

_MAX_PICKS: Final = 64
"""How often a pick is repeated to get around endpoints that have just failed."""

_MAX_NAMED: Final = 8
"""How many endpoints an error message names."""

_MAX_LATENCY_US: Final = round(MAX_SECONDS * 1_000_000)


def _ignore(_address: str) -> None:
    """Stand in for `Endpoints.on_probe`."""


class EndpointTable(Generic[T]):
    """Picks endpoints, and keeps the transport of each from its first pick until they are taken."""

    def __init__(self, config: GrpcClientConfig, connect: Callable[[str, GrpcClientConfig], T]) -> None:
        self.balancer = LoadBalancer(
            config.server_addresses,
            config.strategy,
            weights=config.weights,
            breaker=config.breaker,
            outlier=config.outlier,
            slow_start=config.slow_start,
        )
        self._config = config
        self._connect = connect
        self._transports: dict[str, T] = {}
        self._probed: set[str] = set()
        self.on_probe: Callable[[str], object] = _ignore
        """Called, in any thread, with an address whose connection `transport` renews before it is probed."""
        for address in config.server_addresses:
            self.breaker(address).on_transition(partial(self._on_transition, address))

    def __len__(self) -> int:
        return len(self._config.server_addresses)

    def breaker(self, address: str) -> CircuitBreaker:
        """Return the breaker of an address.

        Raises:
            ConfigError: it is none of `server_addresses`.
        """
        return self.balancer.breaker(address)

    def stats(self) -> list[EndpointStats]:
        """Return what the balancer knows of each endpoint, in the order of `server_addresses`."""
        return self.balancer.get_stats()

    def pick(self, avoid: Collection[str]) -> Endpoint:
        """Pick an endpoint, one that is not in `avoid` if its breaker and the strategy let it.

        Raises:
            CircuitOpenError: every breaker refuses.
        """
        endpoint = self.balancer.pick()
        if not avoid or len(avoid) >= len(self):
            return endpoint
        held: list[
            Endpoint
        ] = []  # counted as in flight while it is held, so that the balancer looks elsewhere
        try:
            while endpoint.address in avoid and len(held) < _MAX_PICKS:
                held.append(endpoint)
                endpoint = self.balancer.pick()
        except CircuitOpenError:
            endpoint = held.pop()
        for other in held:
            self.balancer.release(other, None, 0)
        return endpoint

    def release(self, endpoint: Endpoint, success: bool | None, latency_ns: int) -> None:
        """Say how the attempt at `endpoint` went; None: it says nothing of the endpoint."""
        self.balancer.release(endpoint, success, min(latency_ns // 1000, _MAX_LATENCY_US))

    def transport(self, address: str) -> T:
        """Return the transport to an address, made when there is none yet."""
        transport = self._transports.get(address)
        if transport is None:
            transport = self._transports[address] = self._connect(address, self._config)
        elif address in self._probed:
            transport.reconnect()
        self._probed.discard(address)
        return transport

    def refusal(self) -> str:
        """Say which endpoint's breaker opens when."""
        addresses = self._config.server_addresses
        waits = [f"{address} {self._wait(address)}" for address in addresses[:_MAX_NAMED]]
        if len(addresses) > _MAX_NAMED:
            waits.append(f"and {len(addresses) - _MAX_NAMED} more")
        return f"every endpoint's circuit breaker refuses calls: {', '.join(waits)}"

    def _wait(self, address: str) -> str:
        seconds = self.breaker(address).retry_after()
        return "until it is reset" if math.isinf(seconds) else f"for {seconds:.3f} s"

    def _on_transition(self, address: str, _old: CircuitState, new: CircuitState) -> None:
        # The first probe must find out about the endpoint as it is now, not how its last connection failed.
        # Whoever asks the breaker causes this, in any thread: the connection is renewed by the next attempt.
        if new is CircuitState.HALF_OPEN:
            self._probed.add(address)
            self.on_probe(address)

    def take(self) -> list[T]:
        """Return every transport and keep none, for them to be closed."""
        transports, self._transports = self._transports, {}
        return list(transports.values())


class Endpoints(EndpointTable[ClientTransport]):
    """Those of a client for asyncio."""

    async def close(self) -> None:
        """Close every transport."""
        await asyncio.gather(*(transport.close() for transport in self.take()))


AnyEndpoints = EndpointTable[Any]
