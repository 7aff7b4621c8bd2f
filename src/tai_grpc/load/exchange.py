"""What is asked of a channel whose calls block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

Exchange = Callable[..., Iterator[Any]]
"""Of an iterator of requests, `timeout` and `metadata` makes an iterator of responses, which may raise
`grpc.RpcError`. On the wire the four kinds of call are one: some requests, some responses, a status.
"""


class BlockingChannel(Protocol):
    """A channel with one connection, without retries."""

    def stream_stream(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes],
        response_deserializer: Callable[[bytes], Any],
    ) -> Exchange: ...
