"""A run as it is told on a terminal: a row as soon as it is there, then what it was measured on."""

from __future__ import annotations

from collections.abc import Iterator

from bench.harness.results import Row
from bench.reports.report import (
    Report,
    also_of,
    better_of,
    figure_of,
    ratio_of,
    said_of,
    spread_of,
)


def row(row: Row) -> Iterator[str]:
    """Yield one contender a line, then a target a line."""
    yield f"{row.name}: {row.what}"
    if row.targets:
        yield f"  the mission: {row.promise.mission}; ours: {row.promise.ours}"
    width = max((len(figure.who) for figure in row.figures), default=0)
    for figure in row.figures:
        if not figure.values:
            yield f"  {figure.who:{width}}  {figure.absent}"
            continue
        parts = [f"  {figure.who:{width}}  {figure_of(figure):>22} {spread_of(figure):>8}"]
        if ratio := ratio_of(row, figure):
            parts.append(f"{ratio:>9} {row.beside}")
        if better := better_of(row, figure):
            parts.append(f"ours is better by {better:>9}")
        if also := also_of(figure):
            parts.append(also)
        yield "  ".join(parts).rstrip()
    for target in row.targets:
        yield f"  {target.verdict:9}  {said_of(target)}"
    if row.note:
        yield f"  {row.note}"
    yield ""


def end(report: Report) -> str:
    methods = (f"{rows}: {method}" for rows, method in report.methods())
    return "\n".join((*methods, *report.circumstances(), report.summary(), ""))
