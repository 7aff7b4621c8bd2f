"""Rows of servers under h2load, with ten connections."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from bench.macro.h2load import load
from bench.macro.peers import GRPCIO, OURS, PYGRPC, SERVERS_UNDER_LOAD, TONIC
from bench.macro.results import Row
from bench.macro.run import Measure, Run
from bench.peers.rpc.protocol import Figures

CONNECTIONS: Final = 10
STREAMS: Final = (1, 10, 100)
JUDGED: Final = 10
"""How many calls each connection has in flight where the targets are judged."""
FIRST_CALLS: Final = 500
WITH_TLS: Final = (OURS, GRPCIO, TONIC, "grpc-go")
LEVEL: Final = 0.95
"""What counts as level with another, given how a machine's figures vary."""


def measure(run: Run, who: str, streams: int, *, tls: bool = False) -> Measure:
    per_second = 0.0

    def make(seconds: float) -> Figures:
        nonlocal per_second
        server = run.peers.server(SERVERS_UNDER_LOAD[who], tls=tls)
        if not per_second:  # the first calls only show how many to make
            first = max(FIRST_CALLS, CONNECTIONS * streams)
            per_second = load(server, calls=first, connections=CONNECTIONS, streams=streams, tls=tls)[
                "per_second"
            ]
        calls = max(CONNECTIONS * streams, int(per_second * seconds))
        found = load(server, calls=calls, connections=CONNECTIONS, streams=streams, tls=tls)
        per_second = found["per_second"]
        return found

    return make


def ten_connections(run: Run) -> Iterator[Row]:
    for streams in STREAMS:
        measures = {who: measure(run, who, streams) for who in SERVERS_UNDER_LOAD}
        if streams == JUDGED:
            measures |= {f"{who}, TLS": measure(run, who, streams, tls=True) for who in WITH_TLS}
        what = f"unary calls of h2load: {CONNECTIONS} connections, {streams} in flight on each"
        row = Row(
            f"connections-10x{streams}",
            what,
            run.rounds(what, measures, "calls/s", "per_second", {"server's CPU us a call": "cpu_us"}),
            beside=GRPCIO,
        )
        if streams == JUDGED:
            row.at_least(OURS, 120_000)
            row.at_least(OURS, 30, GRPCIO)
            row.at_least(OURS, 3, PYGRPC)
            row.at_least(OURS, LEVEL, TONIC)
        yield row
