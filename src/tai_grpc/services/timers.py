"""The clockwork: tasks that are due, leases that end, times to live that are over."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from tai_grpc.errors import StoreUnavailableError
from tai_grpc.services import work
from tai_grpc.services.core import Core
from tai_grpc.services.errors import ServiceError
from tai_grpc.stores.base import TIMERS, Transaction

_MAX_BATCH: Final = 256
_RETRY_SECONDS: Final = 1.0
# Due times are wall-clock times: look again after this long in case the wall clock was set.
_LONGEST_WAIT_SECONDS: Final = 60.0

_log = logging.getLogger(__name__)


async def run_timers(core: Core) -> None:
    """Do what is due, when it is due, until cancelled. What the store refuses is tried again, in smaller
    batches: one thing that does not fit must not hold up what does.
    """
    batch = _MAX_BATCH

    def tick(transaction: Transaction) -> tuple[int, float]:
        revision = transaction.moment.revision
        next_ns = work.tick(transaction, batch)
        return revision, (next_ns - transaction.moment.now_ns) / 1e9

    while True:
        try:
            revision, wait = await core.run(tick)
            batch = min(batch * 2, _MAX_BATCH)
            if wait > 0:
                await core.store.changed(TIMERS, revision, min(wait, _LONGEST_WAIT_SECONDS))
            else:
                await asyncio.sleep(0)
        except (ServiceError, StoreUnavailableError) as error:
            _log.warning("due work is held up: %s", error)
            batch = max(batch // 2, 1)
            await asyncio.sleep(_RETRY_SECONDS)
