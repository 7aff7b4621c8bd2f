"""Channels for threads: what holds for them, with servers in a thread beside them."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from aio.background import Background
from aio.certificates import Certificates
from aio.peer import (
    DATA,
    ENHANCE_YOUR_CALM,
    INITIAL,
    MAX_CONCURRENT_STREAMS,
    PING,
    REFUSED_STREAM,
    Peer,
)
from client.kinds import unused_address
from tai_grpc import aio
from tai_grpc.aio import BlockingChannel, BlockingRpcError, blocking_channel
from tai_grpc.errors import ConfigError

METHOD = "/test.Scripted/Call"


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def error_of(call: Callable[[], Any]) -> BlockingRpcError:
    with pytest.raises(BlockingRpcError) as caught:
        call()
    return caught.value


def all_kinds(channel: BlockingChannel) -> None:
    assert channel.unary_unary("/test.Echo/One")(b"a") == b"a"
    assert list(channel.unary_stream("/test.Echo/Count")(b"3 1")) == [b"x"] * 3
    assert channel.stream_unary("/test.Echo/Join")(iter([b"a"] * 1000)) == b"1000"
    assert list(channel.stream_stream("/test.Echo/Upper")(iter([b"a", b"b"]))) == [b"A", b"B"]


def test_all_kinds_over_tcp_a_unix_socket_and_tls(
    background: Background, opened: Any, certificates: Certificates, tmp_path: Path
) -> None:
    all_kinds(opened(background.serve()))
    all_kinds(opened(background.serve(address=f"unix:{tmp_path}/socket")))
    pairs = [(certificates.server_key, certificates.server_chain)]
    target = background.serve(aio.ssl_server_credentials(pairs))
    all_kinds(opened(target, aio.ssl_channel_credentials(certificates.authority)))
    error = error_of(
        lambda: opened(target, aio.ssl_channel_credentials(certificates.stranger)).unary_unary(METHOD)(b"")
    )
    assert error.code() is StatusCode.UNAVAILABLE
    assert "certificate is refused" in error.details()


def test_metadata_go_both_ways_and_errors_have_them(background: Background, opened: Any) -> None:
    channel = opened(background.serve())
    response, call = channel.unary_unary("/test.Echo/One").with_call(b"a", metadata=(("asked", "why"),))
    assert (response, call.code()) == (b"a", StatusCode.OK)
    assert tuple(call.initial_metadata()) == (("early", "yes"), ("early-bin", b"\0\xff"))
    assert tuple(call.trailing_metadata()) == (("late", "why"),)
    error = error_of(lambda: channel.unary_unary("/test.Echo/Fail")(b""))
    assert isinstance(error, grpc.RpcError)
    assert (error.code(), error.details()) == (StatusCode.FAILED_PRECONDITION, "n\u00f6")
    assert tuple(error.trailing_metadata()) == (("late", "yes"),)
    with pytest.raises(ValueError, match="Bad"):
        channel.unary_unary("/test.Echo/One")(b"", metadata=(("Bad key", "x"),))


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_messages_are_compressed(background: Background, opened: Any, compression: Any) -> None:
    channel = opened(background.serve())
    assert channel.unary_unary("/test.Echo/One")(b"a" * 9999, compression=compression) == b"a" * 9999


def test_a_compressed_response_is_bounded(background: Background, opened: Any) -> None:
    async def bomb(peer: Peer) -> None:
        await peer.start()
        stream = await peer.whole_request()
        peer.headers(stream, (*INITIAL, ("grpc-encoding", "deflate")))
        peer.message(stream, zlib.compress(b"\0" * 100_000), compressed=True)
        peer.status(stream)
        await peer.closed()

    channel = opened(background.scripted(bomb), max_receive_message_length=5000)
    error = error_of(lambda: channel.unary_unary(METHOD)(b""))
    assert (error.code(), "larger than max" in error.details()) == (StatusCode.RESOURCE_EXHAUSTED, True)


def test_messages_beyond_the_limits_are_refused(background: Background, opened: Any) -> None:
    channel = opened(background.serve(), max_receive_message_length=10, max_send_message_length=100)
    one = channel.unary_unary("/test.Echo/One")
    assert error_of(lambda: one(b"a" * 50)).code() is StatusCode.RESOURCE_EXHAUSTED
    assert error_of(lambda: one(b"a" * 101)).details() == "Sent message larger than max (101 vs. 100)"
    join = channel.stream_unary("/test.Echo/Join")
    assert error_of(lambda: join([b"a" * 101])).code() is StatusCode.RESOURCE_EXHAUSTED
    assert one(b"a" * 10) == b"a" * 10


def test_deadlines_of_the_thread_that_reads_and_of_those_that_follow(
    background: Background, opened: Any
) -> None:
    channel = opened(background.serve())
    hang = channel.unary_unary("/test.Echo/Hang")
    with ThreadPoolExecutor(8) as pool:
        errors = list(pool.map(lambda ms: error_of(lambda: hang(b"", timeout=ms / 1000)), range(50, 450, 50)))
    assert {error.code() for error in errors} == {StatusCode.DEADLINE_EXCEEDED}
    assert error_of(lambda: hang(b"", timeout=-1)).code() is StatusCode.DEADLINE_EXCEEDED
    assert channel.unary_unary("/test.Echo/One")(b"a", timeout=5.0) == b"a"


def test_another_thread_cancels_a_call_that_is_read(background: Background, opened: Any) -> None:
    """Whether its reader leads or follows."""
    channel = opened(background.serve())
    for leader_first in (True, False):
        calls = [channel.stream_stream("/test.Echo/Upper")(_endless()) for _ in range(2)]
        for call in calls:
            assert next(call) == b"A"
        with ThreadPoolExecutor(2) as pool:
            reads = [pool.submit(error_of, partial(next, call)) for call in calls]
            for call in calls if leader_first else reversed(calls):
                assert call.cancel()
            assert [read.result(20).code() for read in reads] == [StatusCode.CANCELLED] * 2
        assert [call.cancel() for call in calls] == [False, False]


def _endless() -> Iterator[bytes]:
    yield b"a"
    threading.Event().wait(60)


def test_a_slow_reader_holds_the_server_up_and_gets_everything(background: Background, opened: Any) -> None:
    """What is not read waits at the server; other calls of the connection go on."""
    channel = opened(background.serve())
    stream = channel.unary_stream("/test.Echo/Count")(b"400 50000")
    assert len(next(stream)) == 50000
    for _ in range(50):
        assert channel.unary_unary("/test.Echo/One")(b"a", timeout=10) == b"a"
    assert sum(len(message) for message in stream) == 399 * 50000
    assert stream.code() is StatusCode.OK


def test_a_writer_waits_for_a_server_that_does_not_read(background: Background, opened: Any) -> None:
    """What is queued is bounded: the requests' iterator is not read on while the server takes nothing."""
    taken = 0

    async def deaf(peer: Peer) -> None:
        await peer.start()
        stream = await peer.request()
        received = 0
        while received < 65535:  # the window, which is not opened again
            received += len((await peer.wait(DATA, stream)).payload)
        peer.headers(stream)
        peer.status(stream, StatusCode.ABORTED.value[0], "enough")
        await peer.closed()

    def requests() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(10_000):
            taken += 1
            yield b"x" * 10_000

    call = opened(background.scripted(deaf)).stream_stream(METHOD)(requests())
    assert error_of(lambda: next(call)).details() == "enough"
    assert taken < 30


