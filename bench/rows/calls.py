"""Rows of one client and one server: one call after the other, many in flight, and streams."""

from __future__ import annotations

import json
from collections.abc import Iterator
from statistics import median
from typing import Final

from bench.harness import promises
from bench.harness.peers import CONTENDERS, GRPCIO, LIMIT, OURS, RESILIENT
from bench.harness.results import Row
from bench.harness.run import Measure, Run
from bench.peers.rpc.protocol import Figures

IN_FLIGHT: Final = 100
BARE_AND_RESILIENT: Final = 3.0
"""Microseconds that all layers of GrpcClient may cost a call."""
LATENCIES: Final = {f"p{name} us": f"p{name}_us" for name in ("90", "99", "99.9")}
WITH_TLS: Final = (OURS, RESILIENT, GRPCIO, "grpclib")


def measure(run: Run, who: str, name: str, *, tls: bool = False, **arguments: int) -> Measure:
    """Return what has a contender's client measure something."""

    def ask(seconds: float) -> Figures:
        contender = CONTENDERS[who]
        client = run.peers.client(contender.client, contender.server, tls=tls)
        return client.ask(json.dumps({"measure": name, "seconds": seconds, **arguments}))

    return ask


def with_tls(run: Run, name: str, **arguments: int) -> dict[str, Measure]:
    return {f"{who}, TLS": measure(run, who, name, tls=True, **arguments) for who in WITH_TLS}


def unary(run: Run) -> Iterator[Row]:
    """One call after the other."""
    measures = {who: measure(run, who, "sequential") for who in CONTENDERS} | with_tls(run, "sequential")
    what = "unary calls, one after the other: median latency"
    figures = run.rounds(what, measures, "us", "p50_us", LATENCIES)
    row = Row("unary", what, promises.UNARY, figures, beside=LIMIT, ours=OURS)
    row.at_most(OURS, 2, LIMIT)
    yield row


def single_client(run: Run) -> Iterator[Row]:
    """Many calls in flight from one process, and what the layers of GrpcClient add to one of them."""
    grpc = [who for who in CONTENDERS if who != LIMIT]
    measures = {who: measure(run, who, "concurrent", in_flight=IN_FLIGHT) for who in grpc}
    measures |= with_tls(run, "concurrent", in_flight=IN_FLIGHT)
    what = f"unary calls from one process, {IN_FLIGHT} in flight"
    figures = run.rounds(what, measures, "calls/s", "per_second", {"client's CPU us a call": "cpu_us"})
    row = Row("single-client", what, promises.SINGLE_CLIENT, figures, ours=RESILIENT, more_is_better=True)
    row.at_least(RESILIENT, 60_000)
    yield row


def resilience(run: Run) -> Iterator[Row]:
    """Measured as the client's CPU time, which does not know how busy the machine is with others."""
    both = (OURS, RESILIENT)
    what = f"the client's CPU time of a call, {IN_FLIGHT} in flight"
    measures = {who: measure(run, who, "concurrent", in_flight=IN_FLIGHT) for who in both}
    figures = run.rounds(what, measures, "us", "cpu_us", {"calls/s": "per_second"})
    row = Row("resilience", what, promises.RESILIENCE, figures, beside=OURS)
    bare, resilient = row.figure(OURS), row.figure(RESILIENT)
    cost = None
    if bare is not None and resilient is not None:
        cost = median(b - a for a, b in zip(bare.values, resilient.values, strict=True))
    limit = BARE_AND_RESILIENT
    row.judge(f"{RESILIENT} <= {limit:g} us over {OURS}", limit, cost, "us")
    yield row


STREAMS: Final = {
    "download": "messages of one server stream",
    "upload": "messages of one client stream",
    "chat": "messages back and forth, one after the other, in one bidirectional stream",
}


def streaming(run: Run) -> Iterator[Row]:
    """One stream, each way."""
    for way, what in STREAMS.items():
        measures = {who: measure(run, who, way) for who in CONTENDERS if who != LIMIT}
        figures = run.rounds(
            what, measures, "messages/s", "per_second", {"client's CPU us a message": "cpu_us"}
        )
        row = Row(f"streaming-{way}", what, promises.STREAMING, figures, ours=OURS, more_is_better=True)
        if way != "chat":  # whose pace is that of a round trip
            row.at_least(OURS, 300_000)
            row.at_least(OURS, 20, GRPCIO)
        yield row
