"""What the garbage collector finds: calls in reference cycles, and calls of a loop that was closed.

Each in a process of its own, as a mistake of these ends it.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

BEGINNING = """
import asyncio, gc, socket, sys, weakref
import grpc, uvloop
from tai_grpc import aio


class Holder:
    '''Refers to a call, and the call to it.'''

    def __init__(self, call):
        self.call = call
        call.add_done_callback(self.done)

    def done(self, call):
        raise AssertionError("a call that is dropped is not done")


async def begin(requests, context):
    yield b"first"
    begun.set()
    try:
        await asyncio.Event().wait()
    finally:
        ended.set()


async def serve(address="127.0.0.1:0"):
    global begun, ended
    begun, ended = asyncio.Event(), asyncio.Event()
    server = aio.server(options=[("grpc.so_reuseport", 0)])
    handlers = {"Begin": grpc.stream_stream_rpc_method_handler(begin)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Garbage", handlers),))
    port = server.add_insecure_port(address)
    await server.start()
    return server, f"127.0.0.1:{port}"


def loop():
    return uvloop.new_event_loop() if sys.argv[1] == "uvloop" else asyncio.new_event_loop()


def run(main):
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main)
"""

EXPIRES = """
async def main():
    server, target = await serve()
    async with aio.insecure_channel(target) as channel:
        await channel.channel_ready()
        method = channel.stream_stream("/test.Garbage/Begin")

        async def begin():
            call = method(timeout=1.0)
            assert await call.read() == b"first"
            gc.collect()  # what is older is taken apart first
            Holder(call)

        await begin()
        await begun.wait()
        gc.collect()
        await asyncio.wait_for(ended.wait(), 10)  # the server is told
        other = method(timeout=60)  # may be where the one before was
        assert await other.read() == b"first"
        assert await method(timeout=1.0).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert not other.done()
    await server.stop(None)

run(main())
"""

WAITS = """
async def main():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        target = "127.0.0.1:%d" % probe.getsockname()[1]
    options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 50)]
    async with aio.insecure_channel(target, options=options) as channel:
        method = channel.stream_stream("/test.Garbage/Begin")

        def begin():
            Holder(method(wait_for_ready=True))

        begin()
        assert channel.dispatcher.waiting_calls == 1
        gc.collect()
        assert channel.dispatcher.waiting_calls == 0
        server, _ = await serve(target)
        await asyncio.wait_for(channel.channel_ready(), 10)
        call = method()
        assert await call.read() == b"first"
        call.cancel()
    await server.stop(None)

run(main())
"""

LATE = """
async def main():
    server, target = await serve()
    async with aio.insecure_channel(target) as channel:
        method = channel.stream_stream("/test.Garbage/Begin")

        def went(_):
            arrive(bytes.fromhex("000006 00 00 00000001 00 00000001 78"))  # a message, for the only stream
            late.clear()

        late = []

        async def begin():
            call = method()
            assert await call.read() == b"first"
            gc.collect()
            # The collector does not know code: it goes when the list is cleared, after the call.
            box = [call, compile("0", "late", "eval")]
            late.append(weakref.ref(box[1], went))
            call.add_done_callback(box.append)

        await begin()
        arrive = channel._policy._subchannel.connection.data_received
        gc.collect()
        assert not late
        await asyncio.wait_for(ended.wait(), 10)
    await server.stop(None)

run(main())
"""

CLOSED = """
async def main():
    server, target = await serve()
    channel = aio.insecure_channel(target)
    calls = [channel.stream_stream("/test.Garbage/Begin")(timeout=60) for _ in range(3)]
    for call in calls:
        assert await call.read() == b"first"
    loop = asyncio.get_running_loop()
    loop.calls = [Holder(call) for call in calls]  # so that all of it goes together

made = loop()
made.run_until_complete(main())
made.close()
del made
gc.collect()
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("script", [EXPIRES, WAITS, LATE, CLOSED], ids=["expires", "waits", "late", "closed"])
def test_calls_that_only_the_garbage_collector_finds(script: str, loop: str) -> None:
    """They are given up like those that are dropped, whether or not their loop is there still."""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BEGINNING + script, loop],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONMALLOC": "debug"},  # memory that was freed is overwritten
    )
    assert (result.returncode, "Exception ignored" in result.stderr) == (0, False), result.stderr
