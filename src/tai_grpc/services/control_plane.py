"""The three services over one store, ready to be served."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from tai_grpc.services.coordinator.servicer import CoordinatorServicer
from tai_grpc.services.core import Core
from tai_grpc.services.governor.servicer import GovernorServicer
from tai_grpc.services.scheduler.servicer import SchedulerServicer
from tai_grpc.services.timers import run_timers
from tai_grpc.stores.base import Store
from tai_grpc.tai.v1 import coordinator_pb2, governor_pb2, scheduler_pb2

SERVICE_NAMES: Final = tuple(
    service.full_name
    for file in (governor_pb2, coordinator_pb2, scheduler_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
)
"""Of the three services, in full."""

_log: Final = logging.getLogger(__name__)


class ControlPlane:
    """The three `servicers`, and the timers that keep leases and tasks to their times.

    It takes over `store` and closes it. A watcher more than `watch_backlog` updates behind is cut off.
    """

    def __init__(self, store: Store, watch_backlog: int) -> None:
        self._core = Core(store, watch_backlog)
        self._timers: asyncio.Task[None] | None = None
        self.servicers: Final = (
            GovernorServicer(self._core),
            CoordinatorServicer(self._core),
            SchedulerServicer(self._core),
        )

    def start(self) -> None:
        self._timers = asyncio.create_task(run_timers(self._core), name="tai-grpc timers")
        self._timers.add_done_callback(self._timers_ended)

    def _timers_ended(self, timers: asyncio.Task[None]) -> None:
        if not timers.cancelled() and (error := timers.exception()) is not None:
            _log.critical("the timers of leases and tasks have stopped", exc_info=error)
            self._core.report_broken("the timers of leases and tasks have stopped")

    def drain(self) -> None:
        """End the streams, so that their clients resume elsewhere; unary calls are still answered."""
        self._core.drain()

    async def close(self) -> None:
        """Stop the timers and close the store."""
        if self._timers is not None:
            self._timers.cancel()
            await asyncio.wait([self._timers])
        await self._core.store.close()
