"""Rows of many connections: servers under our load generator, and load generators against one server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from bench.harness import generators, promises
from bench.harness.generators import Generator, Load
from bench.harness.peers import (
    GRPCIO,
    OURS,
    PYGRPC,
    RESILIENT,
    SERVERS_UNDER_LOAD,
    TONIC,
)
from bench.harness.results import Row
from bench.harness.run import Measure, Run
from bench.peers.rpc.protocol import Figures

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
LEVEL: Final = 0.95
"""What counts as level with another, given how a machine's figures vary."""
LATENCIES: Final = {f"p{name} us": f"p{name}_us" for name in ("50", "90", "99", "99.9")}

PYTHON_CLIENTS: Final = {
    "grpcio aio": "grpcio_aio",
    "grpcio sync": "grpcio_sync",
    "grpclib": "grpclib",
    OURS: "tai_aio",
    RESILIENT: "tai_client",
}
"""Clients in one process each, by what they are called; pygrpc-native has none of its own."""
OWN_CLIENTS: Final = (f"{OURS} client", f"{RESILIENT} client")


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
        measured = SERVERS_UNDER_LOAD if streams == JUDGED else WITHOUT_TARGET
        measures = {who: measure(run, ours, SERVERS_UNDER_LOAD[who], streams) for who in measured}
        checks = {f"{who}, by {check.name}": who for who in CHECKED if streams == JUDGED or who == OURS}
        for name, who in checks.items():
            measures[name] = measure(run, check, SERVERS_UNDER_LOAD[who], streams)
        if streams == JUDGED:
            for who in WITH_TLS:
                measures[f"{who}, TLS"] = measure(run, ours, SERVERS_UNDER_LOAD[who], streams, tls=True)
        what = f"unary calls by {ours.name}: {CONNECTIONS} connections, {streams} in flight on each"
        also = {"server's CPU us a call": "cpu_us", **LATENCIES}
        figures = run.rounds(what, measures, "calls/s", "per_second", also)
        row = Row(
            f"connections-10x{streams}", what, promises.TEN_CLIENTS, figures, ours=OURS, more_is_better=True
        )
        row.checks = tuple(checks)
        if streams == JUDGED:
            row.at_least(OURS, 120_000)
            row.at_least(OURS, 30, GRPCIO)
            row.at_least(OURS, 3, PYGRPC)
            row.at_least(OURS, LEVEL, TONIC)
        yield row


def load_generators(run: Run) -> Iterator[Row]:
    """What each sends from the clients' one CPU to the server of tai_grpc.aio."""
    run.peers.versions |= generators.versions()
    programs = {each.name: measure(run, each, "tai_aio", JUDGED) for each in generators.GENERATORS}
    in_flight = CONNECTIONS * JUDGED
    clients = {f"{who} client": _client(run, module, in_flight) for who, module in PYTHON_CLIENTS.items()}
    what = f"load generators, {in_flight} calls in flight, against a server of {OURS}"
    also = {"client's CPU us a call, its start included": "client_cpu_us", **LATENCIES}
    figures = run.rounds(what, programs | clients, "calls/s", "per_second", also)
    ours = generators.OURS.name
    row = Row("load-generators", what, promises.GENERATORS, figures, ours=ours, more_is_better=True)
    row.note = (
        f"programs have {CONNECTIONS} connections, a client of Python one; pygrpc-native has no client; this "
        "package's own clients are beside it and not judged, as with them the server is the limit"
    )
    for who in (generators.GHZ.name, *clients):
        if who not in OWN_CLIENTS:
            row.at_least(ours, 2, who)
    row.at_least(ours, 0.75, generators.H2LOAD.name)
    yield row


def _client(run: Run, module: str, in_flight: int) -> Measure:
    command = {"measure": "concurrent", "in_flight": in_flight}

    def ask(seconds: float) -> Figures:
        client = run.peers.client(module, "tai_aio")
        found = client.ask(json.dumps({**command, "seconds": seconds}))
        return {"per_second": found["per_second"], "client_cpu_us": found["cpu_us"]}

    return ask
