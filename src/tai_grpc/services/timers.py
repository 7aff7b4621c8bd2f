"""Timers: tasks that are due, leases that end, times to live that are over."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Final

from tai_grpc.errors import StoreUnavailableError
from tai_grpc.services import work
from tai_grpc.services.core import Core
from tai_grpc.services.errors import ServiceError
from tai_grpc.status import StatusCode
from tai_grpc.stores.base import TIMERS, Transaction

_MAX_BATCH: Final = 256
_RETRY_SECONDS: Final = 1.0
# Due times are wall-clock times: look again after this long in case the wall clock was set.
_LONGEST_WAIT_SECONDS: Final = 60.0

_log = logging.getLogger(__name__)


async def run_timers(core: Core) -> None:
    """Do what is due, when it is due, until cancelled.

    A task that the store has no room for is put off, so that it does not hold up those behind it.
    """
    batch = _MAX_BATCH
    full = False

    def tick(transaction: Transaction) -> tuple[int, float]:
        revision = transaction.moment.revision
        next_ns = work.tick(transaction, batch)
        return revision, (next_ns - transaction.moment.now_ns) / 1e9

    while True:
        # Between any two passes the loop has its turn, however much is due.
        await asyncio.sleep(0)
        try:
            try:
                revision, wait = await core.run(tick)
            except ServiceError as error:
                if error.code is not StatusCode.RESOURCE_EXHAUSTED:
                    raise
                if not full:
                    _log.warning("due tasks are put off: %s", error.details)
                full = True
                if batch == 1:
                    await core.run(partial(work.put_off, reason=error.details))
                batch = max(batch // 2, 1)
                continue
            batch = min(batch * 2, _MAX_BATCH)
            if wait > 0:
                full = False
                await core.store.changed(TIMERS, revision, min(wait, _LONGEST_WAIT_SECONDS))
        except (ServiceError, StoreUnavailableError) as error:
            _log.warning("due work is held up: %s", error)
            await asyncio.sleep(_RETRY_SECONDS)
