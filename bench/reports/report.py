"""What a run has to tell, whatever the form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from bench.harness.results import FAILED, MISS, NOT_BUILT, PASS, Figure, Promise, Row, Target, spread
from bench.harness.run import Plan

BUSY: Final = 0.1
"""The share of the CPUs that others may take before the figures are called doubtful."""


UNSTEADY: Final = 20.0
"""By how many percent a round may differ before a ratio is marked as doubtful."""
UNSTEADY_SIGN: Final = "(?)"


@dataclass(frozen=True)
class Report:
    rows: Sequence[Row]
    plan: Plan
    machine: Mapping[str, Any]
    cpus: Mapping[str, int]
    versions: Mapping[str, str]
    taken_by_others: float
    """The part of all CPUs that processes of others had meanwhile."""
    datetime: str
    seconds: float
    command: str
    whole: bool
    """Whether every row was measured, at full length and to the end."""
    interrupted: str | None = None
    """In what part of the table the run was ended by a signal."""

    @property
    def targets(self) -> list[Target]:
        return [target for row in self.rows for target in row.targets]

    @property
    def missed(self) -> bool:
        """Whether a target is not reached, or not known to be because something failed."""
        return any(target.verdict in (MISS, FAILED) for target in self.targets)

    @property
    def absent(self) -> dict[str, str]:
        """Who has no figure in any row, and the first reason for it."""
        figures = [figure for row in self.rows for figure in row.figures]
        present = {figure.who for figure in figures if figure.values}
        reasons: dict[str, str] = {}
        for figure in figures:
            if figure.who not in present:
                reasons.setdefault(figure.who, figure.absent or "")
        return reasons

    def summary(self) -> str:
        verdicts = [target.verdict for target in self.targets]
        counted = ", ".join(f"{verdicts.count(each)} {each}" for each in (PASS, MISS, FAILED, NOT_BUILT))
        return f"{len(verdicts)} targets: {counted}"

    def by_promise(self) -> Iterator[tuple[Promise | None, Row, Target]]:
        """Yield all targets, promise by promise; each promise is there but with the first target of it."""
        for promise in dict.fromkeys(row.promise for row in self.rows):
            first: Promise | None = promise
            for row in self.rows:
                for target in row.targets if row.promise == promise else ():
                    yield first, row, target
                    first = None

    def methods(self) -> Iterator[tuple[str, str]]:
        """Yield how the figures came about: the names of the rows of which it is true, and a sentence."""
        for method in dict.fromkeys(row.method for row in self.rows if row.method):
            yield ", ".join(row.name for row in self.rows if row.method == method), method

    def circumstances(self) -> Iterator[str]:
        """Say what was measured where, and whether it can be relied on, a sentence each."""
        here = self.machine
        yield f"{here['cpu']}, {here['cpu_count']} CPUs, {here['system']}, Python {here['python']}"
        changed = {True: ", changed since", False: "", None: ""}[here["changed"]]
        yield f"tai-grpc {self.versions['tai-grpc']}, commit {here['commit'] or 'unknown'}{changed}"
        yield f"compiled parts: {here['compiled']}"
        cpus = self.cpus
        yield f"servers on CPU {cpus['servers']}, clients on CPU {cpus['clients']}, the same for all"
        yield ", ".join(f"{name} {number}" for name, number in sorted(self.versions.items()))
        yield f"{self.datetime}, {self.seconds:.0f} s"
        yield "figures of different rows are of different moments of the machine, and not to be compared"
        yield f"{UNSTEADY_SIGN} marks a ratio that was off its median by more than {UNSTEADY:g} % in a round"
        if self.absent:
            yield "without a figure: " + "; ".join(f"{who} ({why})" for who, why in self.absent.items())
        if self.interrupted is not None:
            yield f"interrupted in {self.interrupted}, which has what was measured by then"
        if not self.whole:
            yield "a part of the table, or a short look at it: not to be quoted"
        if self.taken_by_others > BUSY:
            yield (
                f"other processes took {self.taken_by_others:.0%} of the CPUs meanwhile: who has one thread "
                "lost more by it than who has many; measure again on a machine that is free"
            )


def value_of(target: Target) -> str:
    if target.value is None:
        return "-"
    return f"{number(target.value)} {target.unit}".rstrip()


def of_limit(target: Target) -> str:
    part = target.of_limit
    return "-" if part is None else f"{part:.2f}"


def said_of(target: Target) -> str:
    if target.value is None:
        return target.what
    part = "" if target.of_limit is None else f", {of_limit(target)} of the limit"
    return f"{target.what}: {value_of(target)}{part}"


def figure_of(figure: Figure) -> str:
    return f"{number(figure.middle)} {figure.unit}"


def spread_of(figure: Figure) -> str:
    return f"+-{figure.spread:.0f} %" if len(figure.values) > 1 else ""


def ratio_of(row: Row, figure: Figure) -> str:
    """How many times the limit a figure is."""
    return _ratio(row.ratios(figure.who, row.beside))


def better_of(row: Row, figure: Figure) -> str:
    """How many times better ours is than a contender."""
    return "" if figure.who == row.ours else _ratio(row.betters(figure))


def _ratio(rounds: Sequence[float]) -> str:
    if not rounds:
        return ""
    return f"{median(rounds):,.2f} x{f' {UNSTEADY_SIGN}' if spread(rounds) > UNSTEADY else ''}"


def also_of(figure: Figure) -> str:
    return ", ".join(f"{label}: {number(value)}" for label, value in figure.also.items())


def number(value: float) -> str:
    """Return no more digits than mean something."""
    size = abs(value)
    if value == round(value) or size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 1 else f"{value:.3f}"