def test_a_dropped_stream_is_given_up(background: Background, opened: Any) -> None:
    ended = threading.Event()

    async def waiting(peer: Peer) -> None:
        await peer.start()
        stream = await peer.whole_request()
        peer.headers(stream)
        peer.message(stream, b"first")
        await peer.wait(3, stream)  # RST_STREAM
        ended.set()
        await peer.closed()

    stream = opened(background.scripted(waiting)).unary_stream(METHOD)(b"")
    assert next(stream) == b"first"
    del stream
    gc.collect()
    assert ended.wait(20)


def test_the_request_iterators_failure_ends_the_call(background: Background, opened: Any) -> None:
    def requests() -> Iterator[bytes]:
        yield b"a"
        raise KeyError("the source broke")

    error = error_of(lambda: opened(background.serve()).stream_unary("/test.Echo/Join")(requests()))
    assert error.code() is StatusCode.UNKNOWN
    assert "the source broke" in error.details()


def test_calls_over_the_servers_limit_wait_their_turn(background: Background, opened: Any) -> None:
    async def one_at_a_time(peer: Peer) -> None:
        await peer.start(((MAX_CONCURRENT_STREAMS, 1),))
        for _ in range(20):
            peer.answer(await peer.whole_request())
        await peer.closed()

    call = opened(background.scripted(one_at_a_time)).unary_unary(METHOD)
    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(lambda _: call(b"", timeout=20), range(20))) == [b"answer"] * 20


