"""Rows of compiled calls: beside a call that does nothing, and beside other packages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import log
from pathlib import Path
from statistics import median
from typing import Final

from bench.harness import promises
from bench.harness.peers import OURS, RESILIENT
from bench.harness.processes import CLIENTS, PeerFailedError, Process, python
from bench.harness.results import Figure, Promise, Row
from bench.harness.run import Measure, Run
from bench.micro.statements import (
    BREAKER,
    FEW,
    MANY,
    PICK_AND_RELEASE,
    PICKS_OF_FEW,
    PICKS_OF_MANY,
    PRIMITIVES,
    pick,
)
from bench.peers.breakers import THREADS
from bench.peers.rpc.protocol import NotBuiltError
from bench.peers.subjects import SUBJECTS
from bench.rows.calls import measure as of_calls
from bench.workers.objects import BREAKER_OBJECT, BREAKER_STATE, HISTOGRAM, MEASURES, METRICS
from tai_grpc.config import LoadBalancingStrategy

SHARE: Final = 1 / 6
"""How much of a round's time a compiled call is measured for."""
NO_OPS: Final = "x a no-op"
JUDGED: Final = (
    "token bucket",
    "histogram record",
    "counter",
    *(name for name in PICKS_OF_FEW if name != PICK_AND_RELEASE),
)
TREE: Final = log(MANY) / log(FEW)
"""How much more a tree of MANY takes than one of FEW."""
METRICS_WITHOUT: Final = "metrics of a service without the histogram"
MODULES: Final = sorted(path.stem for path in (Path(__file__).parents[1] / "peers/packages").glob("*.py"))
OUR_PACKAGE: Final = "tai-grpc"


def breaker(run: Run) -> Iterator[Row]:
    """A breaker's operations, and calls through it beside other packages'."""
    what = "a circuit breaker's operations"
    row = Row("breaker", what, promises.BREAKER, _figures(run, what, BREAKER))
    _at_most_no_ops(row, "check", 2)
    yield row
    for subject, row in _beside_packages(run, ("call", "refuse"), promises.BREAKER):
        if subject == "call":
            theirs = row.figure("pybreaker")
            better = None if theirs is None else theirs.better
            row.judge("pybreaker >= 10 x tai-grpc", 10, better, "x", at_most=False, not_built=theirs is None)
        yield row


def primitives(run: Run) -> Iterator[Row]:
    """The other primitives, and picks of few."""
    what = "the other primitives' operations"
    row = Row("primitives", what, promises.PRIMITIVES, _figures(run, what, PRIMITIVES | PICKS_OF_FEW))
    for name in JUDGED:
        _at_most_no_ops(row, name, 3)
    yield row
    others = [subject for subject in SUBJECTS if subject not in ("call", "refuse")]
    yield from (row for _, row in _beside_packages(run, others, promises.PRIMITIVES))


def pick_of_many(run: Run) -> Iterator[Row]:
    """How a pick's cost grows with the endpoints."""
    what = f"a pick of {MANY:,} endpoints, and of {FEW}"
    few = {name: PICKS_OF_FEW[name] for name in (pick(each, FEW) for each in LoadBalancingStrategy)}
    row = Row("pick-of-many", what, promises.PRIMITIVES, _figures(run, what, few | PICKS_OF_MANY))
    for strategy in LoadBalancingStrategy:
        limit = TREE if strategy is LoadBalancingStrategy.LEAST_LOADED else 2
        row.at_most(pick(strategy, MANY), limit, pick(strategy, FEW))
    yield row


def balancer_share(run: Run) -> Iterator[Row]:
    """What the balancer takes of a whole call: less in a GrpcClient, whose pick is not a Python call."""
    what = f"a {PICK_AND_RELEASE} endpoints beside a whole call, median latency"
    name = PICK_AND_RELEASE
    with _process() as process:
        measures: dict[str, Measure] = {name: _in_us(_measure(process, name), "ns", 1e-3)}
        for who in (OURS, RESILIENT):
            measures[who] = _in_us(of_calls(run, who, "sequential"), "p50_us", 1.0)
        figures = run.rounds(what, measures, "us", "us", {})
    row = Row("balancer-share", what, promises.BALANCER_SHARE, figures)
    for who in (OURS, RESILIENT):
        share = row.ratio(name, who)
        row.judge(f"{name} < 0.1 % of a call of {who}", 0.1, None if share is None else 100 * share, "%")
    yield row


