"""What a client counts."""

from __future__ import annotations

from dataclasses import dataclass

from tai_grpc.resilience import EndpointStats, LatencyHistogram


@dataclass(frozen=True, slots=True)
class ClientStats:
    """A client's counts since it was made.

    `calls` have ended: with OK, with another status (`failed`), or given up by the caller (`cancelled`). They
    took `attempts`, of which `retries` followed a failure. The percentiles are of the calls with one response
    that ended with OK, retries and waits included, in microseconds.
    """

    calls: int
    failed: int
    cancelled: int
    attempts: int
    retries: int
    p50_us: int
    p99_us: int
    p999_us: int
    endpoints: tuple[EndpointStats, ...]


class Meter:
    """Where the layers count. `latency` holds microseconds."""

    __slots__ = ("attempts", "calls", "cancelled", "failed", "latency", "retries")

    def __init__(self) -> None:
        self.calls = 0
        self.failed = 0
        self.cancelled = 0
        self.attempts = 0
        self.retries = 0
        self.latency = LatencyHistogram()
