"""A connection that is kept: opened when wanted, opened anew with backoff when it cannot be or is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from grpc import ChannelConnectivity

from tai_grpc._ext.aio.client import ClientConnection
from tai_grpc.aio._backoff import Backoff, Keepalive
from tai_grpc.aio._connection import CLOSE_TIMEOUT, ConnectError, Settings, open_first
from tai_grpc.aio._target import Address


class Subchannel:
    """One connection at a time, to the first of `addresses()` that can be reached.

    It starts IDLE and connects when `connect` is called. When that fails it is in TRANSIENT_FAILURE and goes
    on trying, as `Backoff` has it. When the connection is lost or the server wants it to end, it is IDLE
    again. `changed` is called after each change.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        addresses: Callable[[], Awaitable[Sequence[Address]]],
        *,
        settings: Settings,
        keepalive: Keepalive,
        changed: Callable[[Subchannel], None],
        name: str,
    ) -> None:
        self.state = ChannelConnectivity.IDLE
        self.connection: ClientConnection | None = None
        self.failure = ""
        self._addresses = addresses
        self._settings = settings
        self._keepalive = keepalive
        self._changed = changed
        self._name = name
        self._backoff = Backoff(settings.options)
        self._loop = loop
        self._connecting: asyncio.Task[None] | None = None
        self._open: dict[ClientConnection, asyncio.Future[None]] = {}

    def connect(self) -> None:
        """Connect, if it is IDLE."""
        if self.connection is not None and self.connection.draining:
            self._lose(self.connection)
        if self.state is ChannelConnectivity.IDLE:
            self.state = ChannelConnectivity.CONNECTING
            self._connecting = self._loop.create_task(self._connect())
            self._changed(self)

    def reset_backoff(self) -> None:
        """If it is in TRANSIENT_FAILURE: connect now, as if nothing had failed; calls wait for that."""
        if self.state is ChannelConnectivity.TRANSIENT_FAILURE and self._connecting is not None:
            self._connecting.cancel()
            self._backoff.reset()
            self.state = ChannelConnectivity.IDLE
            self._changed(self)
            self.connect()

    async def close(self) -> None:
        """Give up connecting and close every connection, those that still have calls too."""
        self.state = ChannelConnectivity.SHUTDOWN
        self.connection = None
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait((self._connecting,))
        for connection in list(self._open):
            connection.drain()
        if self._open:
            await asyncio.wait(list(self._open.values()), timeout=CLOSE_TIMEOUT)
        for connection in list(self._open):
            connection.abort("the channel was closed")
        if self._open:
            await asyncio.wait(list(self._open.values()))

    def let_go(self) -> None:
        """Close without waiting, once the calls have ended."""
        self.state = ChannelConnectivity.SHUTDOWN
        if self._connecting is not None:
            self._connecting.cancel()
        for connection in self._open:
            connection.drain()

    # --- Of a connection ---

    def connection_draining(self, connection: ClientConnection, too_many_pings: bool) -> None:
        if too_many_pings:
            self._keepalive.too_many()
        self._lose(connection)

    def connection_gone(self, connection: ClientConnection, error: BaseException | None) -> None:
        self._lose(connection)
        if (gone := self._open.pop(connection, None)) is not None:
            gone.set_result(None)

    def _lose(self, connection: ClientConnection) -> None:
        if connection is self.connection:
            self._backoff.lost(self._loop.time(), connection)
            self.connection = None
            self.state = ChannelConnectivity.IDLE
            self._changed(self)

    # --- Connecting ---

    async def _connect(self) -> None:
        while True:
            if (early := self._backoff.next_attempt - self._loop.time()) > 0:
                await asyncio.sleep(early)
            timeout = self._backoff.begin(self._loop.time())
            try:
                connection = await open_first(
                    await self._resolve(),
                    self._settings,
                    self,
                    keepalive=self._keepalive.interval,
                    timeout=timeout,
                )
            except ConnectError as error:
                self._fail(str(error))
                continue
            except Exception as error:
                self._loop.call_exception_handler(
                    {"message": f"connecting to {self._name} failed unexpectedly", "exception": error}
                )
                self._fail(f"{type(error).__name__}: {error}")
                continue
            self._take(connection)
            return

    async def _resolve(self) -> Sequence[Address]:
        try:
            return await self._addresses()
        except (OSError, UnicodeError) as error:
            raise ConnectError(f"errors resolving {self._name}: {error}") from error

    def _fail(self, failure: str) -> None:
        self._backoff.failed()
        self.failure = failure
        self.state = ChannelConnectivity.TRANSIENT_FAILURE
        self._changed(self)

    def _take(self, connection: ClientConnection) -> None:
        self._connecting = None
        if connection.transport is not None:
            self._open[connection] = self._loop.create_future()
        self.connection = connection
        self.state = ChannelConnectivity.READY
        self._changed(self)
        if connection.draining:
            self._lose(connection)
