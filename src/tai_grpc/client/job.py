"""One leased action: run its handler, keep the lease meanwhile, and say how it went."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from grpc import StatusCode

from tai_grpc.checks import check_float
from tai_grpc.client.control_plane import CoordinatorClient
from tai_grpc.config import Jitter, RetryConfig
from tai_grpc.errors import TaiGrpcError
from tai_grpc.observability.tracing import TraceContext, trace_scope
from tai_grpc.resilience.retry import backoff
from tai_grpc.status import CallError
from tai_grpc.tai import AcknowledgeActionRequest, Action, Outcome

Handler = Callable[[Action], Awaitable[bytes | None]]

HOPELESS: Final = frozenset(
    {
        StatusCode.INVALID_ARGUMENT,
        StatusCode.UNAUTHENTICATED,
        StatusCode.PERMISSION_DENIED,
        StatusCode.UNIMPLEMENTED,
        StatusCode.OUT_OF_RANGE,
    }
)
"""What the same request would be answered again."""

RESUME: Final = RetryConfig(initial_backoff=0.1, max_backoff=5.0, jitter=Jitter.EQUAL)
"""The waits before an acknowledgement is sent again, and before a broken stream is resumed."""

_LEAST_PATIENCE: Final = 5.0
"""Seconds for an acknowledgement to get through, however short the lease."""

_LEASE_LOST: Final = frozenset({StatusCode.FAILED_PRECONDITION, StatusCode.NOT_FOUND})
_MAX_RESULT_BYTES: Final = 64 * 1024
_MAX_REASON_BYTES: Final = 4096
_MAX_DELAY: Final = 86_400.0
CANCEL_GRACE: Final = 5.0
"""Seconds that a handler has to end once it is cancelled."""

_log = logging.getLogger(__name__)


class Reject(TaiGrpcError):  # noqa: N818 - says what to do, not what went wrong
    """Raised by a handler: the action can never be done. It is not handed out again; the text says why."""


class Postpone(TaiGrpcError):  # noqa: N818 - as above
    """Raised by a handler: not now. The action is handed out again after `delay` seconds (0 to a day)."""

    def __init__(self, reason: str, delay: float) -> None:
        self.delay = check_float("delay", delay, 0.0, _MAX_DELAY)
        super().__init__(reason)

    def __reduce__(self) -> tuple[type[Postpone], tuple[str, float]]:
        return type(self), (str(self), self.delay)


class Job:
    """An action under a lease of `lease` seconds, and its handler. `task` ends when both are done."""

    def __init__(
        self, action: Action, handler: Handler, coordinator: CoordinatorClient, lease: float
    ) -> None:
        self._action = action
        self._handler = handler
        self._coordinator = coordinator
        self._lease = lease
        with trace_scope(TraceContext.new()):
            self._work = asyncio.create_task(self._handle())
            self.task = asyncio.create_task(self._run())
        self._stopped = False

    def stop(self) -> None:
        """Cancel the handler if it still runs, which hands the action back."""
        self._stopped = True
        self._work.cancel()

    async def _run(self) -> None:
        if await self._keep_lease():
            await self._acknowledge(self._verdict())
            return
        _log.warning("%s: its lease was lost, another worker may have it: handler cancelled", self._name)
        self._work.cancel()
        await asyncio.wait((self._work,), timeout=CANCEL_GRACE)
        if not self._work.done():
            _log.error("%s: its handler did not end when it was cancelled; it is left alone", self._name)
        elif not self._work.cancelled() and (error := self._work.exception()) is not None:
            _log.warning("%s: its handler failed while it was cancelled", self._name, exc_info=error)

    @property
    def _name(self) -> str:
        return f"action {self._action.id} of group {self._action.group}"

    async def _handle(self) -> bytes | None:
        result = await self._handler(self._action)
        if result is not None and not isinstance(result, bytes):
            raise Reject(f"the handler returned {type(result).__name__}, not bytes or None")
        if result is not None and len(result) > _MAX_RESULT_BYTES:
            raise Reject(
                f"the handler returned {len(result)} bytes; a result has at most {_MAX_RESULT_BYTES}"
            )
        return result

    async def _keep_lease(self) -> bool:
        """Extend the lease until the work is done; False when it was lost before."""
        request = self._request(Outcome.OUTCOME_IN_PROGRESS)
        while True:
            await asyncio.wait((self._work,), timeout=self._lease / 3)
            if self._work.done():
                return True
            try:
                await self._coordinator.acknowledge_action(request, timeout=self._lease / 3)
            except CallError as error:
                if error.code() in _LEASE_LOST and not self._work.done():
                    return False
                _log.warning("%s: its lease was not extended: %s", self._name, error)

    def _verdict(self) -> AcknowledgeActionRequest:
        """Say how the handler ended."""
        if self._work.cancelled():
            why = "the worker was stopped" if self._stopped else "the handler was cancelled"
            return self._request(Outcome.OUTCOME_NAK, why)
        error = self._work.exception()
        if error is None:
            request = self._request(Outcome.OUTCOME_ACK)
            request.result = self._work.result() or b""
            return request
        if isinstance(error, Reject):
            return self._request(Outcome.OUTCOME_TERM, str(error))
        if isinstance(error, Postpone):
            request = self._request(Outcome.OUTCOME_NAK, str(error))
            request.delay_ns = round(error.delay * 1e9)
            return request
        _log.error("%s: its handler failed", self._name, exc_info=error)
        return self._request(Outcome.OUTCOME_NAK, f"{type(error).__name__}: {error}")

    def _request(self, outcome: Outcome.ValueType, reason: str = "") -> AcknowledgeActionRequest:
        return AcknowledgeActionRequest(
            action_id=self._action.id,
            group=self._action.group,
            lease_token=self._action.lease_token,
            outcome=outcome,
            reason=reason.encode(errors="replace")[:_MAX_REASON_BYTES].decode(errors="ignore"),
        )

    async def _acknowledge(self, request: AcknowledgeActionRequest) -> None:
        """Tell the server, again while the lease may last: what was done should not be done twice."""
        give_up = time.monotonic() + max(self._lease, _LEAST_PATIENCE)
        tries = 0
        while True:
            try:
                await self._coordinator.acknowledge_action(
                    request, timeout=max(give_up - time.monotonic(), 0.0)
                )
            except CallError as error:
                tries += 1
                wait = backoff(RESUME, tries, 0.0)
                hopeless = error.code() in HOPELESS or error.code() in _LEASE_LOST
                if hopeless or time.monotonic() + wait >= give_up:
                    outcome = Outcome.Name(request.outcome).removeprefix("OUTCOME_")
                    _log.warning("%s: %s was not taken, it may run again: %s", self._name, outcome, error)
                    return
                await asyncio.sleep(wait)
            else:
                return
