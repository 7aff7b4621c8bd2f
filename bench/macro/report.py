"""The results as a table and as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

from bench.macro.machine import machine
from bench.macro.processes import CLIENTS, SERVERS
from bench.macro.results import Figure, Row
from bench.macro.run import Plan
from bench.peers.rpc.echo import ROOT

FOLDER: Final = ROOT / ".benchmarks"
BUSY: Final = 0.1
"""The share of the CPUs that others may take before the figures are called doubtful."""


def circumstances(versions: Mapping[str, str], others: float) -> Iterator[str]:
    """What was measured where, and whether the machine was free for it."""
    here = machine()
    yield f"{here['cpu']}, {here['cpu_count']} CPUs, Python {here['python']}"
    yield f"servers on CPU {SERVERS}, clients and h2load on CPU {CLIENTS}, the same for all"
    yield ", ".join(f"{name} {number}" for name, number in sorted(versions.items()))
    if others > BUSY:
        yield (
            f"other processes took {others:.0%} of the CPUs meanwhile: who has one thread lost more by it"
            " than who has many; measure again on a machine that is free"
        )


def lines(row: Row) -> Iterator[str]:
    """One contender a line: the median of the rounds, how far a round was off it, and the ratio."""
    yield f"{row.name}: {row.what}"
    width = max(len(figure.who) for figure in row.figures)
    for figure in row.figures:
        if not figure.values:
            yield f"  {figure.who:{width}}  {figure.absent}"
            continue
        ratio = "" if row.beside is None else _ratio(row, figure)
        also = "".join(f"  {label} {value:,.1f}" for label, value in figure.also.items())
        yield (
            f"  {figure.who:{width}}  {figure.middle:12,.1f} {figure.unit} +-{figure.spread:4.0f} %"
            f"  {ratio}{also}"
        )
    for target in row.targets:
        value = "" if target.value is None else f": {target.value:,.2f} {target.unit}".rstrip()
        yield f"  {target.verdict:9}  {target.what}{value}"


def _ratio(row: Row, figure: Figure) -> str:
    assert row.beside is not None
    ratio = row.ratio(figure.who, row.beside)
    return f"{'':14}" if ratio is None else f"{ratio:6.2f} x {row.beside}"


def summary(rows: Sequence[Row]) -> str:
    verdicts = [target.verdict for row in rows for target in row.targets]
    counted = ", ".join(f"{verdicts.count(each)} {each}" for each in ("PASS", "MISS", "NOT BUILT"))
    return f"{len(verdicts)} targets: {counted}"


def save(
    rows: Sequence[Row], plan: Plan, versions: Mapping[str, str], others: float, path: Path | None
) -> Path:
    """Write the run as JSON, into .benchmarks unless a path is given."""
    now = time.time()
    if path is None:
        FOLDER.mkdir(exist_ok=True)
        path = FOLDER / f"macro-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}.json"
    report = {
        "datetime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
        "machine": machine(),
        "cpus": {"servers": SERVERS, "clients": CLIENTS},
        "taken_by_others": others,
        "versions": {"tai-grpc": version("tai-grpc"), **versions},
        "plan": vars(plan),
        "rows": [row.as_json() for row in rows],
    }
    path.write_text(json.dumps(report, indent=1) + "\n")
    return path
