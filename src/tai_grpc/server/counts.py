"""What a server counts, and what it tells of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from tai_grpc.resilience import Arena, Counter, LatencyHistogram


@dataclass(frozen=True, slots=True)
class ServerStats:
    """A server's counts since it was made, or those of all servers that share its arena.

    A call counts once its handler is about to begin: not when the method is unknown or the server full. It
    has `failed` when it ended with another status than OK, was cancelled, or ran when its worker was killed.
    `latency` has, in microseconds, how long the handlers of calls with one response took that ended with OK;
    it goes on counting.
    """

    started: int
    failed: int
    in_flight: int
    latency: LatencyHistogram


class Slot(NamedTuple):
    """Which of how many workers a server is. No two that share an arena at one time are the same."""

    number: int
    of: int


class _Calls(NamedTuple):
    """The calls of one slot."""

    started: Counter
    ended: Counter


class ServerCounts:
    """The counts of a server: in its own memory, or in an arena, where all that have it count together.

    In a slot of its own, it takes over from a server there that was killed: its calls have failed.
    """

    __slots__ = ("_arena", "_slots", "ended", "failed", "latency", "started")

    def __init__(self, arena: Arena | None = None, slot: Slot | None = None) -> None:
        self._arena = arena
        if arena is None:
            started, ended, self.failed = Counter.together(3)
            self._slots = [_Calls(started, ended)]
            self.latency = LatencyHistogram()
        else:
            suffixes = [""] if slot is None else [f".{number}" for number in range(slot.of)]
            self._slots = [_calls(arena, f"tai-grpc.server{suffix}") for suffix in suffixes]
            self.failed = arena.counter("tai-grpc.server.failed")
            self.latency = arena.histogram("tai-grpc.server.latency")
        own = self._slots[0 if slot is None or arena is None else slot.number]
        self.started, self.ended = own
        if slot is not None and (lost := own.started.value - own.ended.value) > 0:
            self.failed.add(lost)
            self.ended.add(lost)

    def stats(self) -> ServerStats:
        failed = self.failed.value
        # Those that end meanwhile must not make it negative.
        ended = sum(slot.ended.value for slot in self._slots)
        started = sum(slot.started.value for slot in self._slots)
        return ServerStats(started, failed, started - ended, self.latency)


def _calls(arena: Arena, name: str) -> _Calls:
    return _Calls(arena.counter(f"{name}.started"), arena.counter(f"{name}.ended"))
