"""Rows of a server's memory: what a connection that is idle takes, and a call that waits."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from statistics import median
from typing import Final

from bench.harness.peers import CONTENDERS, LIMIT, OURS, RESILIENT, Server
from bench.harness.processes import CLIENTS, PeerFailedError, Process, python
from bench.harness.promises import CONNECTIONS, MEMORY
from bench.harness.results import Figure, Row
from bench.harness.run import Run, absent
from bench.peers.rpc.protocol import Figures, NotBuiltError
from bench.percentiles import field

CALLS_A_CONNECTION: Final = 100
SECONDS: Final = 60.0
TIMES: Final = "times as long"
TURN: Final = 1 / 3
"""How much of a round's time each of the two is called for in its turn."""
SERVERS: Final = [who for who in CONTENDERS if who not in (LIMIT, RESILIENT)]
THREADED: Final = "grpcio sync"
FEWER: Final = {"grpclib": 2_000}
"""Whose server takes far more than twice as long for twice the connections, and so is given no more."""


def idle(run: Run) -> Iterator[Row]:
    """Connections that have made a call and are silent, beside one that works."""
    count = run.plan.idle_connections
    what = f"{count:,} idle connections"
    counts = {who: min(count, FEWER.get(who, count)) for who in SERVERS}
    measured = measure_all(run, what, {who: partial(_idle, run, who, counts[who]) for who in SERVERS})
    beside = {
        "p50 us of a call without them": "without",
        "p50 us of a call beside them": "beside",
        TIMES: "times",
    }
    held = [_figure(found, who, "connections", "held", beside) for who, found in measured.items()]
    what = f"{count:,} idle connections beside one that works: how many were neither refused nor lost"
    row = Row("connections", what, CONNECTIONS, held)
    row.method = (
        f"the median of {run.plan.repeats} servers started anew; a call's latencies are those of "
        f"{run.plan.rounds} rounds of {run.plan.seconds * TURN:.2g} s, in turns with calls to another server "
        "that has no such connections, and of the servers the worst"
    )
    notes = [f"{who} was given {few:,}" for who, few in counts.items() if few < count]
    row.note = "; ".join((*notes, *_judge(row, count)))
    yield row
    figures = [_figure(found, who, "B", "bytes", {}) for who, found in measured.items()]
    row = Row("idle", f"memory of the server for one of {count:,} idle connections", MEMORY, figures)
    _at_most(run, row, MEMORY.limits["connection"])
    row.note = ", ".join(f"{who}: of {few:,}" for who, few in counts.items() if few < count)
    yield row


def _judge(row: Row, count: int) -> Iterator[str]:
    """State the targets, or say why there are none."""
    promised, times = CONNECTIONS.limits["connections"], CONNECTIONS.limits["beside"]
    if count < promised:
        yield f"the promise is of {promised:,}: what {count:,} show is not judged"
        return
    row.at_least(OURS, promised)
    ours = row.figure(OURS)
    found = None if ours is None else ours.also[TIMES]
    row.judge(f"{OURS}: a call beside them takes <= {times:g} x as long", times, found, "x")


def _at_most(run: Run, row: Row, limit: float) -> None:
    row.ours = OURS
    row.method = (
        f"by how much the server's process grows in the machine's memory, over their number; the median of "
        f"{run.plan.repeats} servers started anew"
    )
    ours = row.figure(OURS)
    row.judge(f"{OURS} <= {limit:,.0f} B", limit, None if ours is None else ours.middle, "B")


