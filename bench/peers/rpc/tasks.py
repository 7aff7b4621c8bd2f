"""The measurements of a client on asyncio, and the roles of such a peer."""

import asyncio
import json
import sys
from array import array
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from itertools import cycle, islice
from time import perf_counter, perf_counter_ns, process_time

import uvloop

from bench.peers.rpc.protocol import Asynchronous, Client, Figures, Tls
from bench.peers.rpc.say import answer, say
from bench.peers.rpc.timing import Streams, latencies_of, rate_of


def run(peer: Asynchronous, role: str, port: int, tls: Tls | None) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run((serve if role == "server" else measure)(peer, port, tls))


async def serve(peer: Asynchronous, port: int, tls: Tls | None) -> None:
    async with peer.serve(port, tls) as serving:
        say({"ready": True, "port": serving.port})
        while line := await _line():
            say(answer(serving.tally, line))


async def measure(peer: Asynchronous, port: int, tls: Tls | None) -> None:
    async with AsyncExitStack() as stack:
        clients: list[Client] = []

        async def connected(count: int) -> list[Client]:
            while len(clients) < count:
                clients.append(await stack.enter_async_context(peer.connect(port, tls)))
                await _check(clients[-1])
            return clients[:count]

        [client] = await connected(1)
        say({"ready": True})
        while line := await _line():
            match json.loads(line):
                case {"measure": "sequential", "seconds": seconds}:
                    say(await sequential(client, seconds))
                case {"measure": "concurrent", "seconds": seconds, "in_flight": calls, "connections": count}:
                    say(await concurrent(await connected(count), seconds, calls))
                case {"measure": way, "seconds": seconds}:
                    say(await stream(getattr(client, way), seconds))


async def _line() -> str:
    return await asyncio.to_thread(sys.stdin.readline)


async def _check(client: Client) -> None:
    """See that the peer does what is measured, with a server that may still be on its way up."""
    async with asyncio.timeout(20):
        while True:
            with suppress(OSError):
                reply = await client.unary(client.request)
                break
            await asyncio.sleep(0.05)
    assert reply == client.request, reply


async def sequential(client: Client, seconds: float) -> Figures:
    """One call after the other."""
    unary, request = client.unary, client.request
    took = array("q")
    end = perf_counter_ns() + int(seconds * 1e9)
    stop = 0
    while stop < end:
        start = perf_counter_ns()
        await unary(request)
        stop = perf_counter_ns()
        took.append(stop - start)
    return latencies_of(took)


async def concurrent(clients: Sequence[Client], seconds: float, in_flight: int) -> Figures:
    """So many tasks, each with one call after the other; the clients are divided among them."""
    running = True

    async def work(client: Client) -> int:
        unary, request = client.unary, client.request
        calls = 0
        while running:
            await unary(request)
            calls += 1
        return calls

    def stop() -> None:
        nonlocal running
        running = False

    asyncio.get_running_loop().call_later(seconds, stop)
    start, cpu = perf_counter(), process_time()
    calls = sum(await asyncio.gather(*(work(each) for each in islice(cycle(clients), in_flight))))
    return rate_of(calls, perf_counter() - start, process_time() - cpu)


async def stream(way: Callable[[int], Awaitable[int]], seconds: float) -> Figures:
    """One stream, as long as it takes to last half of `seconds` at least."""
    streams = Streams(seconds)
    while True:
        start, cpu = perf_counter(), process_time()
        came = await way(streams.messages)
        if figures := streams.ended(came, perf_counter() - start, process_time() - cpu):
            return figures
