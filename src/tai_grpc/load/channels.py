"""Plain channels, without the client's retries, breakers and balancing: one call is one attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

import grpc

from tai_grpc._version import __version__
from tai_grpc.config import Transport
from tai_grpc.status import Metadata
from tai_grpc.transport import chosen
from tai_grpc.transport.loop import make_runner

MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024
"""The largest response that is taken."""

_OPTIONS: Final = (
    # Otherwise all of grpcio's channels to one address share one connection.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.primary_user_agent", f"tai-grpc/{__version__}"),
)

Exchange = Callable[..., Iterator[Any]]
"""Of an iterator of requests, `timeout` and `metadata` makes an iterator of responses, which may raise
`grpc.RpcError`. On the wire the four kinds of call are one: some requests, some responses, a status.
"""


class BlockingChannel(Protocol):
    """What is asked of a channel whose calls block."""

    def stream_stream(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes],
        response_deserializer: Callable[[bytes], Any],
    ) -> Exchange: ...


def open_channel(address: str, transport: Transport | None = None) -> grpc.aio.Channel:
    """Return a channel to HOST:PORT with a connection of its own.

    Raises:
        ConfigError: this build is without the transport.
    """
    if chosen(transport) == "grpcio":
        return grpc.aio.insecure_channel(address, options=_OPTIONS)
    from tai_grpc.aio import insecure_channel  # noqa: PLC0415 - not every build has it

    return insecure_channel(address, _OPTIONS)


@contextmanager
def open_blocking_channel(address: str, transport: Transport | None = None) -> Iterator[BlockingChannel]:
    """Open the same for calls that block.

    With grpcio it is none of grpc.aio's, which may lose the status of a server that ends a call before it has
    read all requests (https://github.com/grpc/grpc/issues/36066).

    Raises:
        ConfigError: this build is without the transport.
    """
    if chosen(transport) == "grpcio":
        with grpc.insecure_channel(address, options=_OPTIONS) as channel:
            yield channel
        return
    with make_runner() as runner:
        native = _NativeChannel(runner, address)
        try:
            yield native
        finally:
            native.close()


class _NativeChannel:
    """A native channel. Its event loop runs while somebody waits for a response, and only then."""

    def __init__(self, runner: asyncio.Runner, address: str) -> None:
        self._runner = runner
        self._channel = runner.run(self._open(address))

    @staticmethod
    async def _open(address: str) -> grpc.aio.Channel:
        return open_channel(address, "native")

    def close(self) -> None:
        self._runner.run(self._channel.close())

    def stream_stream(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes],
        response_deserializer: Callable[[bytes], Any],
    ) -> Exchange:
        multi: grpc.aio.StreamStreamMultiCallable[Any, Any] = self._channel.stream_stream(
            method, request_serializer, response_deserializer
        )

        async def start(
            requests: Iterator[Any], timeout: float | None, metadata: Metadata
        ) -> grpc.aio.StreamStreamCall[Any, Any]:
            return multi(requests, timeout=timeout, metadata=metadata)

        async def read(call: grpc.aio.StreamStreamCall[Any, Any]) -> Any:
            return await call.read()

        def exchange(
            requests: Iterator[Any], timeout: float | None = None, metadata: Metadata = ()
        ) -> Iterator[Any]:
            call = self._runner.run(start(requests, timeout, metadata))
            try:
                while (response := self._runner.run(read(call))) is not grpc.aio.EOF:
                    yield response
            finally:
                call.cancel()

        return exchange
