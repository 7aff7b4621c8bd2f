"""What a load run sends, to whom, when, and for how long."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from functools import partial
from types import MappingProxyType
from typing import Final

from tai_grpc.checks import (
    MAX_CONCURRENCY,
    MAX_CONNECTIONS,
    MAX_RATE,
    MAX_SECONDS,
    check_address,
    check_float,
    check_int,
)
from tai_grpc.errors import ConfigError
from tai_grpc.load.methods import Method
from tai_grpc.load.requests import RequestSource

MAX_SEGMENTS: Final = 10_000
MAX_TIMEOUT: Final = 3600.0
MAX_THREADS: Final = 256
VISIBLE: Final = re.compile(r"[\x21-\x7e]+")
"""Printable ASCII without spaces."""


class Arrivals(Enum):
    """How calls that are due at a rate are spread: at equal distances, or as independent users come."""

    UNIFORM = "uniform"
    POISSON = "poisson"


class AtEnd(Enum):
    """What becomes of calls in flight when the duration is over, in ghz's words.

    They are waited for, or given up and counted as abandoned.
    """

    WAIT = "wait"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a schedule: `duration` seconds in which the rate goes evenly from `start` to `end` calls/s.

    The last segment of a schedule may go on for ever (`duration` None), at one rate.
    """

    duration: float | None
    start: float
    end: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When calls are due."""

    segments: tuple[Segment, ...]
    arrivals: Arrivals = Arrivals.UNIFORM

    def __post_init__(self) -> None:
        if not 1 <= len(self.segments) <= MAX_SEGMENTS:
            raise ConfigError("load-schedule", f"{len(self.segments)} parts", f"from 1 to {MAX_SEGMENTS}")
        for segment in self.segments:
            check_float("rate", segment.start, 0.0, MAX_RATE)
            check_float("rate", segment.end, 0.0, MAX_RATE)
            if segment.duration is not None:
                check_float("load-step-duration", segment.duration, 0.0, MAX_SECONDS, above=True)
        last = self.segments[-1]
        if last.duration is None and (last.start != last.end or last.start == 0):
            raise ConfigError("rate", last, "one rate above 0 that the schedule ends with")
        if any(segment.duration is None for segment in self.segments[:-1]):
            raise ConfigError("load-schedule", self.segments, "a duration for all parts but the last")


@dataclass(frozen=True, slots=True, kw_only=True)
class Streaming:
    """How the messages of a stream are sent.

    `interval` seconds pass between two of them. A call sends `messages` of them, from the beginning again
    where its data has fewer, or None: its data once; a server stream is given up, as OK, after so many.
    After `duration` seconds a call sends no more, and a server stream is given up, as OK.
    """

    interval: float = 0.0
    messages: int | None = None
    duration: float | None = None

    def __post_init__(self) -> None:
        check_float("stream-interval", self.interval, 0.0, MAX_TIMEOUT)
        if self.messages is not None:
            check_int("stream-call-count", self.messages, 1, 1_000_000_000)
        if self.duration is not None:
            check_float("stream-call-duration", self.duration, 0.0, MAX_SECONDS, above=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsPlan:
    """TLS to the hosts: PEM texts. Without `ca` the system's authorities are trusted."""

    ca: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = None
    verify: bool = True
    server_name: str | None = None
    """What the hosts' certificates are checked for, instead of the host's own name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """What a run does.

    Without a `schedule` it is a closed loop: `concurrency` workers, each of which sends its next request when
    it has the last response. With one it is an open loop: calls are sent when they are due, at most
    `concurrency` at a time, and a latency counts from when the call was due; `closed` counts it from when the
    call was sent instead.

    The first `warmup` seconds are not measured. Then the run ends after `total` calls, after `duration`
    seconds, or what comes first; at least one of the two is given. Each call may take `timeout` seconds.
    `connections`, spread over the hosts in turn, are made, each within `connect_timeout` seconds, before the
    clock starts; `threads` engine threads share them. A response may have `max_message_bytes`.
    """

    hosts: tuple[str, ...]
    """Each "HOST:PORT" or "unix:PATH"."""
    method: Method
    requests: RequestSource
    tls: TlsPlan | None = None
    authority: str | None = None
    gzip: bool = False
    concurrency: int = 50
    total: int | None = 200
    duration: float | None = None
    at_end: AtEnd = AtEnd.WAIT
    schedule: Schedule | None = None
    closed: bool = False
    warmup: float = 0.0
    timeout: float = 20.0
    connections: int = 1
    connect_timeout: float = 10.0
    threads: int = 1
    max_message_bytes: int = 64 << 20
    streaming: Streaming = field(default_factory=Streaming)
    name: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.hosts:
            raise ConfigError("host", "", "at least one HOST:PORT")
        for host in self.hosts:
            if not host.startswith("unix:"):
                check_address("host", host)
        if self.authority is not None and not VISIBLE.fullmatch(self.authority):
            raise ConfigError("authority", self.authority, "printable ASCII without spaces")
        check_int("concurrency", self.concurrency, 1, MAX_CONCURRENCY)
        if self.total is None and self.duration is None:
            raise ConfigError("total", None, "a number of calls, or a duration")
        if self.total is not None:
            check_int("total", self.total, 1, 1_000_000_000_000)
        if self.duration is not None:
            check_float("duration", self.duration, 0.0, MAX_SECONDS, above=True)
        check_float("warmup", self.warmup, 0.0, MAX_SECONDS)
        check_float("timeout", self.timeout, 0.0, MAX_TIMEOUT, above=True)
        check_int("threads", self.threads, 1, MAX_THREADS)
        check_int("connections", self.connections, 1, MAX_CONNECTIONS)
        if self.connections > self.concurrency:
            raise ConfigError("connections", self.connections, f"at most concurrency ({self.concurrency})")
        if self.connections < len(self.hosts):
            raise ConfigError("connections", self.connections, f"at least one a host ({len(self.hosts)})")
        check_float("connect-timeout", self.connect_timeout, 0.0, MAX_TIMEOUT, above=True)
        if self.threads > self.connections:
            raise ConfigError("connections", self.connections, f"at least one a thread ({self.threads})")
        check_int("max-recv-message-size", self.max_message_bytes, 1, (1 << 31) - 1)
        object.__setattr__(self, "tags", MappingProxyType(dict(self.tags)))

    def __reduce__(self) -> tuple[Callable[[], LoadPlan], tuple[()]]:
        """Go to another process, which a mapping that does not change could not by itself."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return partial(LoadPlan, **{**values, "tags": dict(self.tags)}), ()
