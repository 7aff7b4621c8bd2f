"""Which of a target's addresses a channel is connected to: the first that works, or all of them in turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Protocol

from grpc import ChannelConnectivity

from tai_grpc._ext.aio.client import ClientConnection
from tai_grpc._ext.aio.dispatcher import Dispatcher
from tai_grpc.aio._backoff import Keepalive
from tai_grpc.aio._connection import Settings
from tai_grpc.aio._subchannel import Subchannel
from tai_grpc.aio._target import Address, Target

IDLE = ChannelConnectivity.IDLE
CONNECTING = ChannelConnectivity.CONNECTING
READY = ChannelConnectivity.READY
TRANSIENT_FAILURE = ChannelConnectivity.TRANSIENT_FAILURE
SHUTDOWN = ChannelConnectivity.SHUTDOWN


class Policy(Protocol):
    """Keeps a channel's connections, and its dispatcher informed of them."""

    dispatcher: Dispatcher

    def connection_wanted(self) -> None:
        """Connect, if nothing has been tried yet, and in place of what takes no more calls."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...

    def let_go(self) -> None:
        """Close every connection once its calls have ended, without waiting."""
        ...

    def reset_backoff(self) -> None:
        """Try again now what could not be reached."""
        ...


class PickFirst:
    """One connection, to the first address that can be reached; resolved anew for every attempt."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        target: Target,
        settings: Settings,
        changed: Callable[[ChannelConnectivity], None],
    ) -> None:
        self.dispatcher: Dispatcher
        self._changed = changed
        self._subchannel = Subchannel(
            loop,
            target.resolve,
            settings=settings,
            keepalive=Keepalive(settings.options.keepalive_time),
            changed=self._moved,
            name=target.text,
        )

    def connection_wanted(self) -> None:
        self._subchannel.connect()

    async def close(self) -> None:
        await self._subchannel.close()

    def let_go(self) -> None:
        self._subchannel.let_go()

    def reset_backoff(self) -> None:
        self._subchannel.reset_backoff()

    def _moved(self, subchannel: Subchannel) -> None:
        self._changed(subchannel.state)
        if subchannel.connection is not None:
            self.dispatcher.use((subchannel.connection,))
        elif subchannel.state is TRANSIENT_FAILURE:
            self.dispatcher.fail(subchannel.failure)
        elif subchannel.state is IDLE:
            self.dispatcher.use(())
            self.dispatcher.fail(None)


class RoundRobin:
    """One connection to each address, taking the calls in turn.

    The name is resolved when the channel first connects, and again when a connection is lost or cannot be
    made, not more often than `min_resolution_interval`. Connections to addresses that are gone end in peace.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        target: Target,
        settings: Settings,
        changed: Callable[[ChannelConnectivity], None],
    ) -> None:
        self.dispatcher: Dispatcher
        self._target = target
        self._settings = settings
        self._keepalive = Keepalive(settings.options.keepalive_time)
        self._changed = changed
        self._subchannels: dict[Address, Subchannel] = {}
        self._resolving: asyncio.Task[None] | None = None
        self._resolved_at = float("-inf")
        self._closed = False
        self._loop = loop

    def connection_wanted(self) -> None:
        if not self._subchannels:
            if self._resolving is None:
                self._changed(CONNECTING)
            self._resolve_soon()
        for subchannel in list(self._subchannels.values()):
            subchannel.connect()

    async def close(self) -> None:
        self._closed = True
        if self._resolving is not None:
            self._resolving.cancel()
            await asyncio.wait((self._resolving,))
        await asyncio.gather(*(subchannel.close() for subchannel in self._subchannels.values()))

    def let_go(self) -> None:
        self._closed = True
        if self._resolving is not None:
            self._resolving.cancel()
        for subchannel in self._subchannels.values():
            subchannel.let_go()

    def reset_backoff(self) -> None:
        for subchannel in list(self._subchannels.values()):
            subchannel.reset_backoff()

    def _resolve_soon(self) -> None:
        if self._resolving is None and not self._closed and not self._target.addresses:
            self._resolving = self._loop.create_task(self._resolve())
        elif self._target.addresses and not self._subchannels:
            self._update(self._target.addresses)

    async def _resolve(self) -> None:
        options = self._settings.options
        backoff = options.initial_backoff
        since = self._loop.time() - self._resolved_at
        if since < options.min_resolution_interval:
            await asyncio.sleep(options.min_resolution_interval - since)
        while True:
            try:
                addresses = await self._target.resolve()
                break
            except (OSError, UnicodeError) as error:
                if not self._subchannels:
                    self._changed(TRANSIENT_FAILURE)
                    self.dispatcher.fail(f"errors resolving {self._target.text}: {error}")
            await asyncio.sleep(backoff)
            backoff = min(backoff * 1.6, options.max_backoff)
        self._resolved_at = self._loop.time()
        self._resolving = None
        self._update(addresses)

    def _update(self, addresses: Sequence[Address]) -> None:
        for address in set(self._subchannels) - set(addresses):
            self._subchannels.pop(address).let_go()
        added = [address for address in addresses if address not in self._subchannels]
        for address in added:
            self._subchannels[address] = Subchannel(
                self._loop,
                _only(address),
                settings=self._settings,
                keepalive=self._keepalive,
                changed=self._moved,
                name=str(address),
            )
        for address in added:
            self._subchannels[address].connect()
        self._publish()

    def _moved(self, subchannel: Subchannel) -> None:
        if self._closed or subchannel.state is SHUTDOWN:
            return
        if subchannel.state in (IDLE, TRANSIENT_FAILURE):
            self._resolve_soon()
        if subchannel.state is IDLE:
            subchannel.connect()
            return  # which has told of the new state
        self._publish()

    def _publish(self) -> None:
        subchannels = self._subchannels.values()
        ready = _connections(subchannels)
        if ready:
            self.dispatcher.use(ready)
            self._changed(READY)
        elif all(subchannel.state is TRANSIENT_FAILURE for subchannel in subchannels):
            self.dispatcher.use(())
            self._changed(TRANSIENT_FAILURE)
            self.dispatcher.fail("; ".join(subchannel.failure for subchannel in list(subchannels)[:3]))
        else:
            self.dispatcher.use(())
            self._changed(CONNECTING)


def _connections(subchannels: Iterable[Subchannel]) -> list[ClientConnection]:
    return [subchannel.connection for subchannel in subchannels if subchannel.connection is not None]


def _only(address: Address) -> Callable[[], Coroutine[Any, Any, Sequence[Address]]]:
    async def resolve() -> Sequence[Address]:
        return (address,)

    return resolve
