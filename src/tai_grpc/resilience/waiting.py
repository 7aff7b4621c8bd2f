"""Those who wait for a thing that is short, in the order in which they came: see `Line`."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from typing import Protocol


class Place(Protocol):
    """Where one waits."""

    def tell(self) -> bool:
        """Wake whoever waits here, from any thread; False when that is not possible any more."""
        ...


class TaskPlace:
    """Where a task waits, in its event loop."""

    __slots__ = ("_loop", "_told")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._told = asyncio.Event()

    def tell(self) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._told.set)
        except RuntimeError:  # the loop was closed, and this task with it
            return False
        return True

    async def wait(self) -> None:
        """Wait until somebody has called `tell` since the last time."""
        await self._told.wait()
        self._told.clear()


class ThreadPlace:
    """Where a thread waits."""

    __slots__ = ("_told",)

    def __init__(self) -> None:
        self._told = threading.Event()

    def tell(self) -> bool:
        self._told.set()
        return True

    def wait(self, timeout: float | None) -> bool:
        """Wait until somebody has called `tell` since the last time; False after `timeout` seconds."""
        told = self._told.wait(timeout)
        self._told.clear()
        return told


class Line:
    """At most `limit` waiters, tasks of any event loop and threads alike, first come, first served.

    Nothing is ever handed to a waiter. The first in line is told to look, takes what is there by itself, and
    leaves, which tells the next. So one that gives up or is cancelled takes nothing along and stops nobody.
    """

    __slots__ = ("_lock", "_places", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._places: OrderedDict[Place, int] = OrderedDict()
        # Reentrant: a task that is garbage may leave the line while its thread is changing it.
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._places)

    @property
    def wanted(self) -> int:
        """How much those in line want in all."""
        with self._lock:
            return sum(self._places.values())

    def join(self, place: Place, wants: int = 1) -> bool:
        """Go to the end of the line; False when it is full."""
        with self._lock:
            if len(self._places) >= self.limit:
                return False
            self._places[place] = wants
            return True

    def leave(self, place: Place) -> None:
        """Go away from wherever in line, and tell whoever is first now."""
        with self._lock:
            self._places.pop(place, None)
        self.tell_first()

    def is_first(self, place: Place) -> bool:
        return self._first() is place

    def tell_first(self) -> None:
        """Tell the first in line to look; one that cannot be told any more is out of the line."""
        while (first := self._first()) is not None and not first.tell():
            with self._lock:
                self._places.pop(first, None)

    def _first(self) -> Place | None:
        with self._lock:
            return next(iter(self._places), None)
