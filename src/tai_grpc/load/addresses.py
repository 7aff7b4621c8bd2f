"""Where the hosts of a plan are."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from tai_grpc.load.errors import UnreachableError


@dataclass(frozen=True, slots=True)
class Address:
    """Where to connect to; `address` is a path where `family` is AF_UNIX."""

    family: int
    address: str
    port: int = 0


def find(host: str, timeout: float) -> Address:
    """Return the first address of "HOST:PORT" that takes a connection within `timeout` seconds.

    A name may stand for several addresses of which some do not answer, as "localhost" often does.

    Raises:
        UnreachableError: none does, or the name is unknown.
    """
    if host.startswith("unix:"):
        return Address(socket.AF_UNIX, host.removeprefix("unix:"))
    name, _, port = host.rpartition(":")
    try:
        found = socket.getaddrinfo(name.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is no host name"
        raise UnreachableError(f"cannot connect to {host}: {said}") from None
    refused = "it has no address"
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as probe:
            probe.settimeout(timeout)
            try:
                probe.connect(address)
            except TimeoutError:
                refused = f"no answer within {timeout:g} s"
            except OSError as error:
                refused = error.strerror or str(error)
            else:
                return Address(family, str(address[0]), int(port))
    raise UnreachableError(f"cannot connect to {host}: {refused}")


def host_name(address: str) -> str:
    """Return the host in an address: what its certificate is checked for."""
    return "localhost" if address.startswith("unix:") else address.rpartition(":")[0].strip("[]")


def default_authority(address: str) -> str:
    """Return the `:authority` of calls to an address."""
    return "localhost" if address.startswith("unix:") else address
