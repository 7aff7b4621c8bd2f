"""grpc.aio's Server on the native transport."""

from __future__ import annotations

import asyncio
import functools
import logging
import re
import socket
import ssl
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, Final

import grpc

from tai_grpc._ext.aio.server import ServerConnection
from tai_grpc._ext.aio.service import Service
from tai_grpc.aio._handlers import Registry, Wrap
from tai_grpc.aio._listen import ACCEPTS, BACKLOG, Listener, listener
from tai_grpc.aio._options import ServerOptions, server_options
from tai_grpc.aio._server_credentials import ServerCredentials, _DynamicContext, describe_peer

_log = logging.getLogger(__name__)

SHUTDOWN_TIMEOUT: Final = 1.0
"""How long a TLS connection that is closed waits for its client to say the same, in seconds."""

_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")


class Server(grpc.aio.Server):
    """Serves RPCs: see `server`. Used in one event loop, the one that `start` is called in."""

    def __init__(  # noqa: PLR0917 - grpc.aio's own signature
        self,
        thread_pool: Executor | None,
        generic_handlers: Sequence[grpc.GenericRpcHandler] | None,
        interceptors: Sequence[Any] | None,
        options: Sequence[tuple[str, Any]] | None,
        maximum_concurrent_rpcs: int | None,
        compression: grpc.Compression | None,
        *,
        wrap: Wrap | None = None,
    ) -> None:
        strangers = [each for each in interceptors or () if not isinstance(each, grpc.aio.ServerInterceptor)]
        if strangers:
            raise ValueError(f"Interceptor must be ServerInterceptor, the following are invalid: {strangers}")
        if maximum_concurrent_rpcs is not None and maximum_concurrent_rpcs <= 0:
            raise ValueError(
                f"maximum_concurrent_rpcs={maximum_concurrent_rpcs}: expected a positive number, or None"
            )
        self._options = server_options(options, compression)
        self._max_calls = maximum_concurrent_rpcs
        self._registry = Registry(thread_pool, interceptors or (), wrap)
        self._registry.add_generic(generic_handlers or ())
        self._ports: list[tuple[Listener, ServerCredentials | None]] = []
        self._listening: list[asyncio.AbstractServer] = []
        self._service: Service | None = None
        self._stopped = False
        self._terminated = asyncio.Event()

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Add handlers that are asked, in turn, for the methods that were not registered by name."""
        self._registry.add_generic(generic_rpc_handlers)

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """Add methods of a service by name; they come before generic handlers."""
        self._registry.add_registered(service_name, method_handlers)

    def add_insecure_port(self, address: str) -> int:
        """Bind `HOST:PORT`, `[IPV6]:PORT` or `unix:PATH`; return the port, which for 0 is one that is free.

        Raises:
            RuntimeError: it cannot be bound.
        """
        return self._add_port(address, None)

    def add_secure_port(
        self,
        address: str,
        server_credentials: ServerCredentials,  # type: ignore[override]  # grpcio's are opaque
    ) -> int:
        """Bind an address, as `add_insecure_port`, for TLS.

        Raises:
            TypeError: the credentials were not made by `tai_grpc.aio.ssl_server_credentials`.
            RuntimeError: the address cannot be bound.
        """
        if not isinstance(server_credentials, ServerCredentials):
            raise TypeError(
                f"server_credentials: expected what tai_grpc.aio.ssl_server_credentials returns, got "
                f"{server_credentials!r}"
            )
        return self._add_port(address, server_credentials)

    def _add_port(self, address: str, credentials: ServerCredentials | None) -> int:
        if self._service is not None or self._stopped:
            raise grpc.aio.UsageError("ports are added before the server starts")
        try:
            bound = listener(address, self._options.reuse_port, self._options.keepalive_timeout)
        except (OSError, ValueError) as error:
            raise RuntimeError(f"Failed to bind to address {address}: {error}") from error
        self._ports.append((bound, credentials))
        return bound.port

    async def start(self) -> None:
        """Listen and serve. Calling it again does nothing. One that cannot listen is stopped.

        Raises:
            UsageError: the server was stopped.
            OSError: it cannot listen.
        """
        if self._stopped:
            raise grpc.aio.UsageError("Server is already stopped.")
        if self._service is not None:
            return
        loop = asyncio.get_running_loop()
        self._service = make_service(loop, self._registry, self._options, self._max_calls)
        try:
            for bound, credentials in self._ports:
                for one in bound.sockets:
                    await self._listen(loop, self._service, one, credentials)
        except BaseException:
            await self.stop(None)  # its sockets are closed: it cannot be started any more
            raise

    async def _listen(
        self,
        loop: asyncio.AbstractEventLoop,
        service: Service,
        bound: socket.socket,
        credentials: ServerCredentials | None,
    ) -> None:
        settings: dict[str, Any] = {}
        if credentials is not None:
            settings["ssl"] = credentials.context
            settings["ssl_handshake_timeout"] = self._options.handshake_timeout
            settings["ssl_shutdown_timeout"] = SHUTDOWN_TIMEOUT
            _report_to(loop, credentials.context)
        listen = loop.create_unix_server if bound.family == socket.AF_UNIX else loop.create_server
        factory = functools.partial(ServerConnection, service)
        self._listening.append(await listen(factory, sock=bound, backlog=ACCEPTS, **settings))
        bound.listen(BACKLOG)

    async def stop(self, grace: float | None) -> None:
        """Take no new connections and calls, and wait until all calls have ended.

        Those that run have `grace` seconds, then (with None at once) their connections are closed and they
        are cancelled. It may be called again, and at the same time: the shortest grace counts.
        """
        self._stopped = True
        for one in self._listening:
            one.close()
        self._listening.clear()
        if self._service is not None:
            loop = asyncio.get_running_loop()
            idle = self._service.drain()
            idle.add_done_callback(self._ended)  # also when whoever waits here is cancelled
            if grace is None or grace <= 0:
                self._service.cut()
            else:
                cut = loop.call_later(grace, self._service.cut)
                idle.add_done_callback(lambda _: cut.cancel())
            self._unlink()
            await asyncio.shield(idle)
        self._ended()

    def _ended(self, _: object = None) -> None:
        self._close_ports()
        self._terminated.set()

    async def wait_for_termination(self, timeout: float | None = None) -> bool:
        """Wait until the server has stopped; True: `timeout` seconds have passed before."""
        try:
            async with asyncio.timeout(timeout):
                await self._terminated.wait()
        except TimeoutError:
            return True
        return False

    def _unlink(self) -> None:
        for bound, _ in self._ports:
            bound.unlink()

    def _close_ports(self) -> None:
        for bound, _ in self._ports:
            bound.close()
        self._ports.clear()

    def __del__(self) -> None:
        # A server that is forgotten must not serve on: its loop keeps the listeners, not this object.
        service = getattr(self, "_service", None)
        if service is None:
            if hasattr(self, "_ports"):
                self._close_ports()
        elif not self._stopped and not service.loop.is_closed():
            service.loop.call_soon_threadsafe(_abandon, service, self._listening, self._ports)


def _abandon(
    service: Service, listening: Iterable[asyncio.AbstractServer], ports: Iterable[tuple[Listener, Any]]
) -> None:
    for one in listening:
        one.close()
    for bound, _ in ports:
        bound.close()
    service.drain()
    service.cut()


def _report_to(loop: asyncio.AbstractEventLoop, context: ssl.SSLContext) -> None:
    if isinstance(context, _DynamicContext):
        context.failed = lambda error: loop.call_exception_handler(
            {
                "message": "the certificates could not be renewed; the last ones stay in use",
                "exception": error,
            }
        )


def make_service(
    loop: asyncio.AbstractEventLoop, registry: Registry, options: ServerOptions, max_calls: int | None
) -> Service:
    """Return what the connections of a server share."""
    interval = options.min_ping_interval
    return Service(
        loop,
        registry.methods,
        registry.resolve,
        registry.intercept if registry.intercepts else None,
        report,
        describe_peer,
        encoding=int(options.compression),
        max_send_bytes=options.max_send_message_bytes,
        max_calls=max_calls,
        max_connections=options.max_connections,
        handshake_timeout=options.handshake_timeout,
        keepalive_time=options.keepalive_time,
        keepalive_timeout=options.keepalive_timeout,
        keepalive_without_calls=options.keepalive_without_calls,
        max_age=options.max_connection_age,
        max_age_grace=options.max_connection_age_grace,
        max_idle=options.max_connection_idle,
        max_timeout=options.max_timeout,
        max_stream_timeout=options.max_stream_timeout,
        stall_timeout=options.stall_timeout,
        stream_stall_timeout=options.stream_stall_timeout,
        max_queued_bytes=options.max_queued_bytes,
        session={
            "max_streams": options.max_concurrent_streams,
            "window_bytes": options.stream_window_bytes,
            "max_header_bytes": options.max_metadata_bytes,
            "max_message_bytes": options.max_receive_message_bytes,
            "max_buffered_bytes": options.max_unread_bytes,
            "min_ping_interval_ns": 2**62 if interval is None else round(interval * 1e9),
            "max_ping_strikes": options.max_ping_strikes,
            "reset_burst": options.reset_burst,
            "reset_rate": options.reset_rate,
        },
    )


def report(
    message: str, error: BaseException, path: str, metadata: Iterable[tuple[str, str | bytes]], peer: str
) -> None:
    """Log what a handler did wrong: one record, with the method, the caller and its trace."""
    _log.error(
        "%s: %s [%s]",
        path,
        message,
        type(error).__name__,
        exc_info=error,
        extra={"method": path.removeprefix("/"), "peer": peer, "trace_id": _trace_id(metadata)},
    )


def _trace_id(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    for key, value in metadata:
        if key == "traceparent" and isinstance(value, str) and (match := _TRACEPARENT.fullmatch(value)):
            return match[1]
    return "-"


def server(  # noqa: PLR0917 - grpc.aio's own signature
    migration_thread_pool: Executor | None = None,
    handlers: Sequence[grpc.GenericRpcHandler] | None = None,
    interceptors: Sequence[Any] | None = None,
    options: Sequence[tuple[str, Any]] | None = None,
    maximum_concurrent_rpcs: int | None = None,
    compression: grpc.Compression | None = None,
) -> Server:
    """Return a server, as grpc.aio.server does.

    Plain functions as handlers run in `migration_thread_pool`, None for the loop's own. `interceptors` are
    grpc.aio.ServerInterceptors, the first one outermost. `options`: channel arguments by their names in
    grpcio (see `_options`). Calls beyond `maximum_concurrent_rpcs` are refused with RESOURCE_EXHAUSTED.
    `compression` is of every response, where the client takes it.

    Raises:
        ConfigError: an option is unknown, or out of its range.
        ValueError: an interceptor is not a grpc.aio.ServerInterceptor, or the limit is not positive.
    """
    return Server(
        migration_thread_pool, handlers, interceptors, options, maximum_concurrent_rpcs, compression
    )
