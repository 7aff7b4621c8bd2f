"""What a peer that speaks gRPC does in a process of its own, as a server and as a client.

A server listens on the port it is told, or on a free one for 0, prints `{"ready": true, "port": PORT}`, and
answers lines on its standard input: `handled` with how many calls it has handled, `holding` with how many it
holds, `release` by answering those.
A client answers each line of JSON, a measurement's name and its arguments, with one line of JSON. Both end
when their input ends. A peer that is not installed prints `{"not_built": REASON}` instead.

The measurements are `sequential` and `concurrent` unary calls (`in_flight` of them over `connections`), and
the names of a client's streams.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol


@dataclass(frozen=True)
class Tls:
    """A folder with the certificates of one run: see `bench.peers.rpc.certificates`."""

    folder: Path

    @property
    def authority(self) -> Path:
        return self.folder / "authority.pem"

    @property
    def chain(self) -> Path:
        return self.folder / "server.pem"

    @property
    def key(self) -> Path:
        return self.folder / "server.key"


class Tally(Protocol):
    """What a server's process is asked while it serves."""

    @property
    def handled(self) -> int: ...

    @property
    def holding(self) -> int: ...

    def release(self) -> None: ...


@dataclass(frozen=True)
class Serving:
    """A server that listens, and what its process is asked."""

    port: int
    tally: Tally


class Client(Protocol):
    """A client on asyncio. Each way makes one whole call and checks what came back."""

    @property
    def unary(self) -> Callable[[Any], Awaitable[Any]]:
        """What makes a unary call of `request`; the timed loop calls it, with nothing of ours around."""
        ...

    @property
    def request(self) -> Any: ...

    async def download(self, messages: int) -> int:
        """Return how many messages came."""
        ...

    async def upload(self, messages: int) -> int:
        """Return how many messages the server says came."""
        ...

    async def chat(self, messages: int) -> int:
        """Send a message and wait for it to come back, so many times in one call; return how many came."""
        ...


class BlockingClient(Protocol):
    """The same for a client without an event loop; `unary` may be called by many threads."""

    @property
    def unary(self) -> Callable[[Any], Any]: ...

    @property
    def request(self) -> Any: ...

    def download(self, messages: int) -> int: ...

    def upload(self, messages: int) -> int: ...

    def chat(self, messages: int) -> int: ...


@dataclass(frozen=True)
class Asynchronous:
    """A peer on asyncio, run by uvloop, which all of them are faster on."""

    packages: tuple[str, ...]
    """As pip knows them, for their versions."""
    serve: Callable[[int, Tls | None], AbstractAsyncContextManager[Serving]]
    """On this port, or on any that is free for 0."""
    connect: Callable[[int, Tls | None], AbstractAsyncContextManager[Client]]


@dataclass(frozen=True)
class Blocking:
    """A peer on threads."""

    packages: tuple[str, ...]
    serve: Callable[[int, Tls | None], AbstractContextManager[Serving]]
    connect: Callable[[int, Tls | None], AbstractContextManager[BlockingClient]]


Peer = Asynchronous | Blocking


class NotBuiltError(Exception):
    """A peer, or a way of it, that is not to be had here; says why."""


OWN_CONNECTION: Final = (("grpc.use_local_subchannel_pool", 1),)
"""Options by which grpcio's channels to one address have a connection each."""

Figures = dict[str, float]
