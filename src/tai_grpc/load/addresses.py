"""Where the hosts of a plan are."""

from __future__ import annotations

import socket

from tai_grpc.load.errors import UnreachableError

Address = tuple[int, str, int]
"""A family, an address of it (of AF_UNIX a path) and a port."""


def find(host: str) -> tuple[Address, ...]:
    """Return where "HOST:PORT" may be, in the order to try it: a name may stand for several addresses.

    Raises:
        UnreachableError: the name is unknown.
    """
    if host.startswith("unix:"):
        return ((socket.AF_UNIX, host.removeprefix("unix:"), 0),)
    name, _, port = host.rpartition(":")
    try:
        found = socket.getaddrinfo(name.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is no host name"
        raise UnreachableError(f"cannot connect to {host}: {said}") from None
    return tuple((family, str(address[0]), int(port)) for family, _, _, _, address in found)


def host_name(address: str) -> str:
    """Return the host in an address: what its certificate is checked for."""
    return "localhost" if address.startswith("unix:") else address.rpartition(":")[0].strip("[]")


def default_authority(address: str) -> str:
    """Return the `:authority` of calls to an address."""
    return "localhost" if address.startswith("unix:") else address