def _idle(run: Run, who: str, count: int, server: Server) -> Figures:
    peer = CONTENDERS[who]
    without = run.peers.client(peer.client, peer.server)
    client = run.peers.another_client(peer.client, server)
    connections = _connections(server)
    sequential = json.dumps({"measure": "sequential", "seconds": run.plan.seconds * TURN})
    try:
        before = server.process.resident_bytes
        connections.ask(json.dumps({"do": "open", "connections": count}))
        connections.ask('{"do": "unary"}')
        took = server.process.resident_bytes - before
        client.ask(sequential)  # each of the two has been in use
        turns = [
            (without.ask(sequential)[field(50)], client.ask(sequential)[field(50)])
            for _ in range(run.plan.rounds)
        ]
        seen = connections.ask('{"do": "alive"}')
    finally:
        client.end()
        connections.end()
    return {
        "bytes": took / count,
        "held": count - seen.get("refused", 0) - seen.get("lost", 0),
        "without": median(alone for alone, _ in turns),
        "beside": median(beside for _, beside in turns),
        "times": median(beside / alone for alone, beside in turns),
    }


def in_flight(run: Run) -> Iterator[Row]:
    """Calls whose handlers wait."""
    count = run.plan.held_calls
    what = f"memory of the server for one of {count:,} calls in flight"
    measured = measure_all(run, what, {who: partial(_held, count) for who in SERVERS if who != THREADED})
    figures = [_figure(found, who, "B", "bytes", {}) for who, found in measured.items()]
    figures.append(Figure(THREADED, "B", absent="not measured: its handlers would need a thread each"))
    row = Row("in-flight", what, MEMORY, figures)
    _at_most(run, row, MEMORY.limits["call"])
    yield row


def _held(count: int, server: Server) -> Figures:
    connections = _connections(server)
    try:
        connections.ask(json.dumps({"do": "open", "connections": count // CALLS_A_CONNECTION}))
        connections.ask('{"do": "unary"}')
        before = server.process.resident_bytes
        each = count // CALLS_A_CONNECTION
        for held in range(each, count + 1, each):  # more at once grpcio refuses
            connections.ask('{"do": "hold"}')
            _until_holds(server, held)
        took = server.process.resident_bytes - before
        server.process.ask("release")
        connections.ask('{"do": "ended"}')
    finally:
        connections.end()
    return {"bytes": took / count}


def measure_all(
    run: Run, what: str, measures: Mapping[str, Callable[[Server], Figures]]
) -> dict[str, list[Figures] | Figure]:
    """Measure all in turn; interrupted, return those that there are.

    Raises:
        KeyboardInterrupt: ours is not among them.
    """
    found = {}
    with run.until_interrupted():
        for who, measure in measures.items():
            found[who] = _repeated(run, what, who, measure)
    if OURS not in found:
        raise KeyboardInterrupt
    return found


def _repeated(run: Run, what: str, who: str, measure: Callable[[Server], Figures]) -> list[Figures] | Figure:
    """Measure with servers that nothing has used before; return the figures, or what stands for them."""
    found: list[Figures] = []
    for number in range(run.plan.repeats):
        run.progress.show(f"{what}: {number + 1} of {run.plan.repeats}, {who}")
        try:
            server = run.peers.fresh_server(CONTENDERS[who].server)
            try:
                found.append(measure(server))
            finally:
                server.process.end()
        except (NotBuiltError, PeerFailedError) as error:
            return absent(who, "", error)
    return found


def _figure(
    found: list[Figures] | Figure, who: str, unit: str, value: str, also: Mapping[str, str]
) -> Figure:
    if isinstance(found, Figure):
        return found
    worst = {label: max(figures[name] for figures in found) for label, name in also.items()}
    return Figure(who, unit, [figures[value] for figures in found], worst)


def _connections(server: Server) -> Process:
    name = f"connections to {server.process.name}"
    process = python(name, "bench.workers.connections", str(server.port), cpu=CLIENTS, needs=server.process)
    process.until_ready()
    return process


def _until_holds(server: Server, calls: int) -> None:
    end = time.monotonic() + SECONDS
    while (holding := server.process.ask("holding")["holding"]) != calls:
        if time.monotonic() > end:
            raise PeerFailedError(f"{calls} calls were made and it holds {holding}")
        time.sleep(0.002)
