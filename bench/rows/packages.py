"""Rows of what other packages do too, each in a process of its own that measures ours beside it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from bench.harness.processes import CLIENTS, PeerFailedError, Process, python
from bench.harness.promises import BREAKER
from bench.harness.results import Figure, Promise, Row
from bench.harness.run import Measure, Run, absent
from bench.peers.breakers import THREADS
from bench.peers.rpc.protocol import NotBuiltError
from bench.peers.subjects import SUBJECTS
from bench.rows.compiled import SHARE, add_noops, method

OURS: Final = "tai-grpc"
PYBREAKER: Final = "pybreaker"
BREAKER_SUBJECTS: Final = ("call", "refuse")
MODULES: Final = sorted(path.stem for path in (Path(__file__).parents[1] / "peers/packages").glob("*.py"))


@dataclass(frozen=True)
class _Package:
    process: Process
    name: str
    subjects: Sequence[str]
    note: str


def breakers(run: Run) -> Iterator[Row]:
    """Calls through a breaker."""
    for subject, row in _beside_packages(run, BREAKER_SUBJECTS, BREAKER):
        if subject == "call":
            theirs, limit = row.figure(PYBREAKER), BREAKER.limits["pybreaker"]
            row.judge(
                f"{PYBREAKER} >= {limit:g} x {OURS}",
                limit,
                None if theirs is None else median(theirs.better),
                "x",
                at_most=False,
                not_built=row.not_built(PYBREAKER),
            )
        yield row


def others(run: Run, promise: Promise) -> Iterator[Row]:
    """All that is not a breaker's."""
    subjects = [subject for subject in SUBJECTS if subject not in BREAKER_SUBJECTS]
    yield from (row for _, row in _beside_packages(run, subjects, promise))


def _beside_packages(run: Run, subjects: Iterable[str], promise: Promise) -> Iterator[tuple[str, Row]]:
    """Yield a row a subject."""
    with ExitStack() as stack:
        packages, not_running = _packages(run, stack)
        for subject in subjects:
            having = [each for each in packages if subject in each.subjects]
            what, noop = SUBJECTS[subject].what, SUBJECTS[subject].noop
            measures = {each.name: _of_subject(each.process, subject) for each in having}
            also = {"noops": "noops", "noop_ns": "noop_ns"}
            figures = run.rounds(what, measures, "ns", "ns", also, better="better")
            for figure in figures:
                add_noops(figure, noop)
            if subject == "call":
                _add_inside(figures, packages)
            row = Row(f"packages-{subject}", what, promise, figures + not_running, ours=OURS)
            row.method = method(run)
            row.note = "; ".join(each.note for each in having if each.note)
            yield subject, row


def _packages(run: Run, stack: ExitStack) -> tuple[list[_Package], list[Figure]]:
    """Start the processes; return those that run, and what stands in every row for the others."""
    packages, not_running = [], []
    for module in ("ours", *MODULES):
        process = python(f"package {module}", "bench.workers.package", module, cpu=CLIENTS)
        stack.callback(process.end)
        try:
            process.until_ready()
        except (NotBuiltError, PeerFailedError) as error:
            not_running.append(absent(module, "ns", error))
        else:
            name = next(iter(process.versions))
            run.peers.versions |= process.versions
            said = process.ask('{"subjects": true}')
            packages.append(_Package(process, name, said["subjects"], said["note"]))
    return packages, not_running


def _of_subject(process: Process, subject: str) -> Measure:
    return lambda seconds: process.ask(json.dumps({"subject": subject, "seconds": seconds * SHARE}))


def _add_inside(figures: Iterable[Figure], packages: Iterable[_Package]) -> None:
    """How many threads a breaker admits is no matter of rounds."""
    processes = {each.name: each.process for each in packages}
    for figure in figures:
        if not figure.values:
            continue
        with suppress(PeerFailedError):  # which is no reason to lose its figure
            inside = processes[figure.who].ask('{"inside": true}')
            figure.also |= {
                f"of {THREADS} threads let in at once, {state.replace('_', '-')}": n
                for state, n in inside.items()
            }
