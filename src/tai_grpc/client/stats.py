"""What a client counts."""

from __future__ import annotations

from dataclasses import dataclass

from tai_grpc.resilience import EndpointStats


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
