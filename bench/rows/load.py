"""Rows of many connections: servers under our load generator, and load generators against one server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Final

from bench.harness import generators
from bench.harness.generators import Generator, Load
from bench.harness.peers import (
    GRPCIO,
    OURS,
    PYGRPC,
    RESILIENT,
    SERVERS_UNDER_LOAD,
    TONIC,
    TONIC_ONE_THREAD,
)
from bench.harness.promises import GENERATORS, TEN_CLIENTS
from bench.harness.results import Row
from bench.harness.run import Measure, Run
from bench.peers.rpc.protocol import Figures
from bench.percentiles import BEYOND, LABELS

CONNECTIONS: Final = 10
STREAMS: Final = (1, 10, 100)
JUDGED: Final = 10
"""How many calls each connection has in flight where the targets are judged."""
FIRST_CALLS: Final = 500
WITH_TLS: Final = (OURS, GRPCIO, TONIC, "grpc-go")
WITHOUT_TARGET: Final = (OURS, GRPCIO, PYGRPC, TONIC, "grpc-go")
"""Who is measured with other numbers of calls in flight too."""
CHECKED: Final = (OURS, GRPCIO, TONIC)
"""Whose server h2load measures as well."""
CLOSED_LOOP: Final = (
    "A closed loop: a call is made when another has ended, so the latencies are of a server that has as many "
    f"calls as it can take, and of them those are told that have {BEYOND} calls beyond them or more"
)

PYTHON_CLIENTS: Final = {
    "grpcio aio": "grpcio_aio",
    "grpcio sync": "grpcio_sync",
    "grpclib": "grpclib",
    OURS: "tai_aio",
    RESILIENT: "tai_client",
}
"""Clients in one process each, by what they are called; pygrpc-native has none of its own."""


def measure(run: Run, generator: Generator, server: str, streams: int, *, tls: bool = False) -> Measure:
    """Return what has a program call a peer's server, for about so many seconds."""
    per_second = 0.0

    def make(seconds: float) -> Figures:
        nonlocal per_second
        process = run.peers.server(server, tls=tls)

        def calls(count: int) -> Figures:
            least = max(count, CONNECTIONS * streams)
            return generators.run(
                generator, process, Load(least, CONNECTIONS, streams, run.peers.tls if tls else None)
            )

        if not per_second:  # the first calls only show how many to make
            per_second = calls(FIRST_CALLS)["per_second"]
        found = calls(int(per_second * seconds))
        per_second = found["per_second"]
        return found

    return make


def ten_clients(run: Run) -> Iterator[Row]:
    """Ten connections to one server process; our load generator makes the calls, h2load is a check of it."""
    ours, check = generators.OURS, generators.H2LOAD
    run.peers.versions |= generators.versions()
    for streams in STREAMS:
        judged = streams == JUDGED
        row = Row(f"connections-10x{streams}", _closed_loop(streams), TEN_CLIENTS, [])
        measured = SERVERS_UNDER_LOAD if judged else WITHOUT_TARGET
        measures = {who: measure(run, ours, SERVERS_UNDER_LOAD[who], streams) for who in measured}
        checks = {f"{who}, by {check.name}": who for who in CHECKED if judged or who == OURS}
        for name, who in checks.items():
            measures[name] = measure(run, check, SERVERS_UNDER_LOAD[who], streams)
        row.uncompared = tuple(checks)
        _under_load(run, row, measures)
        if judged:
            limits = TEN_CLIENTS.limits
            row.at_least(OURS, limits["calls"])
            row.at_least(OURS, limits["grpcio"], GRPCIO)
            row.at_least(OURS, limits["pygrpc"], PYGRPC)
            row.at_least(OURS, limits["level"], TONIC)
            row.at_least(OURS, limits["level"], TONIC_ONE_THREAD)
        yield row
    row = Row("connections-10x10-tls", f"{_closed_loop(JUDGED)}, over TLS", TEN_CLIENTS, [])
    _under_load(
        run,
        row,
        {who: measure(run, ours, SERVERS_UNDER_LOAD[who], JUDGED, tls=True) for who in WITH_TLS},
    )
    yield row


def _closed_loop(streams: int) -> str:
    return f"unary calls by {generators.OURS.name}: {CONNECTIONS} connections, {streams} in flight on each"


def _under_load(run: Run, row: Row, measures: Mapping[str, Measure]) -> None:
    also = {"server's CPU us a call": "cpu_us", **LABELS}
    row.figures = run.rounds(row.what, measures, "calls/s", "per_second", also)
    row.method = f"{run.plan.method()}. {CLOSED_LOOP}"
    row.ours, row.more_is_better = OURS, True


def load_generators(run: Run) -> Iterator[Row]:
    """What each sends from the clients' one CPU to the server of tai_grpc.aio."""
    run.peers.versions |= generators.versions()
    in_flight = CONNECTIONS * JUDGED
    measures = {each.name: measure(run, each, "tai_aio", JUDGED) for each in generators.GENERATORS}
    clients = {f"{who} client": _client(run, module, in_flight) for who, module in PYTHON_CLIENTS.items()}
    what = f"load generators, {in_flight} calls in flight over {CONNECTIONS} connections to {OURS}"
    also = {
        "program's CPU us a call, its start included": "client_cpu_us",
        "client's CPU us a call": "call_cpu_us",
        **LABELS,
    }
    figures = run.rounds(what, measures | clients, "calls/s", "per_second", also)
    ours = generators.OURS.name
    row = Row("load-generators", what, GENERATORS, figures, ours=ours, more_is_better=True)
    row.method = f"{run.plan.method()}. {CLOSED_LOOP}"
    row.note = "pygrpc-native has no client"
    for who in (generators.GHZ.name, *clients):
        row.at_least(ours, GENERATORS.limits["others"], who)
    row.at_least(ours, GENERATORS.limits["h2load"], generators.H2LOAD.name)
    yield row


def _client(run: Run, module: str, in_flight: int) -> Measure:
    command = {"measure": "concurrent", "in_flight": in_flight, "connections": CONNECTIONS}

    def ask(seconds: float) -> Figures:
        client = run.peers.client(module, "tai_aio")
        found = client.ask(json.dumps({**command, "seconds": seconds}))
        return {"per_second": found["per_second"], "call_cpu_us": found["cpu_us"]}

    return ask
