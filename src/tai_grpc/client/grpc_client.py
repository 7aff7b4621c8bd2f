"""The client for asyncio."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar, cast

from tai_grpc.client.channel import ResilientChannel, checked
from tai_grpc.client.control_plane import CoordinatorClient, GovernorClient, SchedulerClient
from tai_grpc.client.stats import ClientStats
from tai_grpc.config import GrpcClientConfig
from tai_grpc.resilience import CircuitBreaker, EndpointStats

if TYPE_CHECKING:
    from grpc import aio

Stub = TypeVar("Stub")


class GrpcClient:
    """Calls that get through: balanced over endpoints, past those that fail, retried, within one deadline.

        async with GrpcClient(GrpcClientConfig(server_addresses=("localhost:50051",))) as client:
            receipt = await client.governor.propose_policy(policy)
            greeting = await client.stub(GreeterStub).SayHello(request, timeout=2.0)

    A failed call raises `CallError`, a `grpc.RpcError` that names the endpoint and the number of attempts;
    with DEADLINE_EXCEEDED it is a `DeadlineError` as well. A call made in a handler takes over the handler's
    deadline and trace. A client belongs to the event loop it was opened in, is opened once, and has at most
    65,536 calls in flight; one more ends with RESOURCE_EXHAUSTED. What a call passes through is said in
    `_ext/primitives/outbound.pyx`.

    Of a call's arguments, `timeout` is a number of seconds: when it is not above 0, the call ends with
    DEADLINE_EXCEEDED without an attempt. `metadata` are pairs of a key and a value.
    """

    def __init__(self, config: GrpcClientConfig | None = None) -> None:
        self.config = checked(config)
        self._channel = ResilientChannel(self.config)
        channel = self._as_channel()
        self.governor = GovernorClient(channel)
        self.coordinator = CoordinatorClient(channel)
        self.scheduler = SchedulerClient(channel)

    async def __aenter__(self) -> GrpcClient:
        self._channel.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """Refuse new calls, give those in flight `grace` seconds to end (None: none), then end the others
        with CANCELLED, and disconnect. Closing again does no harm.
        """
        await self._channel.close(grace)

    def stub(self, stub_class: Callable[[aio.Channel], Stub]) -> Stub:
        """Return a protoc-generated stub whose calls, of all four kinds, go through this client."""
        return stub_class(self._as_channel())

    def breaker(self, address: str) -> CircuitBreaker:
        """Return an endpoint's circuit breaker: for its state, its transitions, and to force or reset it.

        Raises:
            ConfigError: `address` is none of `server_addresses`.
        """
        return self._channel.endpoints.breaker(address)

    def endpoint_stats(self) -> list[EndpointStats]:
        """Return what the balancer knows of each endpoint, in the order of `server_addresses`."""
        return self._channel.endpoints.stats()

    def stats(self) -> ClientStats:
        """Return what the client has counted since it was made."""
        return self._channel.stats()

    def _as_channel(self) -> aio.Channel:
        # Stubs are typed for grpc.aio.Channel; they use the four methods that this one has as well.
        return cast("aio.Channel", self._channel)
