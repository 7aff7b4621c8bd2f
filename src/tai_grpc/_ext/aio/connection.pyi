import asyncio

from typing_extensions import disjoint_base

@disjoint_base
class Connection(asyncio.Protocol):
    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...
    @property
    def transport(self) -> asyncio.Transport | None: ...
    @property
    def stall_timeout(self) -> float: ...
    @property
    def ended(self) -> bool: ...
