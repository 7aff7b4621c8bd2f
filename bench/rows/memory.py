"""Rows of a server's memory: what a connection that is idle takes, and a call that waits."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final

from bench.harness import promises
from bench.harness.peers import CONTENDERS, LIMIT, OURS, RESILIENT, Server
from bench.harness.processes import CLIENTS, PeerFailedError, Process, python
from bench.harness.results import Figure, Row
from bench.harness.run import Run
from bench.peers.rpc.protocol import Figures, NotBuiltError

CONNECTION_BYTES: Final = 16 * 1024
CALL_BYTES: Final = 4 * 1024
CALLS_A_CONNECTION: Final = 100
SECONDS: Final = 60.0
SERVERS: Final = [who for who in CONTENDERS if who not in (LIMIT, RESILIENT)]
THREADED: Final = "grpcio sync"
FEWER: Final = {"grpclib": 2_000}
"""Whose server takes far more than twice as long for twice the connections, and so is given no more."""


def idle(run: Run) -> Iterator[Row]:
    """Connections that have made a call and are silent, beside one that works."""
    count = run.plan.idle_connections
    what = f"{count:,} idle connections"
    counts = {who: min(count, FEWER.get(who, count)) for who in SERVERS}
    measured = {who: _repeated(run, what, who, partial(_idle, run, who, counts[who])) for who in SERVERS}
    beside = {"p50 us of a call alone": "alone", "p50 us of a call beside them": "beside"}
    held = [_figure(found, who, "connections", "held", beside) for who, found in measured.items()]
    what = f"{count:,} idle connections beside one that works: how many were neither refused nor lost"
    row = Row("connections", what, promises.CONNECTIONS, held)
    row.at_least(OURS, count)
    row.note = ", ".join(f"{who} was given {few:,}" for who, few in counts.items() if few < count)
    yield row
    figures = [_figure(found, who, "B", "bytes", {}) for who, found in measured.items()]
    row = Row("idle", f"memory of the server for one of {count:,} idle connections", promises.MEMORY, figures)
    _at_most(row, CONNECTION_BYTES)
    row.note = ", ".join(f"{who}: of {few:,}" for who, few in counts.items() if few < count)
    yield row


def _at_most(row: Row, limit: int) -> None:
    row.ours = OURS
    ours = row.figure(OURS)
    row.judge(f"{OURS} <= {limit:,} B", limit, None if ours is None else ours.middle, "B")


def _idle(run: Run, who: str, count: int, server: Server) -> Figures:
    client = run.peers.another_client(CONTENDERS[who].client, server)
    connections = _connections(server)
    sequential = json.dumps({"measure": "sequential", "seconds": run.plan.seconds})
    try:
        alone = client.ask(sequential)
        before = server.process.resident_bytes
        connections.ask(json.dumps({"do": "open", "connections": count}))
        connections.ask('{"do": "unary"}')
        took = server.process.resident_bytes - before
        beside = client.ask(sequential)
        seen = connections.ask('{"do": "alive"}')
    finally:
        client.end()
        connections.end()
    return {
        "bytes": took / count,
        "held": count - seen.get("refused", 0) - seen.get("lost", 0),
        "alone": alone["p50_us"],
        "beside": beside["p50_us"],
    }


def in_flight(run: Run) -> Iterator[Row]:
    """Calls whose handlers wait."""
    count = run.plan.held_calls
    what = f"memory of the server for one of {count:,} calls in flight"
    figures = [
        Figure(who, "B", absent="not measured: its handlers would need a thread each")
        if who == THREADED
        else _figure(_repeated(run, what, who, partial(_held, count)), who, "B", "bytes", {})
        for who in SERVERS
    ]
    row = Row("in-flight", what, promises.MEMORY, figures)
    _at_most(row, CALL_BYTES)
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


def _repeated(run: Run, what: str, who: str, measure: Callable[[Server], Figures]) -> list[Figures] | str:
    """Measure with servers that nothing has used before; return the figures, or why there are none."""
    found: list[Figures] = []
    for number in range(run.plan.repeats):
        run.progress.show(f"{what}: {number + 1} of {run.plan.repeats}, {who}")
        try:
            server = run.peers.fresh_server(CONTENDERS[who].server)
            try:
                found.append(measure(server))
            finally:
                server.process.end()
        except NotBuiltError as error:
            return f"not built: {error}"
        except PeerFailedError as error:
            return f"failed: {error}"
    return found


def _figure(found: list[Figures] | str, who: str, unit: str, value: str, also: Mapping[str, str]) -> Figure:
    if isinstance(found, str):
        return Figure(who, unit, absent=found)
    worst = {label: max(figures[name] for figures in found) for label, name in also.items()}
    return Figure(who, unit, [figures[value] for figures in found], worst)


def _connections(server: Server) -> Process:
    name = f"connections to {server.process.name}"
    process = python(name, "bench.workers.connections", str(server.port), cpu=CLIENTS)
    process.until_ready()
    return process


def _until_holds(server: Server, calls: int) -> None:
    end = time.monotonic() + SECONDS
    while (holding := server.process.ask("holding")["holding"]) != calls:
        if time.monotonic() > end:
            raise PeerFailedError(f"{calls} calls were made and it holds {holding}")
        time.sleep(0.002)
