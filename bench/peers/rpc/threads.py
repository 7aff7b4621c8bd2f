"""The measurements of a client on threads, and the roles of such a peer."""

import json
import sys
from array import array
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from time import perf_counter, perf_counter_ns, process_time, sleep

from bench.peers.rpc.protocol import Blocking, BlockingClient, Figures, Tls
from bench.peers.rpc.say import answer, say
from bench.peers.rpc.timing import latencies_of, next_length, rate_of


def run(peer: Blocking, role: str, port: int, tls: Tls | None) -> None:
    (serve if role == "server" else measure)(peer, port, tls)


def serve(peer: Blocking, port: int, tls: Tls | None) -> None:
    with peer.serve(port, tls) as serving:
        say({"ready": True, "port": serving.port})
        for line in sys.stdin:
            say(answer(serving.tally, line))


def measure(peer: Blocking, port: int, tls: Tls | None) -> None:
    with peer.connect(port, tls) as client:
        reply = client.unary(client.request)
        assert reply == client.request, reply
        say({"ready": True})
        for line in sys.stdin:
            command = json.loads(line)
            name, seconds = command["measure"], command["seconds"]
            if name == "sequential":
                say(sequential(client, seconds))
            elif name == "concurrent":
                say(concurrent(client, seconds, command["in_flight"]))
            else:
                say(stream(getattr(client, name), seconds))


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


def concurrent(client: BlockingClient, seconds: float, in_flight: int) -> Figures:
    """So many threads, each with one call after the other."""
    unary, request = client.unary, client.request
    over = Event()

    def work() -> int:
        calls = 0
        while not over.is_set():
            unary(request)
            calls += 1
        return calls

    with ThreadPoolExecutor(in_flight) as pool:
        start, cpu = perf_counter(), process_time()
        workers = [pool.submit(work) for _ in range(in_flight)]
        sleep(seconds)
        over.set()
        calls = sum(worker.result() for worker in workers)
        return rate_of(calls, perf_counter() - start, process_time() - cpu)


def stream(way: Callable[[int], int], seconds: float) -> Figures:
    """One stream, as long as it takes to last half of `seconds` at least."""
    messages = 100
    while True:
        start, cpu = perf_counter(), process_time()
        came = way(messages)
        took, cpu = perf_counter() - start, process_time() - cpu
        assert came == messages, f"{came} messages of {messages} came"
        if took >= seconds / 2:
            return rate_of(messages, took, cpu)
        messages = next_length(messages, took, seconds)