def test_what_the_server_did_not_process_is_sent_anew_once(background: Background, opened: Any) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.start()
        peer.reset(await peer.whole_request(), REFUSED_STREAM)
        peer.answer(await peer.whole_request())
        for _ in range(2):
            peer.reset(await peer.whole_request(), REFUSED_STREAM)
        await peer.closed()

    channel = opened(background.scripted(refuse))
    assert channel.unary_unary(METHOD)(b"") == b"answer"
    assert error_of(lambda: channel.unary_unary(METHOD)(b"")).code() is StatusCode.UNAVAILABLE


def test_goaway_leads_to_a_new_connection(background: Background, opened: Any) -> None:
    async def leave(peer: Peer) -> None:
        await peer.start()
        stream = await peer.whole_request()
        peer.goaway(stream)
        peer.answer(stream, b"old")
        await peer.closed()

    async def stay(peer: Peer) -> None:
        await peer.start()
        peer.answer(await peer.whole_request(), b"new")
        await peer.closed()

    call = opened(background.scripted(leave, stay)).unary_unary(METHOD)
    assert [call(b"", timeout=20), call(b"", timeout=20)] == [b"old", b"new"]


def test_a_lost_connection_fails_calls_and_the_next_one_reconnects(
    background: Background, opened: Any
) -> None:
    async def drop(peer: Peer) -> None:
        await peer.start()
        peer.headers(await peer.whole_request())
        peer.close()

    async def stay(peer: Peer) -> None:
        await peer.start()
        peer.answer(await peer.whole_request())
        await peer.closed()

    call = opened(background.scripted(drop, stay)).unary_unary(METHOD)
    error = error_of(lambda: call(b"", timeout=20))
    assert (error.code(), error.details()[:23]) == (StatusCode.UNAVAILABLE, "the connection was lost")
    assert call(b"", timeout=20) == b"answer"


def test_nobody_at_home_fails_at_once_or_is_waited_for(background: Background, opened: Any) -> None:
    address = unused_address()
    channel = opened(address, initial_reconnect_backoff_ms=50, max_reconnect_backoff_ms=50)
    call = channel.unary_unary("/test.Echo/One")
    error = error_of(lambda: call(b"a"))
    assert error.code() is StatusCode.UNAVAILABLE
    assert "failed to connect to all addresses" in error.details()
    assert "Connection refused" in error.details()
    late = error_of(lambda: call(b"a", wait_for_ready=True, timeout=0.3))
    assert late.code() is StatusCode.DEADLINE_EXCEEDED
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda _: call(b"a", wait_for_ready=True, timeout=20), range(4))
        background.serve(address=address)
        assert list(answers) == [b"a"] * 4


def test_the_next_address_is_tried(background: Background, opened: Any) -> None:
    port = background.serve().partition(":")[2]
    closed = unused_address()
    assert opened(f"ipv4:{closed},127.0.0.1:{port}").unary_unary("/test.Echo/One")(b"a") == b"a"


def test_a_server_that_is_silent_is_noticed(background: Background, opened: Any) -> None:
    async def silent(peer: Peer) -> None:
        await peer.start()
        await peer.wait(PING)
        await asyncio.Event().wait()

    channel = opened(background.scripted(silent), keepalive_time_ms=50, keepalive_timeout_ms=50)
    error = error_of(lambda: channel.unary_unary(METHOD)(b"", timeout=20))
    assert (error.code(), "answered no ping" in error.details()) == (StatusCode.UNAVAILABLE, True)


def test_pings_that_are_too_many_become_fewer(background: Background, opened: Any) -> None:
    """The connection that follows the one on which the server said so is pinged half as often."""

    async def strict(peer: Peer) -> None:
        await peer.start()
        stream = await peer.whole_request()
        peer.answer(stream)
        peer.goaway(stream, ENHANCE_YOUR_CALM, b"too_many_pings")
        await peer.closed()

    channel = opened(background.scripted(strict), keepalive_time_ms=10_000)
    intervals = []
    for _ in range(3):
        assert channel.unary_unary(METHOD)(b"", timeout=20) == b"answer"
        intervals.append(channel.keeper._connection.keepalive_ns / 1e9)
    assert intervals == [10.0, 20.0, 40.0]


