"""The client for threads: the same calls without await, on one event loop in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar, cast

from tai_grpc.client.control_plane import (
    BlockingCoordinatorClient,
    BlockingGovernorClient,
    BlockingSchedulerClient,
)
from tai_grpc.client.grpc_client import GrpcClient
from tai_grpc.client.loop_thread import BlockingChannel, LoopThread
from tai_grpc.client.stats import ClientStats
from tai_grpc.config import GrpcClientConfig
from tai_grpc.resilience import CircuitBreaker, EndpointStats

if TYPE_CHECKING:
    import grpc

Stub = TypeVar("Stub")


class BlockingGrpcClient:
    """`GrpcClient` without await, for any number of threads.

        with BlockingGrpcClient(GrpcClientConfig(server_addresses=("localhost:50051",))) as client:
            receipt = client.governor.propose_policy(policy, timeout=5.0)
            for update in client.governor.stream_policies(request):
                ...

    It works from its making to `close`. Calls return their response or raise `CallError`; a stream of
    responses is an iterator with `cancel()`, `code()`, `details()` and the metadata, and requests that stream
    come from an iterable, which is read in a thread. There is no `future()` and no `with_call()`.
    """

    def __init__(self, config: GrpcClientConfig | None = None) -> None:
        self._client = GrpcClient(config)
        self._loop = LoopThread()
        self._loop.run(self._client.__aenter__())
        self._closing = threading.Lock()
        channel = self._as_channel()
        self.governor = BlockingGovernorClient(channel)
        self.coordinator = BlockingCoordinatorClient(channel)
        self.scheduler = BlockingSchedulerClient(channel)

    @property
    def config(self) -> GrpcClientConfig:
        return self._client.config

    def __enter__(self) -> BlockingGrpcClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self, grace: float | None = None) -> None:
        """Refuse new calls, give those in flight `grace` seconds to end (None: none), end the others with
        CANCELLED, disconnect, and end the thread. Closing again does no harm.
        """
        with self._closing:
            if not self._loop.stopped:
                self._loop.run(self._client.close(grace))
                self._loop.stop()

    def stub(self, stub_class: Callable[[grpc.Channel], Stub]) -> Stub:
        """Return a protoc-generated stub whose calls, of all four kinds, go through this client."""
        return stub_class(self._as_channel())

    def breaker(self, address: str) -> CircuitBreaker:
        """Return an endpoint's circuit breaker: see `GrpcClient.breaker`."""
        return self._client.breaker(address)

    def endpoint_stats(self) -> list[EndpointStats]:
        """Return what the balancer knows of each endpoint, in the order of `server_addresses`."""
        return self._client.endpoint_stats()

    def stats(self) -> ClientStats:
        """Return what the client has counted since it was made."""
        return self._client.stats()

    def _as_channel(self) -> grpc.Channel:
        # Stubs are typed for grpc.Channel; they use the four methods that this one has as well.
        return cast("grpc.Channel", BlockingChannel(self._client.stub(lambda channel: channel), self._loop))
