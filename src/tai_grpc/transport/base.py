"""What the client asks of a transport: attempts of calls to one address, as bytes.

A transport knows nothing of retries, breakers or messages. It reports how an attempt ended as a `Reply` and
raises only what is the caller's mistake (metadata that cannot be sent) and `asyncio.CancelledError`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from grpc import StatusCode

from tai_grpc.status import Metadata

if TYPE_CHECKING:
    from grpc import CallCredentials, Compression


class CallOptions(NamedTuple):
    """What a call is made with, and an attempt is sent with. `timeout` is in seconds, None for no limit."""

    timeout: float | None = None
    metadata: Iterable[tuple[str, str | bytes]] | None = None
    credentials: CallCredentials | None = None
    wait_for_ready: bool | None = None
    compression: Compression | None = None


class Reply(NamedTuple):
    """How an attempt ended, and its response when that is one message.

    `sent` is False when it is certain that the request never left this process.
    """

    code: StatusCode
    details: str = ""
    initial_metadata: Metadata = ()
    trailing_metadata: Metadata = ()
    message: bytes | None = None
    sent: bool = True

    @property
    def ok(self) -> bool:
        return self.code is StatusCode.OK


class StreamAttempt(Protocol):
    """An attempt of a call with a stream on either side. Cancelling a coroutine of it cancels the attempt."""

    async def connected(self) -> bool:
        """Wait until the request's headers are out; False when the attempt ended before."""
        ...

    async def answered(self) -> bool:
        """Wait for the response's headers; False when the attempt ended without any. At most once, before
        anything is read.
        """
        ...

    async def initial_metadata(self) -> Metadata:
        """Wait for the response's headers, or the end."""
        ...

    async def read(self) -> bytes | None:
        """Wait for the next response message; None when there is none left."""
        ...

    async def write(self, message: bytes) -> bool:
        """Send a request message, waiting while the peer is slow; False when the attempt has ended."""
        ...

    async def done_writing(self) -> None:
        """Tell the server that no request follows; does nothing once the attempt has ended."""
        ...

    async def status(self) -> Reply:
        """Wait for the end, which comes after the last message was read."""
        ...

    def cancel(self) -> None:
        """End the attempt with CANCELLED; does nothing once it has ended."""
        ...


class ClientTransport(Protocol):
    """The connection to one address, reconnected by itself."""

    async def unary(self, method: str, request: bytes, options: CallOptions) -> Reply:
        """Make one attempt of a call with one message each way. `method` is "/pkg.Service/Method"."""
        ...

    def stream(self, method: str, request: bytes | None, options: CallOptions) -> StreamAttempt:
        """Start an attempt of any other call; `request` is None when the requests are a stream."""
        ...

    def reconnect(self) -> None:
        """If the address could not be reached: try again now, whatever the backoff says."""
        ...

    async def close(self) -> None:
        """Close the connection, once every attempt has ended or been cancelled."""
        ...
