"""What a channel's target names: a host to resolve, addresses, or a Unix socket."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

from tai_grpc.errors import ConfigError

DEFAULT_PORT: Final = 443
"""grpcio's own: that of https."""

MAX_ADDRESSES: Final = 1024
"""How many addresses of one target are used; a resolver's others are left out."""

_ACCEPTED: Final = (
    "HOST, HOST:PORT, [IPV6]:PORT, dns:HOST:PORT, dns:///HOST:PORT, ipv4:ADDRESS:PORT,..., "
    "ipv6:[ADDRESS]:PORT,..., unix:PATH, unix:///PATH or unix-abstract:NAME"
)
_UNSUPPORTED: Final = {"xds", "google-c2p", "vsock", "fd", "inproc"}
"""Schemes of grpcio, or like them, that are not hosts by mistake."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where one connection goes: `host` and `port`, or `path` of a Unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        """As grpcio names it."""
        if self.path:
            if self.path.startswith("\0"):
                return f"unix-abstract:{self.path[1:]}"
            return f"unix:{self.path}"
        if ":" in self.host:
            return f"ipv6:[{self.host}]:{self.port}"
        return f"ipv4:{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Target:
    """A parsed target: `addresses`, or a host to be resolved when there are none."""

    text: str
    authority: str
    addresses: tuple[Address, ...] = ()
    host: str = ""
    port: int = 0

    async def resolve(self) -> Sequence[Address]:
        """Return its addresses now, IPv6 and IPv4 in turn as the resolver prefers.

        Raises:
            OSError: the name cannot be resolved.
        """
        if self.addresses:
            return self.addresses
        loop = asyncio.get_running_loop()
        return self._usable(await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM))

    def resolve_now(self) -> Sequence[Address]:
        """As `resolve`, in the calling thread, for as long as the system's resolver takes."""
        if self.addresses:
            return self.addresses
        return self._usable(socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM))

    def _usable(self, found: Sequence[tuple[Any, ...]]) -> Sequence[Address]:
        unique = dict.fromkeys(
            Address(str(where[0]), int(where[1]))
            for family, _, _, _, where in found
            if family in (socket.AF_INET, socket.AF_INET6)
        )
        if not unique:
            raise OSError(f"no addresses are known for {self.host}")
        return _interleaved(list(unique))[:MAX_ADDRESSES]


def parse(target: str) -> Target:
    """Return what `target` names.

    Raises:
        TypeError: it is not a str.
        ConfigError: it cannot be understood, or its scheme is not supported.
    """
    if not isinstance(target, str):
        raise TypeError(f"target must be a str: got {type(target).__name__}")
    scheme, separator, rest = target.partition(":")
    if separator:
        if scheme in _UNSUPPORTED or (rest.startswith("//") and scheme not in ("dns", "unix", *_LISTS)):
            raise ConfigError("target", target, f"{_ACCEPTED}; the scheme {scheme}: is not supported")
        if scheme == "dns":
            return _dns(target, rest)
        if scheme == "unix":
            return _unix(target, rest)
        if scheme == "unix-abstract":
            return _socket(target, "\0" + rest, rest)
        if scheme in _LISTS:
            return _listed(target, scheme, rest.removeprefix("///"))
    return _name(target, target)


def _dns(target: str, rest: str) -> Target:
    if rest.startswith("//"):
        server, _, rest = rest[2:].partition("/")
        if server:
            raise ConfigError("target", target, "dns:///HOST:PORT; a DNS server cannot be chosen")
    return _name(target, rest)


def _unix(target: str, rest: str) -> Target:
    if rest.startswith("//"):
        rest = rest[2:]
        if not rest.startswith("/"):
            raise ConfigError("target", target, "unix:///PATH, with an absolute path")
    return _socket(target, rest, rest)


def _socket(target: str, path: str, shown: str) -> Target:
    if not shown or len(path.encode()) > 107:
        raise ConfigError("target", target, "a path of 1 to 107 bytes")
    return Target(target, "localhost", (Address(path=path),))


def _listed(target: str, scheme: str, rest: str) -> Target:
    addresses = []
    for text in rest.split(","):
        host, port = _host_port(target, text)
        try:
            family = f"ipv{ip_address(host.partition('%')[0]).version}"
        except ValueError:
            family = "a name"
        if family != scheme or port is None:
            raise ConfigError("target", target, f"{scheme}: with numeric ADDRESS:PORT, separated by commas")
        addresses.append(Address(host, port))
    if len(addresses) > MAX_ADDRESSES:
        raise ConfigError("target", target, f"at most {MAX_ADDRESSES} addresses")
    return Target(target, rest.partition(",")[0], tuple(addresses))


_LISTS: Final = ("ipv4", "ipv6")


def _name(target: str, text: str) -> Target:
    host, port = _host_port(target, text)
    number = DEFAULT_PORT if port is None else port
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return Target(target, text, host=host, port=number)
    authority = f"[{host}]" if ":" in host and not text.startswith("[") else text
    return Target(target, authority, (Address(host, number),))


def _host_port(target: str, text: str) -> tuple[str, int | None]:
    if text.count(":") > 1 and not text.startswith("["):
        host, port = text, None  # an IPv6 address without brackets
        try:
            ip_address(host.partition("%")[0])
        except ValueError:
            raise ConfigError("target", target, _ACCEPTED) from None
        return host, port
    parts = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^:\[\]/\s]+))(?::([0-9]{1,5}))?", text)
    if parts is None or int(parts[3] or 0) > 65535:
        raise ConfigError("target", target, _ACCEPTED)
    return parts[1] or parts[2], None if parts[3] is None else int(parts[3])


def _interleaved(addresses: list[Address]) -> list[Address]:
    """Put the families in turn, beginning with the first (RFC 8305, section 4)."""
    first = ":" in addresses[0].host
    ours = [address for address in addresses if (":" in address.host) is first]
    others = [address for address in addresses if (":" in address.host) is not first]
    mixed: list[Address] = []
    while ours or others:
        mixed += ours[:1] + others[:1]
        del ours[:1], others[:1]
    return mixed
