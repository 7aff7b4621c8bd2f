"""A port that several processes listen on: seen to be free, and kept while none of them lives."""

from __future__ import annotations

import errno
import socket


def check_free(listen: str) -> None:
    """See that nobody listens on `HOST:PORT`: the system would let a second cluster share it with the first.

    Raises:
        OSError: somebody does.
    """
    for one in _bound(listen, reuse_port=False):
        one.close()


def hold(address: str) -> list[socket.socket]:
    """Keep others from `HOST:PORT` by sockets that do not listen, but for those with SO_REUSEPORT."""
    return _bound(address, reuse_port=True)


def _bound(address: str, *, reuse_port: bool) -> list[socket.socket]:
    host, _, port = address.rpartition(":")
    found = socket.getaddrinfo(
        host.removeprefix("[").removesuffix("]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    sockets: list[socket.socket] = []
    for family, _, _, _, where in found:
        one = socket.socket(family, socket.SOCK_STREAM)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            one.bind(where)
        except OSError as error:
            one.close()
            # Of an address that this host does not have, whoever listens will say so.
            if error.errno == errno.EADDRINUSE:
                for other in sockets:
                    other.close()
                raise OSError(f"cannot listen on {address}: is the port taken?") from error
        else:
            sockets.append(one)
    return sockets