def test_closing_ends_calls_and_leaves_no_descriptor_and_no_thread(background: Background) -> None:
    target = background.serve()
    blocking_channel(target).close()
    before = descriptors(), threading.active_count()
    channel = blocking_channel(target)
    with ThreadPoolExecutor(4) as pool, closing(channel):
        hanging = [
            pool.submit(error_of, lambda: channel.unary_unary("/test.Echo/Hang")(b"")) for _ in range(4)
        ]
        assert channel.unary_unary("/test.Echo/One")(b"a") == b"a"
        wait_until(lambda: background.hanging == 4)
        channel.close()
        assert {future.result(20).code() for future in hanging} == {StatusCode.CANCELLED}
    # The server, which is here too, closes later.
    wait_until(lambda: (descriptors(), threading.active_count()) == before)
    with pytest.raises(ValueError, match="closed channel"):
        channel.unary_unary("/test.Echo/One")(b"a")
    channel.close()
    dropped = blocking_channel(target)
    assert dropped.unary_unary("/test.Echo/One")(b"a") == b"a"
    del dropped
    gc.collect()
    wait_until(lambda: descriptors() == before[0])


def test_a_signals_handler_may_end_the_wait_or_close_the_channel(background: Background) -> None:
    """Of a call that hangs: what the handler raises is raised, and a call that it ends fails."""
    program = """
import signal, sys
from tai_grpc.aio import BlockingRpcError, blocking_channel
channel = blocking_channel(sys.argv[1])
hang = channel.unary_unary("/test.Echo/Hang")

def interrupt(number, frame):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    hang(b"")
except KeyboardInterrupt:
    pass
else:
    sys.exit(2)
assert channel.unary_unary("/test.Echo/One")(b"a") == b"a"
signal.signal(signal.SIGALRM, lambda number, frame: channel.close())
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    hang(b"")
except BlockingRpcError as error:
    assert error.details() == "Channel closed!", error
"""
    subprocess.run([sys.executable, "-c", program, background.serve()], check=True, timeout=60)


def test_the_child_of_a_fork_connects_anew_and_the_parent_goes_on(background: Background) -> None:
    """In a process without other threads: a fork with some is Python's own matter."""
    program = """
import os, sys
from tai_grpc.aio import blocking_channel
channel = blocking_channel(sys.argv[1])
one = channel.unary_unary("/test.Echo/One")
stream = channel.unary_stream("/test.Echo/Count")(b"100 1000000")  # more than may wait unread
assert one(b"a") == b"a" and next(stream)
child = os.fork()
if child == 0:
    try:
        sum(1 for _ in stream)
    except Exception as error:
        assert "forked" in error.details(), error
    else:
        os._exit(2)
    os._exit(0 if one(b"child") == b"child" else 3)
assert one(b"parent") == b"parent" and sum(1 for _ in stream) == 99
assert os.waitpid(child, 0)[1] == 0
assert one(b"after") == b"after"
"""
    subprocess.run([sys.executable, "-c", program, background.serve()], check=True, timeout=60)


def test_what_is_not_supported_is_refused_by_name(opened: Any) -> None:
    with pytest.raises(ConfigError, match="pick_first"):
        opened("localhost:1", lb_policy_name="round_robin")
    with pytest.raises(ConfigError, match="xds"):
        opened("xds:///a")


class Watching(grpc.UnaryUnaryClientInterceptor, grpc.StreamStreamClientInterceptor):
    """An interceptor of grpc's, which keeps how the calls with one response ended."""

    def __init__(self) -> None:
        self.ended: list[tuple[StatusCode, Any]] = []

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        call = continuation(details, request)
        call.add_done_callback(lambda ended: self.ended.append((ended.code(), ended.exception())))
        assert call.done()
        return call

    def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        return continuation(details, (request + b"!" for request in requests))


def test_grpcs_own_interceptors_take_it(background: Background, opened: Any) -> None:
    watching = Watching()
    channel: Any = grpc.intercept_channel(opened(background.serve()), watching)
    assert channel.unary_unary("/test.Echo/One")(b"a") == b"a"
    assert list(channel.stream_stream("/test.Echo/Upper")(iter([b"a", b"b"]))) == [b"A!", b"B!"]
    error = error_of(lambda: channel.unary_unary("/test.Echo/Fail")(b""))
    assert watching.ended == [(StatusCode.OK, None), (StatusCode.FAILED_PRECONDITION, error)]
