"""What a channel for threads is doing, as those hear who subscribed."""

from __future__ import annotations

import logging
import queue
import subprocess
import sys
import threading
from typing import Any

import grpc
import pytest
from grpc import ChannelConnectivity

from aio.background import Background
from client.kinds import unused_address
from tai_grpc.aio import BlockingChannel

IDLE, CONNECTING = ChannelConnectivity.IDLE, ChannelConnectivity.CONNECTING
READY, FAILURE = ChannelConnectivity.READY, ChannelConnectivity.TRANSIENT_FAILURE
SHUTDOWN = ChannelConnectivity.SHUTDOWN
OURS = ("tai-grpc-states", "tai-grpc-connect")


class Heard:
    """A subscriber that keeps what it is told."""

    def __init__(self, channel: BlockingChannel, *, connect: bool = False) -> None:
        self.channel = channel
        self._states: queue.Queue[ChannelConnectivity] = queue.Queue()
        channel.subscribe(self.tell, try_to_connect=connect)

    def tell(self, state: ChannelConnectivity) -> None:
        self._states.put(state)

    def until(self, state: ChannelConnectivity) -> list[ChannelConnectivity]:
        """Wait until it has heard of `state`; return what it heard up to then."""
        heard = [self._states.get(timeout=20)]
        while heard[-1] is not state:
            heard.append(self._states.get(timeout=20))
        return heard

    def nothing(self) -> bool:
        return self._states.empty()


def join_threads() -> None:
    """Wait for the end of those that tell and connect: there must be none without subscribers."""
    for thread in threading.enumerate():
        if thread.name in OURS:
            thread.join(20)
            assert not thread.is_alive()


def test_grpcs_ready_future_waits_for_a_server(background: Background, opened: Any) -> None:
    channel = opened(background.serve())
    future = grpc.channel_ready_future(channel)
    future.result(timeout=20)
    assert future.done()
    assert channel.unary_unary("/test.Echo/One")(b"a") == b"a"
    grpc.channel_ready_future(channel).result(timeout=20)
    join_threads()


def test_grpcs_ready_future_waits_until_a_server_is_there(background: Background, opened: Any) -> None:
    address = unused_address()
    channel = opened(address, initial_reconnect_backoff_ms=100, max_reconnect_backoff_ms=200)
    heard = Heard(channel)
    future = grpc.channel_ready_future(channel)
    heard.until(FAILURE)
    background.serve(address=address)
    future.result(timeout=20)
    channel.unsubscribe(heard.tell)
    join_threads()


def test_a_ready_future_that_is_given_up_stops_connecting(opened: Any) -> None:
    channel = opened(unused_address(), initial_reconnect_backoff_ms=100)
    future = grpc.channel_ready_future(channel)
    with pytest.raises(grpc.FutureTimeoutError):
        future.result(timeout=0.05)
    assert future.cancel()
    join_threads()


def test_states_are_told_without_connecting_unless_asked(background: Background, opened: Any) -> None:
    channel = opened(background.serve())
    heard = Heard(channel)
    assert heard.until(IDLE) == [IDLE]
    assert channel.unary_unary("/test.Echo/One")(b"a") == b"a"
    assert set(heard.until(READY)) <= {CONNECTING, READY}
    late = Heard(channel, connect=True)
    assert late.until(READY) == [READY]
    channel.close()
    assert heard.until(SHUTDOWN) == late.until(SHUTDOWN) == [SHUTDOWN]
    join_threads()
    after = Heard(channel, connect=True)
    assert after.until(SHUTDOWN) == [SHUTDOWN]
    join_threads()


def test_a_lost_connection_is_told_when_the_next_call_finds_it_lost(
    background: Background, opened: Any
) -> None:
    channel = opened(background.serve())
    heard = Heard(channel, connect=True)
    heard.until(READY)
    background.stop_servers()
    with pytest.raises(grpc.RpcError):
        channel.unary_unary("/test.Echo/One")(b"a")
    with pytest.raises(grpc.RpcError):
        channel.unary_unary("/test.Echo/One")(b"a")
    heard.until(FAILURE)


def test_who_unsubscribed_hears_no_more(background: Background, opened: Any) -> None:
    channel = opened(background.serve())
    gone, staying = Heard(channel), Heard(channel)
    gone.until(IDLE)
    channel.unsubscribe(gone.tell)
    channel.unsubscribe(gone.tell)  # a second time is no error
    channel.unary_unary("/test.Echo/One")(b"a")
    staying.until(READY)
    assert gone.nothing()


def test_a_subscriber_that_fails_is_logged_and_stops_no_other(
    background: Background, opened: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(state: ChannelConnectivity) -> None:
        raise LookupError("mine")

    channel = opened(background.serve())
    channel.subscribe(fail)
    heard = Heard(channel)
    with caplog.at_level(logging.ERROR):
        heard.until(IDLE)
        channel.unary_unary("/test.Echo/One")(b"a")
        heard.until(READY)
    assert "a subscriber to the states of a channel failed" in caplog.text
    assert "LookupError: mine" in caplog.text


def test_the_child_of_a_fork_subscribes_anew(background: Background) -> None:
    """In a process whose only other thread is the channel's own: see the test of forks in test_blocking."""
    program = """
import os, queue, sys
from grpc import ChannelConnectivity
from tai_grpc.aio import blocking_channel
READY = ChannelConnectivity.READY
channel = blocking_channel(sys.argv[1])
before, after = queue.Queue(), queue.Queue()
channel.subscribe(before.put, try_to_connect=True)
while before.get(timeout=20) is not READY: pass
child = os.fork()
if child == 0:
    try:
        channel.subscribe(after.put, try_to_connect=True)
        while after.get(timeout=20) is not READY: pass
        os._exit(0 if before.empty() else 3)
    finally:
        os._exit(2)
assert os.waitpid(child, 0)[1] == 0
channel.close()
assert before.get(timeout=20) is ChannelConnectivity.SHUTDOWN
"""
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, background.serve()], check=True, timeout=60
    )


def test_a_future_is_refused_by_name(opened: Any) -> None:
    channel = opened("localhost:1")
    for method in (channel.unary_unary("/test.Echo/One"), channel.stream_unary("/test.Echo/Join")):
        with pytest.raises(NotImplementedError, match=r"no future\(\): make the call in a thread of yours"):
            method.future(b"a", timeout=1.0)
