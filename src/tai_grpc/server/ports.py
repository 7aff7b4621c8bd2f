"""A port that several processes listen on: seen to be free, and kept while none of them lives."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any


def check_free(listen: str) -> None:
    """See that nobody listens on `HOST:PORT`: the system would let a second cluster share it with the first.

    Raises:
        OSError: somebody does.
    """
    sockets, failure = _bound(listen, reuse_port=False)
    _close(sockets)
    # Of an address that this host does not have, whoever listens will say so.
    if failure is not None and failure.errno == errno.EADDRINUSE:
        raise _refused(listen, failure) from failure


def hold(address: str) -> list[socket.socket]:
    """Keep others from `HOST:PORT` by sockets that do not listen, but for those with SO_REUSEPORT.

    Raises:
        OSError: somebody has it.
    """
    sockets, failure = _bound(address, reuse_port=True)
    if failure is not None and failure.errno == errno.EADDRINUSE:
        _close(sockets)
        raise _refused(address, failure) from failure
    return sockets


def cannot_listen(listen: str, error: BaseException) -> OSError:
    """Return what a transport's error means. Where it does not tell the cause, the system is asked again."""
    cause = error.__cause__
    if not isinstance(cause, OSError):
        sockets, cause = _bound(listen, reuse_port=False)
        _close(sockets)
    return OSError(f"cannot listen on {listen}: {error}") if cause is None else _refused(listen, cause)


def _refused(listen: str, cause: OSError) -> OSError:
    error = OSError(f"cannot listen on {listen}: {str(cause.strerror).lower()}")
    if not isinstance(cause, socket.gaierror):  # whose numbers are others
        error.errno = cause.errno
    return error


def _bound(listen: str, *, reuse_port: bool) -> tuple[list[socket.socket], OSError | None]:
    """Return sockets of what can be bound of an address, and why that is not all: that it is taken, first."""
    sockets: list[socket.socket] = []
    failure: OSError | None = None
    try:
        found = _addresses(listen)
    except OSError as error:
        return [], error
    for family, where in found:
        one = socket.socket(family, socket.SOCK_STREAM)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            one.bind(where)
        except OSError as error:
            one.close()
            if failure is None or error.errno == errno.EADDRINUSE:
                failure = error
        else:
            sockets.append(one)
    return sockets, failure


def _addresses(listen: str) -> list[tuple[int, Any]]:
    if listen.startswith("unix:"):
        return [(socket.AF_UNIX, listen.removeprefix("unix:"))]
    host, _, port = listen.rpartition(":")
    found = socket.getaddrinfo(
        host.removeprefix("[").removesuffix("]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return [(family, where) for family, _, _, _, where in found]


def _close(sockets: Iterable[socket.socket]) -> None:
    for one in sockets:
        if one.family == socket.AF_UNIX:
            with suppress(OSError):
                Path(one.getsockname()).unlink()
        one.close()