def objects(run: Run) -> Iterator[Row]:
    """What the objects of a program take of its memory, each kind found out in processes of its own."""
    what = "memory of one object in a program, by the process's growth"
    found: dict[str, list[float]] = {}
    for number in range(run.plan.repeats):
        for name in MEASURES:
            run.progress.show(f"{what}: {number + 1} of {run.plan.repeats}, {name}")
            found.setdefault(name, []).append(_bytes_of(name))
    counters = [all_of - one for all_of, one in zip(found[METRICS], found[HISTOGRAM], strict=True)]
    found[METRICS_WITHOUT] = counters
    row = Row("objects", what, promises.MEMORY, [Figure(name, "B", each) for name, each in found.items()])
    row.note = f"a {BREAKER_STATE} is all that an arena or a balancer keeps; {BREAKER_OBJECT} has one too"
    row.judge(f"{BREAKER_STATE} <= 64 B", 64, median(found[BREAKER_STATE]), "B")
    row.judge(f"{METRICS_WITHOUT} <= 1,024 B", 1024, median(counters), "B")
    yield row


def _bytes_of(what: str) -> float:
    process = python(f"memory of {what}", "bench.workers.objects", what, cpu=CLIENTS)
    try:
        process.until_ready()
        found = process.ask("measure")["bytes"]
    finally:
        process.end()
    assert isinstance(found, float)
    return found


def _figures(run: Run, what: str, statements: Iterable[str]) -> list[Figure]:
    with _process() as process:
        measures = {name: _measure(process, name) for name in statements}
        return run.rounds(what, measures, "ns", "ns", {NO_OPS: "noops", "the no-op ns": "noop_ns"})


def _at_most_no_ops(row: Row, name: str, limit: float) -> None:
    figure = row.figure(name)
    value = None if figure is None else figure.also[NO_OPS]
    row.judge(f"{name} <= {limit:g} x a no-op", limit, value, "x")


@contextmanager
def _process() -> Iterator[Process]:
    process = python("compiled calls", "bench.workers.compiled", cpu=CLIENTS)
    try:
        process.until_ready()
        yield process
    finally:
        process.end()


def _measure(process: Process, statement: str) -> Measure:
    return lambda seconds: process.ask(json.dumps({"statement": statement, "seconds": seconds * SHARE}))


def _in_us(measure: Measure, name: str, factor: float) -> Measure:
    return lambda seconds: {"us": measure(seconds)[name] * factor}


@dataclass(frozen=True)
class _Package:
    process: Process
    name: str
    subjects: Sequence[str]


def _beside_packages(run: Run, subjects: Iterable[str], promise: Promise) -> Iterator[tuple[str, Row]]:
    """Yield a row a subject. Each package is in a process of its own, which measures ours too."""
    with ExitStack() as stack:
        packages, absent = _packages(run, stack)
        for subject in subjects:
            measures = {
                each.name: _of_subject(each.process, subject) for each in packages if subject in each.subjects
            }
            what = SUBJECTS[subject]
            figures = run.rounds(what, measures, "ns", "ns", {NO_OPS: "noops"}, better="better")
            if subject == "call":
                _add_inside(figures, packages)
            row = Row(f"packages-{subject}", what, promise, figures, ours=OUR_PACKAGE)
            row.note = "; ".join(absent)
            yield subject, row


def _packages(run: Run, stack: ExitStack) -> tuple[list[_Package], list[str]]:
    """Start the processes; return those that run, and why others do not."""
    packages, absent = [], []
    for module in ("ours", *MODULES):
        process = python(f"package {module}", "bench.workers.package", module, cpu=CLIENTS)
        stack.callback(process.end)
        try:
            process.until_ready()
        except (NotBuiltError, PeerFailedError) as error:
            absent.append(f"{module}: {error}")
        else:
            name = next(iter(process.versions))
            run.peers.versions |= process.versions
            packages.append(_Package(process, name, process.ask('{"subjects": true}')["subjects"]))
    return packages, absent


def _of_subject(process: Process, subject: str) -> Measure:
    return lambda seconds: process.ask(json.dumps({"subject": subject, "seconds": seconds * SHARE}))


def _add_inside(figures: Iterable[Figure], packages: Iterable[_Package]) -> None:
    """How many threads a breaker admits is no matter of rounds."""
    processes = {each.name: each.process for each in packages}
    for figure in figures:
        if figure.values:
            inside = processes[figure.who].ask('{"inside": true}')
            figure.also |= {
                f"of {THREADS} threads let in at once, {state.replace('_', '-')}": n
                for state, n in inside.items()
            }
