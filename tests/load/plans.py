"""Plans against the echo server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from load.echo import SERVICE, Echo
from tai_grpc.load.channels import open_blocking_channel
from tai_grpc.load.methods import Method, find_method
from tai_grpc.load.plan import LoadPlan
from tai_grpc.load.requests import Data, make_requests


async def method_of(address: str, name: str) -> Method:
    def find() -> Method:
        with open_blocking_channel(address) as channel:
            return find_method(channel, f"{SERVICE}/{name}", timeout=10)

    return await asyncio.to_thread(find)


NUMBERED = '{"display_name":"{{.RequestNumber}}"}'
"""Data of calls that each send their number."""


async def plan_of(
    echo: Echo | Iterable[Echo], name: str = "Unary", data: str | None = None, **changes: Any
) -> LoadPlan:
    """Return a plan of calls to one server, or to several."""
    servers = [echo] if isinstance(echo, Echo) else list(echo)
    method = await method_of(servers[0].address, name)
    hosts = tuple(server.address for server in servers)
    requests = make_requests(method, Data(text=data))
    return LoadPlan(hosts=hosts, method=method, **{"requests": requests, **changes})
