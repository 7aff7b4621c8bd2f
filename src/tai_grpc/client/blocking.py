"""The client for threads: the same calls without await."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar, cast

from tai_grpc.client.channel import checked
from tai_grpc.client.control_plane import (
    BlockingCoordinatorClient,
    BlockingGovernorClient,
    BlockingSchedulerClient,
)
from tai_grpc.client.stats import ClientStats
from tai_grpc.config import GrpcClientConfig
from tai_grpc.resilience import CircuitBreaker, EndpointStats
from tai_grpc.transport import chosen

if TYPE_CHECKING:
    import grpc

    from tai_grpc.client.loop_thread import LoopEngine
    from tai_grpc.client.threads import ThreadChannel

Stub = TypeVar("Stub")


class BlockingGrpcClient:
    """`GrpcClient` without await, for any number of threads.

        with BlockingGrpcClient(GrpcClientConfig(server_addresses=("localhost:50051",))) as client:
            receipt = client.governor.propose_policy(policy, timeout=5.0)
            for update in client.governor.stream_policies(request):
                ...

    It works from its making to `close`. Calls return their response or raise `CallError`; a stream of
    responses is an iterator with `cancel()`, `code()`, `details()` and the metadata, and requests that stream
    come from an iterable, which is read in a thread. A method with one response has `with_call()` as well: it
    returns the response, and how the call ended: `code()`, `details()` and the metadata. There is no
    `future()`.

    On the native transport the threads that call do all there is to do, and while none waits nothing is read;
    a call with a stream of responses goes on when it is asked for them. On grpcio's there is an event loop in
    a thread of its own.
    """

    def __init__(self, config: GrpcClientConfig | None = None) -> None:
        self.config = checked(config)
        self._engine: ThreadChannel | LoopEngine
        if chosen(self.config.transport) == "native":
            from tai_grpc.client.threads import ThreadChannel  # noqa: PLC0415 - not every build has it

            self._engine = ThreadChannel(self.config)
        else:
            from tai_grpc.client.loop_thread import LoopEngine  # noqa: PLC0415 - loaded if it is used

            self._engine = LoopEngine(self.config)
        channel = self._as_channel()
        self.governor = BlockingGovernorClient(channel)
        self.coordinator = BlockingCoordinatorClient(channel)
        self.scheduler = BlockingSchedulerClient(channel)

    def __enter__(self) -> BlockingGrpcClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self, grace: float | None = None) -> None:
        """Refuse new calls, give those in flight `grace` seconds to end (None: none), end the others with
        CANCELLED, and disconnect. Closing again does no harm.
        """
        self._engine.close(grace)

    def stub(self, stub_class: Callable[[grpc.Channel], Stub]) -> Stub:
        """Return a protoc-generated stub whose calls, of all four kinds, go through this client."""
        return stub_class(self._as_channel())

    def breaker(self, address: str) -> CircuitBreaker:
        """Return an endpoint's circuit breaker: see `GrpcClient.breaker`."""
        return self._engine.breaker(address)

    def endpoint_stats(self) -> list[EndpointStats]:
        """Return what the balancer knows of each endpoint, in the order of `server_addresses`."""
        return self._engine.endpoint_stats()

    def stats(self) -> ClientStats:
        """Return what the client has counted since it was made."""
        return self._engine.stats()

    def _as_channel(self) -> grpc.Channel:
        # Stubs are typed for grpc.Channel; they use the four methods that this one has as well.
        return cast("grpc.Channel", self._engine.channel)
