"""Opening a connection in the thread that needs it: the first of several addresses that is reached."""

from __future__ import annotations

import errno
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from tai_grpc._ext.aio.blocking import BlockingConnection
from tai_grpc.aio._connection import ConnectError, Settings, why
from tai_grpc.aio._target import Address

_READ_BYTES: Final = 65536
_UNDER_WAY: Final = (errno.EINPROGRESS, errno.EAGAIN)


class GivenUpError(Exception):
    """Whoever opened the connection needs it no more: the time was up, or the channel was closed."""


class Opening:
    """An attempt to connect, by one thread. `give_up` ends it from another one."""

    def __init__(self, settings: Settings, keepalive: float | None, timeout: float, deadline: float) -> None:
        self._settings = settings
        self._keepalive = keepalive
        self._timeout = timeout
        self._deadline = deadline
        self._interrupted, self._interrupt = socket.socketpair()
        self._interrupting = threading.Lock()  # it is not closed while it is written to
        self._given_up = False
        self._connection: BlockingConnection | None = None
        self._waiting: list[Address] = []
        self._pending: dict[int, tuple[socket.socket, Address, float]] = {}
        self._failure = "there are none"
        self._next_start = 0.0

    def open(self, resolve: Callable[[], Sequence[Address]]) -> BlockingConnection:
        """Return a connection that is ready, trying the addresses in order, the next one when one has failed
        or not answered within `attempt_delay` (RFC 8305).

        Raises:
            ConnectError: none could be reached within `timeout` seconds each.
            GivenUpError: the deadline passed before, or `give_up` was called.
            OSError, UnicodeError: `resolve` raised it.
        """
        try:
            self._waiting = list(resolve())
            while (reached := self._reached()) is not None:
                sock, address, until = reached
                try:
                    return self._established(sock, until)
                except ConnectError as error:
                    self._failed(address, str(error))
                finally:
                    sock.close()  # nothing is left in it when a connection took it over
        finally:
            self._close()
        raise ConnectError(f"failed to connect to all addresses; last error: {self._failure}")

    def give_up(self) -> None:
        self._given_up = True
        with self._interrupting:
            if self._interrupt.fileno() >= 0:
                self._interrupt.send(b"\0")
        if self._connection is not None:
            self._connection.abort("it was given up before it was ready")

    def _close(self) -> None:
        for sock, _, _ in self._pending.values():
            sock.close()
        self._pending.clear()
        with self._interrupting:
            self._interrupted.close()
            self._interrupt.close()

    def _failed(self, address: Address, reason: str) -> None:
        self._failure = f"UNKNOWN: {address}: {reason}"
        self._next_start = 0.0

    # --- TCP ---

    def _reached(self) -> tuple[socket.socket, Address, float] | None:
        """Wait for the next address that takes a connection; None when there is none left."""
        while self._waiting or self._pending:
            now = time.monotonic()
            if self._waiting and (not self._pending or now >= self._next_start):
                self._start(self._waiting.pop(0), now + self._timeout)
                self._next_start = now + self._settings.options.attempt_delay
                continue
            until = min(end for _, _, end in self._pending.values())
            if self._waiting:
                until = min(until, self._next_start)
            for descriptor in self._poll(dict.fromkeys(self._pending, select.POLLOUT), until):
                sock, address, end = self._pending.pop(descriptor)
                number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if not number:
                    return sock, address, end
                sock.close()
                self._failed(address, f"Failed to connect to remote host: {why(OSError(number, ''))}")
            self._expire(time.monotonic())
        return None

    def _start(self, address: Address, until: float) -> None:
        family = (
            socket.AF_UNIX if address.path else socket.AF_INET6 if ":" in address.host else socket.AF_INET
        )
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        where = address.path
        try:
            if not address.path:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                where = socket.getaddrinfo(address.host, address.port, family, socket.SOCK_STREAM)[0][4]  # type: ignore[assignment]  # an address of the family
            number = sock.connect_ex(where)
        except OSError as error:
            sock.close()
            self._failed(address, f"Failed to connect to remote host: {why(error)}")
            return
        if number == 0 or number in _UNDER_WAY:
            self._pending[sock.fileno()] = (sock, address, until)
        else:
            sock.close()
            self._failed(address, f"Failed to connect to remote host: {why(OSError(number, ''))}")

    def _expire(self, now: float) -> None:
        for descriptor, (sock, address, until) in list(self._pending.items()):
            if now >= until:
                del self._pending[descriptor]
                sock.close()
                self._failed(address, self._no_answer())

    def _no_answer(self) -> str:
        return f"Failed to connect to remote host: no answer within {self._timeout:g} s"

    def _poll(self, wanted: dict[int, int], until: float) -> list[int]:
        """Return which descriptors are ready, none when it is `until`."""
        poller = select.poll()
        poller.register(self._interrupted, select.POLLIN)
        for descriptor, events in wanted.items():
            poller.register(descriptor, events)
        left = min(until, self._deadline) - time.monotonic()
        ready = [descriptor for descriptor, _ in poller.poll(max(0.0, left * 1000))]
        if self._given_up or time.monotonic() >= self._deadline:
            raise GivenUpError
        return ready

    # --- TLS and HTTP/2 ---

    def _established(self, sock: socket.socket, until: float) -> BlockingConnection:
        options = self._settings.options
        context = self._settings.ssl_context
        try:
            tls = None if context is None else self._handshake(sock, context, until)
        except OSError as error:
            raise ConnectError(f"Failed to connect to remote host: {why(error)}") from error
        connection = BlockingConnection(
            sock,
            self._settings.authority.encode(),
            self._settings.user_agent.encode(),
            tls=tls,
            max_message_bytes=options.max_receive_message_bytes,
            max_header_bytes=options.max_metadata_bytes,
            window_bytes=options.stream_window_bytes,
            max_unread_bytes=options.max_unread_bytes,
            keepalive_ns=0 if self._keepalive is None else round(self._keepalive * 1e9),
            keepalive_timeout_ns=round(options.keepalive_timeout * 1e9),
            keepalive_without_calls=options.keepalive_without_calls,
        )
        self._connection = connection
        ready = False
        try:
            ready = connection.wait_ready(round(min(until, self._deadline) * 1e9))
        finally:
            if not ready or self._given_up:
                connection.abort("it was given up before it was ready")
        if ready and not self._given_up:
            return connection
        if self._given_up or time.monotonic() >= self._deadline:
            raise GivenUpError
        if connection.reason == "it was given up before it was ready":
            raise ConnectError(self._no_answer())
        raise ConnectError(f"the connection was lost at once: {connection.reason}")

    def _handshake(
        self, sock: socket.socket, context: ssl.SSLContext, until: float
    ) -> tuple[ssl.SSLObject, ssl.MemoryBIO, ssl.MemoryBIO]:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname=self._settings.server_name)
        done = False
        while not done:
            try:
                tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                pass
            finally:
                self._send(sock, outgoing.read(), until)  # an alert too
            if not done:
                self._wait(sock, select.POLLIN, until)
                data = sock.recv(_READ_BYTES)
                if not data:
                    raise ConnectError("the connection ended during the handshake: the server closed it")
                incoming.write(data)
        chosen = tls.selected_alpn_protocol()
        if chosen != "h2":
            raise ConnectError(
                f"the server does not speak HTTP/2: ALPN chose {chosen or 'nothing'} instead of h2"
            )
        return tls, incoming, outgoing

    def _send(self, sock: socket.socket, data: bytes, until: float) -> None:
        while data:
            self._wait(sock, select.POLLOUT, until)
            data = data[sock.send(data) :]

    def _wait(self, sock: socket.socket, events: int, until: float) -> None:
        if sock.fileno() not in self._poll({sock.fileno(): events}, until):
            raise ConnectError(self._no_answer())
