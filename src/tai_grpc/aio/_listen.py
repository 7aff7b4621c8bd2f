"""Listening sockets of the targets that grpcio takes: `HOST:PORT`, `[IPV6]:PORT`, `unix:PATH`."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

BACKLOG: Final = 4096
"""How many connections may wait to be accepted; the system may allow less (net.core.somaxconn)."""

_TRIES: Final = 16
"""How often a free port is looked for that is free on all addresses of a host."""

ACCEPTS: Final = 32
"""How many connections asyncio accepts in one turn (it takes that for the backlog); as often it reports that
there are no descriptors left."""

_Address = tuple[int, tuple[Any, ...]]
"""A family, and an address of it."""


class Listener:
    """The sockets of one target, bound and not listening yet."""

    def __init__(self, sockets: Sequence[socket.socket], port: int, path: str | None = None) -> None:
        self.sockets = sockets
        self.port = port
        """1 for a UNIX socket, as with grpcio."""
        self._path = path
        self._inode = os.stat(path).st_ino if path is not None else 0  # noqa: PTH116 - of what was just bound

    def close(self) -> None:
        for each in self.sockets:
            each.close()
        self.unlink()

    def unlink(self) -> None:
        """Remove the file of a UNIX socket, unless another one has taken its place."""
        if self._path is not None:
            with contextlib.suppress(FileNotFoundError):
                if Path(self._path).stat().st_ino == self._inode:
                    Path(self._path).unlink()
            self._path = None


def listener(target: str, reuse_port: bool, user_timeout: float | None) -> Listener:
    """Bind the sockets of a target. The kernel gives a peer up that acknowledges nothing for `user_timeout`.

    Raises:
        OSError: nothing of it can be bound.
        ValueError: the target is not of a form that is known.
    """
    if target.startswith("unix:"):
        return _unix(target.removeprefix("unix:").removeprefix("//"))
    if target.startswith("unix-abstract:"):
        raise ValueError(f"{target}: abstract UNIX sockets are not supported; use unix:PATH")
    for scheme in ("ipv4:", "ipv6:", "dns:///", "dns:"):
        if target.startswith(scheme):
            target = target.removeprefix(scheme)
            break
    host, port = _host_and_port(target)
    addresses = _addresses(host, port)
    for _ in range(_TRIES if port == 0 and len(addresses) > 1 else 1):
        try:
            return _bound(addresses, reuse_port, user_timeout)
        except OSError as error:
            failure = error
    raise failure


def _host_and_port(target: str) -> tuple[str, int]:
    host, colon, port = target.rpartition(":")
    if not colon or (host.count(":") and not host.endswith("]")):
        host, port = target, "0"  # a host alone, or a bare IPv6 address
    if not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{target}: the port is not a number up to 65535; expected HOST:PORT or unix:PATH")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _addresses(host: str, port: int) -> Sequence[_Address]:
    """Return the (family, address) of a host, IPv4 first."""
    if host in ("", "*", "::", "0.0.0.0"):  # noqa: S104 - asked for
        # All of both families on one socket, where there is IPv6; grpcio takes 0.0.0.0 for the same.
        if socket.has_ipv6 and host != "0.0.0.0" and _ipv6_works():  # noqa: S104
            return [(socket.AF_INET6, ("::", port))]
        return [(socket.AF_INET, ("0.0.0.0", port))]  # noqa: S104
    if host == "localhost":
        # Both loopback addresses, whatever the file of hosts says (RFC 6761), if they are there.
        return [(socket.AF_INET, ("127.0.0.1", port)), (socket.AF_INET6, ("::1", port))]
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    unique: dict[_Address, None] = dict.fromkeys((family, address) for family, _, _, _, address in found)
    return sorted(unique, key=lambda each: each[0] != socket.AF_INET)


def _ipv6_works() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True


def _bound(addresses: Sequence[_Address], reuse_port: bool, user_timeout: float | None) -> Listener:
    """Bind what this host has of these addresses, all to one port.

    Raises:
        OSError: one is taken, or none is this host's.
    """
    sockets: list[socket.socket] = []
    failure: OSError | None = None
    port = 0
    for family, address in addresses:
        try:
            one = _socket(family, address, port, reuse_port, user_timeout)
        except OSError as error:
            failure = error
            if error.errno == errno.EADDRINUSE:
                break
        else:
            sockets.append(one)
            port = one.getsockname()[1]
    if failure is not None and (not sockets or failure.errno == errno.EADDRINUSE):
        for one in sockets:
            one.close()
        raise failure
    return Listener(sockets, port)


def _socket(
    family: int, address: tuple[Any, ...], port: int, reuse_port: bool, user_timeout: float | None
) -> socket.socket:
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        one.setblocking(False)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port and hasattr(socket, "SO_REUSEPORT"):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address[0] != "::"))
        if user_timeout is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            # What is accepted inherits it.
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(user_timeout * 1000))
        one.bind((address[0], port or address[1], *address[2:]))
    except OSError:
        one.close()
        raise
    return one


def _unix(path: str) -> Listener:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(Path(path).stat().st_mode):
            Path(path).unlink()  # of a server that is gone, as grpcio has it
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        one.bind(path)
        one.setblocking(False)
    except OSError:
        one.close()
        raise
    return Listener([one], 1, path)
