"""What keeps a blocking channel's connection, for the threads that make the calls."""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import Final

from grpc import ChannelConnectivity, StatusCode

from tai_grpc._ext.aio.blocking import BlockingConnection
from tai_grpc._ext.aio.client_session import DEADLINE_PASSED, LOCALLY_CANCELLED
from tai_grpc.aio._backoff import Backoff, Keepalive
from tai_grpc.aio._blocking_connection import GivenUpError, Opening
from tai_grpc.aio._connection import ConnectError, Settings
from tai_grpc.aio._target import Target

CLOSED: Final = "Channel closed!"

_NEVER: Final = float("inf")


class RefusalError(Exception):
    """A call ended before it was on a connection."""

    def __init__(self, code: StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details


class Waiting:
    """A call that waits for a connection, and may be given up meanwhile: by `Keeper.give_up`."""

    def __init__(self) -> None:
        self.given_up = False
        self.opening: Opening | None = None


class Keeper:
    """Keeps one connection: opened by the call that needs it, anew with backoff when it fails.

    A call that comes while another one connects waits for what comes of that. When it failed, those that do
    not `wait_for_ready` fail, at once until the backoff is over; the next call then tries again. There is no
    thread that would try meanwhile. A call whose deadline passes while it connects leaves that to the next
    one, which begins anew.
    """

    def __init__(self, target: Target, settings: Settings) -> None:
        self._target = target
        self._settings = settings
        self.keepalive = Keepalive(settings.options.keepalive_time)
        self._backoff = Backoff(settings.options)
        self._failure = ""
        self._failures = 0
        self._connection: BlockingConnection | None = None
        self._draining: list[BlockingConnection] = []
        self._opening: Opening | None = None
        self._closed: str | None = None
        self.changed = threading.Condition()
        """Held for what is here; notified after each change of `state`."""
        _keepers.add(self)

    @property
    def state(self) -> ChannelConnectivity:
        """What it is doing. That a connection is lost shows when the next call finds it so."""
        if self._closed is not None:
            return ChannelConnectivity.SHUTDOWN
        if self._connection is not None and not self._connection.draining:
            return ChannelConnectivity.READY
        if self._opening is not None:
            return ChannelConnectivity.CONNECTING
        return ChannelConnectivity.TRANSIENT_FAILURE if self._failure else ChannelConnectivity.IDLE

    def connection(self, deadline_ns: int, waiting: Waiting, *, wait_for_ready: bool) -> BlockingConnection:
        """Return a connection that takes calls, and have one if there is none.

        `needed` is asked, with `changed` held, whether to go on.

        Raises:
            RefusalError: there is none; or not before the deadline, or the channel is closed, or the call was
                given up.
        """
        connection = self._connection
        if connection is not None and not connection.draining:
            return connection
        deadline = deadline_ns * 1e-9 if deadline_ns else _NEVER
        while True:
            found = self._claim(deadline, waiting, wait_for_ready=wait_for_ready)
            if isinstance(found, BlockingConnection):
                return found
            self._open(found, waiting, wait_for_ready=wait_for_ready)

    def give_up(self, waiting: Waiting) -> None:
        """Have the call wait no longer; from any thread."""
        with self.changed:
            waiting.given_up = True
            if waiting.opening is not None:
                waiting.opening.give_up()
            self.changed.notify_all()

    def _claim(
        self, deadline: float, waiting: Waiting, *, wait_for_ready: bool
    ) -> BlockingConnection | Opening:
        """Return the connection, or what the caller is to open one with."""
        with self.changed:
            while True:
                if self._closed is not None:
                    raise RefusalError(StatusCode.CANCELLED, self._closed)
                if waiting.given_up:
                    raise RefusalError(StatusCode.CANCELLED, LOCALLY_CANCELLED)
                connection = self._connection
                if connection is not None and not connection.draining:
                    return connection
                if connection is not None:
                    self._lose(connection)
                now = time.monotonic()
                if now >= deadline:
                    raise RefusalError(StatusCode.DEADLINE_EXCEEDED, DEADLINE_PASSED)
                failures = self._failures
                until = deadline
                if self._opening is None:
                    if now >= self._backoff.next_attempt:
                        self._opening = waiting.opening = self._begin(now, deadline)
                        return self._opening
                    if self._failure and not wait_for_ready:
                        raise RefusalError(StatusCode.UNAVAILABLE, self._failure)
                    until = min(deadline, self._backoff.next_attempt)
                self.changed.wait(None if until == _NEVER else until - now)
                if self._failures != failures and not wait_for_ready:
                    raise RefusalError(StatusCode.UNAVAILABLE, self._failure)

    def reset_backoff(self) -> None:
        """If the target could not be reached: let the next call try again."""
        with self.changed:
            self._backoff.reset()
            self._failure = ""
            self.changed.notify_all()

    def close(self, why: str = CLOSED) -> None:
        """End every call with CANCELLED and `why`, and disconnect."""
        with self.changed:
            if self._closed is None:
                self._closed = why
            if self._opening is not None:
                self._opening.give_up()
            connections = [*self._draining]
            if self._connection is not None:
                connections.append(self._connection)
            self._connection = None
            self._draining = []
            self.changed.notify_all()
        for connection in connections:
            connection.close(why)

    def forked(self) -> None:
        """In the child of a fork: begin without a connection."""
        self.changed = threading.Condition()
        self._opening = None
        for connection in (self._connection, *self._draining):
            if connection is not None:
                connection.forget()
        self._connection = None
        self._draining = []

    def _begin(self, now: float, deadline: float) -> Opening:
        timeout = self._backoff.begin(now)
        self.changed.notify_all()
        return Opening(self._settings, self.keepalive.interval, timeout, deadline)

    def _open(self, opening: Opening, waiting: Waiting, *, wait_for_ready: bool) -> None:
        connection: BlockingConnection | None = None
        failure: str | None = None
        try:
            connection = opening.open(self._target.resolve_now)
        except GivenUpError:
            pass
        except ConnectError as error:
            failure = str(error)
        except (OSError, UnicodeError) as error:
            failure = f"errors resolving {self._target.text}: {error}"
        finally:
            with self.changed:
                self._opening = waiting.opening = None
                if failure is not None:
                    self._backoff.failed()
                    self._failure = failure
                    self._failures += 1
                elif connection is None:
                    self._backoff.next_attempt = 0.0
                elif self._closed is None:
                    self._failure = ""
                    self._connection = connection
                self.changed.notify_all()
        if connection is not None and self._closed is not None:
            connection.close(self._closed)
        if failure is not None and not wait_for_ready:
            raise RefusalError(StatusCode.UNAVAILABLE, failure)

    def _lose(self, connection: BlockingConnection) -> None:
        """A connection takes no more calls."""
        if connection.too_many_pings:
            self.keepalive.too_many()
        self._backoff.lost(time.monotonic(), connection)
        self._connection = None
        self._draining = [each for each in self._draining if not each.over]
        if not connection.over:
            self._draining.append(connection)
        self.changed.notify_all()


_keepers: weakref.WeakSet[Keeper] = weakref.WeakSet()


def _forked() -> None:
    for keeper in list(_keepers):
        keeper.forked()


os.register_at_fork(after_in_child=_forked)
