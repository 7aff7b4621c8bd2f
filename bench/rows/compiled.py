"""Rows of compiled calls, beside calls of the same arguments that do nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from bench.harness.peers import OURS, RESILIENT
from bench.harness.processes import CLIENTS, Process, python
from bench.harness.promises import BALANCER_SHARE, BREAKER, PRIMITIVES
from bench.harness.results import Figure, Row
from bench.harness.run import Measure, Run
from bench.micro.statements import (
    BREAKERS,
    FEW,
    MANY,
    OTHERS,
    PICK_AND_RELEASE,
    PICKS_OF_FEW,
    PICKS_OF_MANY,
    STATEMENTS,
    Statement,
    pick,
)
from bench.rows.calls import measure as of_calls
from tai_grpc.config import LoadBalancingStrategy

SHARE: Final = 1 / 6
"""How much of a round's time a compiled call is measured for."""
JUDGED: Final = (
    "token bucket",
    "histogram record",
    "counter",
    *(name for name in PICKS_OF_FEW if name != PICK_AND_RELEASE),
)


def breaker(run: Run) -> Iterator[Row]:
    """A breaker's operations."""
    row = Row("breaker", "a circuit breaker's operations", BREAKER, [])
    yield _beside_noops(run, row, BREAKERS, ("check",))


def primitives(run: Run) -> Iterator[Row]:
    """The other primitives, and picks of few."""
    row = Row("primitives", "the other primitives' operations", PRIMITIVES, [])
    yield _beside_noops(run, row, OTHERS | PICKS_OF_FEW, JUDGED)


def pick_of_many(run: Run) -> Iterator[Row]:
    """How a pick's cost grows with the endpoints."""
    what = f"a pick of {MANY:,} endpoints, and of {FEW}"
    few = [pick(each, FEW) for each in LoadBalancingStrategy]
    with processes() as ask:
        figures = run.rounds(what, {each: ask(each) for each in (*few, *PICKS_OF_MANY)}, "ns", "ns", {})
    row = Row("pick-of-many", what, PRIMITIVES, figures, method=method(run))
    for strategy in LoadBalancingStrategy:
        exact = strategy is LoadBalancingStrategy.LEAST_LOADED
        limit = PRIMITIVES.limits["tree" if exact else "many"]
        row.at_most(pick(strategy, MANY), limit, pick(strategy, FEW))
    yield row


def balancer_share(run: Run) -> Iterator[Row]:
    """What the balancer takes of a whole call: less in a GrpcClient, whose pick is not a Python call."""
    what = f"a {PICK_AND_RELEASE} endpoints beside a whole call, median latency"
    name, limit = PICK_AND_RELEASE, BALANCER_SHARE.limits["percent"]
    with processes() as ask:
        measures: dict[str, Measure] = {name: _in_us(ask(name), "ns", 1e-3)}
        for who in (OURS, RESILIENT):
            measures[who] = _in_us(of_calls(run, who, "sequential"), "p50_us", 1.0)
        figures = run.rounds(what, measures, "us", "us", {})
    row = Row("balancer-share", what, BALANCER_SHARE, figures)
    row.method = f"{method(run)}; of whole calls, one after the other, the median of a round"
    for who in (OURS, RESILIENT):
        share = row.ratio(name, who)
        row.judge(
            f"{name} < {limit:g} % of a call of {who}", limit, None if share is None else 100 * share, "%"
        )
    yield row


def method(run: Run) -> str:
    """Say how figures of compiled calls come about."""
    return (
        f"{run.plan.method()}; of ours alone, each round is of another process. In a round, loops of up to "
        f"1,000 calls run in turns for {run.plan.seconds * SHARE:.2g} s: of the call, of a no-op, and empty "
        "ones. Of each the least counts, as the others were disturbed, and the empty one's is subtracted. "
        "The no-op is a call of a compiled method that parses the same arguments as ours and does nothing: "
        "noop.nothing() none, noop.one(x) one, noop.optional() one that is left out, noop.three(x, y, z) "
        "three. Python collects the garbage that the calls leave, as ever"
    )


def add_noops(figure: Figure, noop: str) -> None:
    """Name what a figure is beside: `noops` and `noop_ns` among its further figures."""
    if figure.values:
        further = figure.also
        figure.also = {f"x {noop}": further.pop("noops"), f"{noop} ns": further.pop("noop_ns")} | further


def _beside_noops(run: Run, row: Row, statements: Mapping[str, Statement], judged: Iterable[str]) -> Row:
    also = {"noops": "noops", "noop_ns": "noop_ns"}
    with processes() as ask:
        row.figures = run.rounds(row.what, {each: ask(each) for each in statements}, "ns", "ns", also)
    row.method = method(run)
    for figure in row.figures:
        add_noops(figure, STATEMENTS[figure.who].noop)
    limit = row.promise.limits["noops"]
    for each in judged:
        found, noop = row.figure(each), STATEMENTS[each].noop
        value = None if found is None else found.also[f"x {noop}"]
        row.judge(f"{each} <= {limit:g} x {noop}", limit, value, "x")
    return row


@contextmanager
def processes() -> Iterator[_Ask]:
    """Have each round measured by another process: where things lie in memory is a part of the cost."""
    ask = _Ask()
    try:
        yield ask
    finally:
        ask.end()


class _Ask:
    """Makes what measures a statement. The first process also warms up."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._round = -1

    def __call__(self, statement: str) -> Measure:
        turns = -1

        def measure(seconds: float) -> dict[str, float]:
            nonlocal turns
            turns += 1
            process = self._of_round(max(turns, 1))
            return process.ask(json.dumps({"statement": statement, "seconds": seconds * SHARE}))

        return measure

    def _of_round(self, number: int) -> Process:
        if self._process is None or self._round != number:
            self.end()
            self._process = python("compiled calls", "bench.workers.compiled", cpu=CLIENTS)
            self._round = number
            self._process.until_ready()
        return self._process

    def end(self) -> None:
        if self._process is not None:
            self._process.end()


def _in_us(measure: Measure, name: str, factor: float) -> Measure:
    return lambda seconds: {"us": measure(seconds)[name] * factor}
