"""Opening a connection to one of several addresses: the first that becomes ready wins."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from tai_grpc._ext.aio.client import ClientConnection
from tai_grpc._version import __version__
from tai_grpc.aio._channel_options import ChannelOptions
from tai_grpc.aio._target import Address, Target
from tai_grpc.errors import ConfigError

CLOSE_TIMEOUT: Final = 1.0
"""Seconds that a peer has to take the last bytes of a connection that is closed."""

_TLS_GOODBYE: Final = 0.1
"""Seconds that a TLS peer has to say goodbye as well, which grpc's servers never do."""


class Watcher(Protocol):
    """Is told what becomes of a connection once it was ready."""

    def connection_draining(self, connection: ClientConnection, too_many_pings: bool) -> None: ...

    def connection_gone(self, connection: ClientConnection, error: BaseException | None) -> None: ...


@dataclass(frozen=True, slots=True)
class Settings:
    """What every connection of a channel is opened with.

    Raises:
        ConfigError: TLS cannot ask for a server of this name.
    """

    options: ChannelOptions
    authority: str
    server_name: str
    user_agent: str
    ssl_context: ssl.SSLContext | None

    def __post_init__(self) -> None:
        if self.ssl_context is not None:
            try:
                self.ssl_context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=self.server_name)
            except ValueError as error:
                raise ConfigError(
                    "the server's name", self.server_name, f"a host's name, as certificates have it ({error})"
                ) from None


def settings_of(target: Target, options: ChannelOptions, ssl_context: ssl.SSLContext | None) -> Settings:
    """Return what the connections of a channel to `target` are opened with.

    Raises:
        ConfigError: TLS cannot ask for a server of this name.
    """
    authority = options.authority or options.target_name_override or target.authority
    agents = (options.primary_user_agent, f"grpc-python-tai/{__version__}", options.secondary_user_agent)
    return Settings(
        options=options,
        authority=authority,
        server_name=_host(options.target_name_override or authority),
        user_agent=" ".join(filter(None, agents)),
        ssl_context=ssl_context,
    )


def _host(authority: str) -> str:
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0]


class ConnectError(Exception):
    """No connection came about; says why, as grpcio words it."""


class _Opening:
    """A connection's listener: until it is ready it tells who opens it, afterwards the watcher."""

    def __init__(self, loop: asyncio.AbstractEventLoop, watcher: Watcher) -> None:
        self._watcher = watcher
        self.ready: asyncio.Future[None] = loop.create_future()
        self.taken = False

    def connection_ready(self, connection: ClientConnection) -> None:
        if not self.ready.done():
            self.ready.set_result(None)

    def connection_draining(self, connection: ClientConnection, too_many_pings: bool) -> None:
        if self.taken:
            self._watcher.connection_draining(connection, too_many_pings)

    def connection_gone(self, connection: ClientConnection, error: BaseException | None) -> None:
        if self.taken:
            self._watcher.connection_gone(connection, error)
        elif not self.ready.done():
            self.ready.set_exception(ConnectError(f"the connection was lost at once: {connection.reason}"))


async def open_first(
    addresses: Sequence[Address],
    settings: Settings,
    watcher: Watcher,
    *,
    keepalive: float | None,
    timeout: float,
) -> ClientConnection:
    """Return a connection that is ready, trying the addresses in order, the next one when one has failed or
    not answered within `attempt_delay` (RFC 8305).

    Raises:
        ConnectError: none could be reached within `timeout` seconds each.
    """
    waiting = list(addresses)
    pending: dict[asyncio.Task[ClientConnection], Address] = {}
    last = "there are none"
    try:
        while waiting or pending:
            if waiting:
                address = waiting.pop(0)
                task = asyncio.create_task(_open(address, settings, watcher, keepalive, timeout))
                pending[task] = address
            done, _ = await asyncio.wait(
                pending,
                timeout=settings.options.attempt_delay if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            winner: ClientConnection | None = None
            for task in done:
                address = pending.pop(task)
                if (error := task.exception()) is not None:
                    if not isinstance(error, ConnectError):
                        raise error
                    last = f"UNKNOWN: {address}: {error}"
                elif winner is None:
                    winner = task.result()
                else:
                    task.result().drain()
            if winner is not None:
                return winner
    finally:
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending)
            for task in pending:
                if not task.cancelled() and task.exception() is None:
                    task.result().drain()
    raise ConnectError(f"failed to connect to all addresses; last error: {last}")


async def _open(
    address: Address, settings: Settings, watcher: Watcher, keepalive: float | None, timeout: float
) -> ClientConnection:
    loop = asyncio.get_running_loop()
    opening = _Opening(loop, watcher)
    options = settings.options

    def make() -> ClientConnection:
        return ClientConnection(
            loop,
            opening,
            settings.authority.encode(),
            settings.user_agent.encode(),
            secure=settings.ssl_context is not None,
            max_message_bytes=options.max_receive_message_bytes,
            max_header_bytes=options.max_metadata_bytes,
            window_bytes=options.stream_window_bytes,
            keepalive_ns=0 if keepalive is None else round(keepalive * 1e9),
            keepalive_timeout_ns=round(options.keepalive_timeout * 1e9),
            keepalive_without_calls=options.keepalive_without_calls,
        )

    connection: ClientConnection | None = None
    try:
        async with asyncio.timeout(timeout):
            connection = await _connect(loop, make, address, settings)
            if settings.ssl_context is not None:
                _check_protocol(connection)
            await opening.ready
        if connection.draining:
            raise ConnectError(f"the connection was lost at once: {connection.reason}")
        opening.taken = True
    except TimeoutError:
        raise ConnectError(f"Failed to connect to remote host: no answer within {timeout:g} s") from None
    except OSError as error:
        raise ConnectError(f"Failed to connect to remote host: {why(error)}") from error
    finally:
        if not opening.taken:
            if not opening.ready.cancel() and not opening.ready.cancelled():
                opening.ready.exception()  # whoever waited has heard it, or something before it
            if connection is not None:
                connection.abort("it was given up before it was ready")
    return connection


async def _connect(
    loop: asyncio.AbstractEventLoop,
    make: Callable[[], ClientConnection],
    address: Address,
    settings: Settings,
) -> ClientConnection:
    tls: dict[str, Any] = {}
    if settings.ssl_context is not None:
        tls = {
            "ssl": settings.ssl_context,
            "server_hostname": settings.server_name,
            "ssl_shutdown_timeout": _TLS_GOODBYE,
        }
    if address.path:
        _, connection = await loop.create_unix_connection(make, address.path, **tls)
    else:
        _, connection = await loop.create_connection(make, address.host, address.port, **tls)
    return connection


def _check_protocol(connection: ClientConnection) -> None:
    transport = connection.transport
    if transport is None:
        raise ConnectError(f"the connection ended during the handshake: {connection.reason}")
    chosen = transport.get_extra_info("ssl_object").selected_alpn_protocol()
    if chosen != "h2":
        raise ConnectError(
            f"the server does not speak HTTP/2: ALPN chose {chosen or 'nothing'} instead of h2"
        )


def why(error: OSError) -> str:
    """Say what went wrong, as grpcio words it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: the server's certificate is refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error) or type(error).__name__
