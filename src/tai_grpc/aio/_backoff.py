"""When a channel connects again, and how often its connections are pinged: what it learns from failures."""

from __future__ import annotations

import random
from typing import Final, Protocol

from tai_grpc.aio._channel_options import ChannelOptions

_MULTIPLIER: Final = 1.6
_JITTER: Final = 0.2
_DISMISSED: Final = 0.1
"""Seconds between two connections whose server says GOAWAY before it has answered anything."""


class Lost(Protocol):
    """A connection that takes no more calls."""

    @property
    def served(self) -> bool:
        """Whether it was of use: a call was answered."""

    @property
    def dismissed(self) -> bool:
        """Whether the server said GOAWAY in peace."""


class Backoff:
    """The time between two attempts to connect: `initial_backoff`, and longer while they fail, up to
    `max_backoff`. In seconds, of the clock of whoever asks.

    A connection that was of no use and shorter than that counts as a failure: a server that takes connections
    and drops them is not flooded. One that was dismissed, by a server that goes in peace, is replaced sooner.
    """

    def __init__(self, options: ChannelOptions) -> None:
        self._options = options
        self.seconds = options.initial_backoff
        self.next_attempt = 0.0
        self._begun = 0.0

    def begin(self, now: float) -> float:
        """An attempt begins; return how long it may take."""
        self._begun = now
        self.next_attempt = now + self.seconds * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311
        return max(self._options.connect_timeout, self.seconds)

    def failed(self) -> None:
        self.seconds = min(self.seconds * _MULTIPLIER, self._options.max_backoff)

    def lost(self, now: float, connection: Lost) -> None:
        """A connection has ended, or takes no more calls."""
        if connection.served or now >= self.next_attempt:
            self.reset()
        elif connection.dismissed:
            self.next_attempt = min(self.next_attempt, self._begun + _DISMISSED)

    def reset(self) -> None:
        """As if nothing had failed."""
        self.seconds = self._options.initial_backoff
        self.next_attempt = 0.0


class Keepalive:
    """The interval between pings, of one channel: doubled when a server says that they are too many."""

    def __init__(self, interval: float | None) -> None:
        self.interval = interval

    def too_many(self) -> None:
        if self.interval is not None:
            self.interval *= 2
