"""What the peers' processes report, and the table made of it."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypedDict

from bench.peers.protocol import AT_LEAST, SUBJECTS

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = sorted(path.stem for path in (Path(__file__).parent / "packages").glob("*.py"))


class Figures(TypedDict):
    statement: str
    ns: float
    noop_ns: float
    ours_ns: float


@dataclass(frozen=True)
class Report:
    package: str
    version: str | None
    """None: it is not installed."""
    calls: Mapping[str, Figures]
    inside: Mapping[str, int] | None
    """How many of 20 threads a closed and a half-open breaker let in at once."""


def run(peer: str) -> Report:
    """Measure one peer in a process of its own."""
    process = subprocess.run(
        [sys.executable, "-m", "bench.peers.process", peer],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode != 0:
        raise RuntimeError(f"the process that measures {peer} failed:\n{process.stderr}")
    found = json.loads(process.stdout)
    return Report(found["package"], found["version"], found.get("calls", {}), found.get("inside"))


def table(reports: list[Report], our_inside: Mapping[str, int]) -> Iterator[str]:
    """The lines to print: per subject each peer's time as a multiple of ours in the same process."""
    for subject, what in SUBJECTS.items():
        rows = [report for report in reports if subject in report.calls]
        if not rows:
            continue
        ours = min(report.calls[subject]["ours_ns"] for report in rows)
        noop = min(report.calls[subject]["noop_ns"] for report in rows)
        yield what
        yield f"  {'tai-grpc':15} {ours:10.1f} ns  {ours / noop:7.1f} x no-op"
        for report in rows:
            figures = report.calls[subject]
            ratio = figures["ns"] / figures["ours_ns"]
            target = AT_LEAST.get((subject, report.package))
            verdict = f"  >= {target:g}  {'PASS' if ratio >= target else 'UNDER'}" if target else ""
            noops = figures["ns"] / figures["noop_ns"]
            yield (
                f"  {report.package:15} {figures['ns']:10.1f} ns  {noops:7.1f} x no-op"
                f"  {ratio:7.1f} x ours  {' '.join(figures['statement'].split())}{verdict}"
            )
    yield "20 threads that call at the same time, how many are inside the function at once"
    rows_inside = {"tai-grpc": our_inside} | {r.package: r.inside for r in reports if r.inside is not None}
    for package, inside in rows_inside.items():
        yield f"  {package:15} closed {inside['closed']:2}, half-open {inside['half_open']:2}"
    for report in reports:
        if report.version is None:
            yield f"{report.package}: not installed"
