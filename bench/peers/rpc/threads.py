"""The measurements of a client on threads, and the roles of such a peer."""

import json
import sys
from array import array
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import cycle, islice
from threading import Event
from time import perf_counter, perf_counter_ns, process_time, sleep

from bench.peers.rpc.protocol import Blocking, BlockingClient, Figures, Tls
from bench.peers.rpc.say import answer, say
from bench.peers.rpc.timing import Streams, latencies_of, rate_of


def run(peer: Blocking, role: str, port: int, tls: Tls | None) -> None:
    (serve if role == "server" else measure)(peer, port, tls)


def serve(peer: Blocking, port: int, tls: Tls | None) -> None:
    with peer.serve(port, tls) as serving:
        say({"ready": True, "port": serving.port})
        for line in sys.stdin:
            say(answer(serving.tally, line))


def measure(peer: Blocking, port: int, tls: Tls | None) -> None:
    with ExitStack() as stack:
        clients: list[BlockingClient] = []

        def connected(count: int) -> list[BlockingClient]:
            while len(clients) < count:
                client = stack.enter_context(peer.connect(port, tls))
                reply = client.unary(client.request)
                assert reply == client.request, reply
                clients.append(client)
            return clients[:count]

        [client] = connected(1)
        say({"ready": True})
        for line in sys.stdin:
            match json.loads(line):
                case {"measure": "sequential", "seconds": seconds}:
                    say(sequential(client, seconds))
                case {"measure": "concurrent", "seconds": seconds, "in_flight": calls, "connections": count}:
                    say(concurrent(connected(count), seconds, calls))
                case {"measure": way, "seconds": seconds}:
                    say(stream(getattr(client, way), seconds))


def sequential(client: BlockingClient, seconds: float) -> Figures:
    """One call after the other."""
    unary, request = client.unary, client.request
    took = array("q")
    end = perf_counter_ns() + int(seconds * 1e9)
    stop = 0
    while stop < end:
        start = perf_counter_ns()
        unary(request)
        stop = perf_counter_ns()
        took.append(stop - start)
    return latencies_of(took)


def concurrent(clients: Sequence[BlockingClient], seconds: float, in_flight: int) -> Figures:
    """So many threads, each with one call after the other; the clients are divided among them."""
    over = Event()

    def work(client: BlockingClient) -> int:
        unary, request = client.unary, client.request
        calls = 0
        while not over.is_set():
            unary(request)
            calls += 1
        return calls

    with ThreadPoolExecutor(in_flight) as pool:
        start, cpu = perf_counter(), process_time()
        workers = [pool.submit(work, each) for each in islice(cycle(clients), in_flight)]
        sleep(seconds)
        over.set()
        calls = sum(worker.result() for worker in workers)
        return rate_of(calls, perf_counter() - start, process_time() - cpu)


def stream(way: Callable[[int], int], seconds: float) -> Figures:
    """One stream, as long as it takes to last half of `seconds` at least."""
    streams = Streams(seconds)
    while True:
        start, cpu = perf_counter(), process_time()
        came = way(streams.messages)
        if figures := streams.ended(came, perf_counter() - start, process_time() - cpu):
            return figures
