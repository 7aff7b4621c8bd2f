"""Rows of one client and one server: one call after the other, many in flight, and streams."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from bench.harness.peers import BORROWED, CONTENDERS, GRPCIO, LIMIT, OURS, RESILIENT
from bench.harness.promises import RESILIENCE, SINGLE_CLIENT, STREAMING, UNARY
from bench.harness.results import Row
from bench.harness.run import Measure, Run
from bench.peers.rpc.protocol import Figures
from bench.percentiles import BEYOND, LABELS, field

IN_FLIGHT: Final = 100
BUSY: Final = {"in_flight": IN_FLIGHT, "connections": 1}
WITH_TLS: Final = (OURS, RESILIENT, GRPCIO, "grpclib")
PARTS: Final = 8
"""Into how many a round is divided where a difference of a few microseconds is sought."""


def measure(
    run: Run, who: str, name: str, arguments: Mapping[str, int] | None = None, *, tls: bool = False
) -> Measure:
    """Return what has a contender's client measure something."""

    def ask(seconds: float) -> Figures:
        contender = CONTENDERS[who]
        client = run.peers.client(contender.client, contender.server, tls=tls)
        return client.ask(json.dumps({"measure": name, "seconds": seconds, **(arguments or {})}))

    return ask


def unary(run: Run) -> Iterator[Row]:
    """One call after the other, without TLS and with it."""
    what = "unary calls, one after the other: median latency"
    row = Row("unary", what, UNARY, [], beside=LIMIT)
    _sequential(run, row, CONTENDERS, tls=False)
    row.at_most(OURS, UNARY.limits["pings"], LIMIT)
    yield row
    row = Row("unary-tls", f"{what}, over TLS", UNARY, [])
    _sequential(run, row, WITH_TLS, tls=True)
    yield row


def _sequential(run: Run, row: Row, contenders: Iterable[str], *, tls: bool) -> None:
    also = {label: name for label, name in LABELS.items() if name != field(50)}
    measures = {who: measure(run, who, "sequential", tls=tls) for who in contenders}
    row.figures = run.rounds(row.what, measures, "us", field(50), also)
    row.method = f"{run.plan.method()}; of percentiles those with {BEYOND} calls beyond them or more"
    row.ours = OURS
    _without_borrowed(row)


def single_client(run: Run) -> Iterator[Row]:
    """Many calls in flight from one process. GrpcClient has no TLS, so over that tai_grpc.aio is ours."""
    what = f"unary calls from one process over one connection, {IN_FLIGHT} in flight"
    row = Row("single-client", what, SINGLE_CLIENT, [], ours=RESILIENT)
    _concurrent(run, row, [who for who in CONTENDERS if who != LIMIT], tls=False)
    row.at_least(RESILIENT, SINGLE_CLIENT.limits["calls"])
    yield row
    row = Row("single-client-tls", f"{what}, over TLS", SINGLE_CLIENT, [], ours=OURS)
    _concurrent(run, row, WITH_TLS, tls=True)
    yield row


def _concurrent(run: Run, row: Row, contenders: Iterable[str], *, tls: bool) -> None:
    measures = {who: measure(run, who, "concurrent", BUSY, tls=tls) for who in contenders}
    also = {"client's CPU us a call": "cpu_us"}
    row.figures = run.rounds(row.what, measures, "calls/s", "per_second", also)
    row.method = (
        f"{run.plan.method()}; a task, or a thread, for each call in flight makes one after the other"
    )
    row.more_is_better = True
    _without_borrowed(row)


def _without_borrowed(row: Row) -> None:
    """Compare none with ours that has a client of another, as that is the limit."""
    if any(figure.who == BORROWED for figure in row.figures):
        row.uncompared = (BORROWED,)
        row.note = f"{BORROWED} is not compared: it has no client of its own, and that one is the limit"


def resilience(run: Run) -> Iterator[Row]:
    """What the layers add, to a client that is busy and to one that waits for each call."""
    for name, what, value, measured, arguments in (
        ("busy", f"the client's CPU time of a call, {IN_FLIGHT} in flight", "cpu_us", "concurrent", BUSY),
        ("alone", "median latency of a call, one after the other", field(50), "sequential", None),
    ):
        measures = {who: measure(run, who, measured, arguments) for who in (OURS, RESILIENT)}
        figures = run.rounds(what, measures, "us", value, {"calls/s": "per_second"}, parts=PARTS)
        row = Row(f"resilience-{name}", what, RESILIENCE, figures, beside=OURS)
        row.method = f"{run.plan.method(PARTS)}; of their difference, the median of that of each round"
        limit = RESILIENCE.limits["us"]
        row.judge(f"{RESILIENT} <= {limit:g} us over {OURS}: {what}", limit, row.more(RESILIENT, OURS), "us")
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
        row = Row(f"streaming-{way}", what, STREAMING, figures, ours=OURS, more_is_better=True)
        row.method = f"{run.plan.method()}; a stream a round, which lasts half of that at least"
        _without_borrowed(row)
        if way != "chat":  # whose pace is that of a round trip
            row.at_least(OURS, STREAMING.limits["messages"])
            row.at_least(OURS, STREAMING.limits["grpcio"], GRPCIO)
        yield row
