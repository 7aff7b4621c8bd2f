"""Plans against the echo server, and what its calls carry."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from load.echo import POOL, SERVICE, Echo
from tai_grpc.load.channels import open_blocking_channel
from tai_grpc.load.methods import Method, find_method
from tai_grpc.load.plan import LoadPlan
from tai_grpc.load.requests import Request


@dataclass(frozen=True)
class Same:
    """The same message in every call."""

    messages: tuple[bytes, ...] = (b"",)

    @property
    def fixed(self) -> Sequence[Request]:
        return (Request(self.messages),)

    def render(self, number: int) -> Request:
        return self.fixed[0]


@dataclass(frozen=True)
class Numbered:
    """In each call its number, as the item's display_name; call `broken` cannot be rendered."""

    broken: int = -1

    @property
    def fixed(self) -> None:
        return None

    def render(self, number: int) -> Request:
        if number == self.broken:
            raise ValueError(f"{number} cannot be rendered")
        return Request((item(str(number)),), (("x-number", str(number)),))


def item(name: str) -> bytes:
    """Return an echo.v1.Item, serialized."""
    from google.protobuf.message_factory import GetMessageClass  # noqa: PLC0415

    kind: Any = GetMessageClass(POOL.FindMessageTypeByName("echo.v1.Item"))
    data: bytes = kind(display_name=name).SerializeToString()
    return data


async def method_of(address: str, name: str) -> Method:
    def find() -> Method:
        with open_blocking_channel(address) as channel:
            return find_method(channel, f"{SERVICE}/{name}", timeout=10)

    return await asyncio.to_thread(find)


async def plan_of(echo: Echo | Iterable[Echo], name: str = "Unary", **changes: Any) -> LoadPlan:
    """Return a plan of calls to one server, or to several."""
    servers = [echo] if isinstance(echo, Echo) else list(echo)
    method = await method_of(servers[0].address, name)
    hosts = tuple(server.address for server in servers)
    return LoadPlan(hosts=hosts, method=method, **{"requests": Same(), **changes})
