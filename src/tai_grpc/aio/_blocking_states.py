"""Who wants to hear what a blocking channel is doing: grpc's `subscribe` and `unsubscribe`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from grpc import ChannelConnectivity

from tai_grpc.aio._blocking_keeper import Keeper, RefusalError, Waiting

_log = logging.getLogger(__name__)


class _Subscriber:
    """A callback, whether it wants a connection, and what it was told last."""

    def __init__(self, callback: Callable[[ChannelConnectivity], object], *, connect: bool) -> None:
        self.callback = callback
        self.connect = connect
        self.told: ChannelConnectivity | None = None


class Subscriptions:
    """The subscribers of a channel: one thread tells them, and another connects when one of them wants that.

    Neither is there without subscribers, nor once the channel is closed.
    """

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._subscribers: list[_Subscriber] = []
        self._teller: threading.Thread | None = None
        self._connector: threading.Thread | None = None
        self._waiting = Waiting()

    def add(self, callback: Callable[[ChannelConnectivity], object], *, connect: bool) -> None:
        with self._keeper.changed:
            if self._teller is not None and not self._teller.is_alive():
                # It is the parent's, and so are they: this is the child of a fork.
                self._teller = self._connector = None
                self._subscribers.clear()
            self._subscribers.append(_Subscriber(callback, connect=connect))
            if self._teller is None:
                self._teller = _started(self._tell, "tai-grpc-states")
            if connect and self._connector is None:
                self._waiting = Waiting()
                self._connector = _started(self._connect, "tai-grpc-connect")
            self._keeper.changed.notify_all()

    def remove(self, callback: Callable[[ChannelConnectivity], object]) -> None:
        with self._keeper.changed:
            for index, subscriber in enumerate(self._subscribers):
                if subscriber.callback == callback:
                    del self._subscribers[index]
                    break
            if not self._is_connection_wanted():
                self._keeper.give_up(self._waiting)
            self._keeper.changed.notify_all()

    def _tell(self) -> None:
        while True:
            with self._keeper.changed:
                while not (
                    due := [each for each in self._subscribers if each.told is not self._keeper.state]
                ):
                    if not self._subscribers or self._keeper.state is ChannelConnectivity.SHUTDOWN:
                        self._subscribers.clear()
                        self._teller = None
                        return
                    self._keeper.changed.wait()
                state = self._keeper.state
                for subscriber in due:
                    subscriber.told = state
            for subscriber in due:
                try:
                    subscriber.callback(state)
                except Exception:
                    _log.exception("a subscriber to the states of a channel failed")

    def _connect(self) -> None:
        """Connect as a call that waits would, until that has succeeded or nobody wants it any more."""
        while True:
            connected = True
            try:
                self._keeper.connection(0, self._waiting, wait_for_ready=True)
            except RefusalError:
                connected = False
            with self._keeper.changed:
                for subscriber in self._subscribers if connected else ():
                    subscriber.connect = False
                closed = self._keeper.state is ChannelConnectivity.SHUTDOWN
                if closed or not self._is_connection_wanted():
                    self._connector = None
                    return
                if self._waiting.given_up:  # by those who have left; others have come since
                    self._waiting = Waiting()

    def _is_connection_wanted(self) -> bool:
        return any(subscriber.connect for subscriber in self._subscribers)


def _started(work: Callable[[], None], name: str) -> threading.Thread:
    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    return thread
