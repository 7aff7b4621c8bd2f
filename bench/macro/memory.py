"""Rows of a server's memory: what a connection that is idle takes, and a call that waits."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from bench.macro.peers import CONTENDERS, GRPCIO, LIMIT, OURS, RESILIENT, Server
from bench.macro.processes import CLIENTS, PeerFailedError, Process, python
from bench.macro.results import Figure, Row, Target
from bench.macro.run import Run
from bench.peers.rpc.protocol import Figures, NotBuiltError

CONNECTION_BYTES: Final = 16 * 1024
CALL_BYTES: Final = 4 * 1024
CALLS_A_CONNECTION: Final = 100
SECONDS: Final = 60.0
THREADED: Final = "grpcio sync"


def idle(run: Run) -> Iterator[Row]:
    """Connections that have made a call and are silent, beside one that works."""
    count = run.plan.idle_connections
    what = f"memory of the server for one of {count:,} idle connections"
    figures = [
        _repeated(run, what, who, partial(_idle, run, who, count))
        for who in CONTENDERS
        if who not in (LIMIT, RESILIENT)
    ]
    row = Row("idle", what, figures, beside=GRPCIO)
    ours = row.figure(OURS)
    limit = CONNECTION_BYTES
    row.targets = [
        Target(f"{OURS} <= {limit:,} B", None if ours is None else ours.middle, limit, True, "B"),
        Target(
            f"{OURS}: of {count:,} refused or lost",
            None if ours is None else ours.also["refused or lost"],
            0,
            True,
        ),
    ]
    yield row


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
        "refused or lost": seen.get("refused", 0) + seen.get("lost", 0),
        "p50 us of a call alone": alone["p50_us"],
        "p50 us of a call beside them": beside["p50_us"],
    }


def in_flight(run: Run) -> Iterator[Row]:
    """Calls whose handlers wait."""
    count = run.plan.held_calls
    what = f"memory of the server for one of {count:,} calls in flight"
    figures = [
        Figure(who, "B", absent="not measured: its handlers would need a thread each")
        if who == THREADED
        else _repeated(run, what, who, partial(_held, count))
        for who in CONTENDERS
        if who not in (LIMIT, RESILIENT)
    ]
    row = Row("in-flight", what, figures, beside=GRPCIO)
    ours = row.figure(OURS)
    value = None if ours is None else ours.middle
    row.targets.append(Target(f"{OURS} <= {CALL_BYTES:,} B", value, CALL_BYTES, True, "B"))
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


def _repeated(run: Run, what: str, who: str, measure: Callable[[Server], Figures]) -> Figure:
    """Measure with servers that nothing has used before."""
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
            return Figure(who, "B", absent=f"not built: {error}")
        except PeerFailedError as error:
            return Figure(who, "B", absent=f"failed: {error}")
    also = {name: max(figures[name] for figures in found) for name in found[0] if name != "bytes"}
    return Figure(who, "B", [figures["bytes"] for figures in found], also)


def _connections(server: Server) -> Process:
    name = f"connections to {server.process.name}"
    process = python(name, "bench.macro.connections", str(server.port), cpu=CLIENTS)
    process.until_ready()
    return process


def _until_holds(server: Server, calls: int) -> None:
    end = time.monotonic() + SECONDS
    while (holding := server.process.ask("holding")["holding"]) != calls:
        if time.monotonic() > end:
            raise PeerFailedError(f"{calls} calls were made and it holds {holding}")
        time.sleep(0.002)
