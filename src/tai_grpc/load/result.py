"""What a run saw: what engines, of one process or of several, add up to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from tai_grpc.load.plan import LoadPlan
from tai_grpc.resilience import LatencyHistogram


class EndReason(Enum):
    """Why a run ended, in ghz's words: all calls made, the duration over, or stopped."""

    NORMAL = "normal"
    TIMEOUT = "timeout"
    CANCEL = "cancel"


def rate(count: float, elapsed_ns: int) -> float:
    """`count` a second; 0 when no time has passed."""
    return count / (elapsed_ns / 1e9) if elapsed_ns else 0.0


@dataclass(frozen=True, slots=True)
class Interval:
    """A part of a run: the calls that ended in it. Times are nanoseconds from where measuring began."""

    start_ns: int
    length_ns: int
    latencies: LatencyHistogram
    """Nanoseconds, of the calls that ended with OK."""
    statuses: Counter[str]
    """Calls that ended, by status name ("OK", "UNAVAILABLE")."""
    messages_sent: int
    messages_received: int


@dataclass(frozen=True, slots=True)
class HostResult:
    """What one of the plan's hosts did."""

    host: str
    latencies: LatencyHistogram
    statuses: Counter[str]


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What a run saw after its warm-up.

    `latencies` holds, in nanoseconds, the calls that ended with OK and no others: from when the request was
    due (open loop) or handed to its connection (closed loop) until its status was here. `statuses` counts
    every call that ended, by status name, and `errors` the failed ones by "CODE: details".
    """

    plan: LoadPlan
    started: datetime
    elapsed_ns: int
    """From where measuring began to the last call's end, or to the end of the plan's duration."""
    end_reason: EndReason
    latencies: LatencyHistogram
    statuses: Counter[str]
    errors: Counter[str]
    abandoned: int
    """Calls that were in flight when the run was stopped, or its duration was over."""
    missed: int
    """Open loop: calls that were due and not sent before the run ended."""
    send_lag: LatencyHistogram
    """Open loop: nanoseconds from when each call was due until it was sent. Empty in a closed loop."""
    starved: int
    """Sends that waited for their request to be rendered from its template."""
    reconnects: int
    """Connections that were made again after they were lost or had said GOAWAY."""
    sent_again: int
    """Calls that were sent once more, as the server refused them and had done nothing."""
    stream_limit: int | None
    """How many streams the server allows on a connection; None when no call had to wait for one."""
    messages_sent: int
    messages_received: int
    bytes_sent: int
    bytes_received: int
    engine_cpu: float
    """The part of a core that the busiest engine thread took, 0 to 1: near 1 the engine was the limit."""
    intervals: tuple[Interval, ...]
    hosts: tuple[HostResult, ...]
    failure: str = ""
    """Why it was cut short, when that was not asked for."""

    @property
    def count(self) -> int:
        """Calls that ended, whatever their status."""
        return self.statuses.total()

    @property
    def failed(self) -> int:
        """Calls that ended with another status than OK."""
        return self.count - self.statuses["OK"]

    @property
    def rps(self) -> float:
        """Calls that ended, a second."""
        return rate(self.count, self.elapsed_ns)
