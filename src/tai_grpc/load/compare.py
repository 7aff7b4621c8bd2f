"""Compares two saved runs: what differs, and whether noise would explain it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final

from tai_grpc.load.durations import format_duration
from tai_grpc.load.noise import CONFIDENCE, MIN_BEYOND, MIN_SLICES, Estimate, Range, difference, estimates
from tai_grpc.load.report.figures import PERCENTAGES
from tai_grpc.load.report.saved import SavedRun
from tai_grpc.load.report.text import columns, plural, printable

NOTE: Final = (
    "The noise is that within the two runs. What differs from one start of a server, or one hour of a "
    "machine, to the next comes on top: repeat the runs, in turn, before you believe a small difference. "
    "Longer runs tell smaller differences."
)
TOO_FEW_NOTE: Final = (
    f"A run must tell at least {MIN_SLICES} parts of its time, each of a second or so, and a percentile have "
    f"{MIN_BEYOND} calls beyond it, to be judged: let it run for longer."
)
# What two runs may well differ in.
_FREE: Final = ("host", "name", "data", "metadata", "CPUs", "import-paths")


class Verdict(Enum):
    """What is to be said of the second run, beside the first."""

    FASTER = "faster"
    SLOWER = "slower"
    MIXED = "faster in part, slower in part"
    SAME = "no difference that the noise would not explain"
    TOO_FEW = "too few data"
    NO_LATENCIES = "cannot be judged"
    """No call of a run succeeded: it may well have failed at a high rate."""
    MORE_ERRORS = "more errors"
    FEWER_ERRORS = "fewer errors"


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of both runs; None where a report does not tell it.

    `likely` is where the difference lies: relative to a (0.1: a tenth more), for "errors" of the shares.
    """

    name: str
    a: float | None
    b: float | None
    likely: Range | None
    verdict: Verdict

    @property
    def difference(self) -> float | None:
        """Relative to a; for "errors" of the shares. None when there is none to tell."""
        if self.a is None or self.b is None:
            return None
        if self.name == "errors":
            return self.b - self.a
        return self.b / self.a - 1 if self.a else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs, each figure's difference, and what it amounts to."""

    a: SavedRun
    b: SavedRun
    figures: tuple[Figure, ...]
    options: tuple[tuple[str, Any, Any], ...]
    """Those that both tell, and that differ."""
    verdict: Verdict
    """Of rate and latencies."""

    @property
    def errors(self) -> Verdict:
        """Of the share of calls that failed."""
        return self.figures[-1].verdict


def compare(a: SavedRun, b: SavedRun) -> Comparison:
    """Compare run `b` with run `a`."""
    told: list[tuple[str, float | None, float | None]] = [
        ("rps", a.rps, b.rps),
        ("average", a.average_ns or None, b.average_ns or None),
        *((f"{each:g}", a.percentiles.get(each), b.percentiles.get(each)) for each in PERCENTAGES),
        ("errors", _share(a), _share(b)),
    ]
    of_a, of_b = estimates(a), estimates(b)
    figures = [_figure(name, old, new, of_a.get(name), of_b.get(name)) for name, old, new in told]
    if _without_latencies(a, b):
        figures[1:-1] = [replace(each, verdict=Verdict.NO_LATENCIES) for each in figures[1:-1]]
    names = [name for name in a.options if name in b.options and name not in _FREE]
    return Comparison(
        a=a,
        b=b,
        figures=tuple(figures),
        options=tuple(
            (name, a.options[name], b.options[name]) for name in names if a.options[name] != b.options[name]
        ),
        verdict=_together({figure.verdict for figure in figures if figure.name != "errors"}),
    )


def _without_latencies(*runs: SavedRun) -> list[int]:
    """Which of the runs, by number, have no call that succeeded."""
    return [number for number, run in enumerate(runs) if run.failed == run.count]


def _share(run: SavedRun) -> float | None:
    return run.failed / run.count if run.count else None


def _figure(
    name: str, a: float | None, b: float | None, of_a: Estimate | None, of_b: Estimate | None
) -> Figure:
    if of_a is None or of_b is None:
        return Figure(name, a, b, None, Verdict.TOO_FEW)
    if (likely := difference(of_a, of_b, relative=name != "errors")) is None:
        return Figure(name, a, b, None, Verdict.TOO_FEW)
    if likely.low <= 0 <= likely.high:
        verdict = Verdict.SAME
    elif name == "errors":
        verdict = Verdict.MORE_ERRORS if likely.low > 0 else Verdict.FEWER_ERRORS
    else:
        verdict = Verdict.FASTER if (likely.low > 0) is (name == "rps") else Verdict.SLOWER
    return Figure(name, a, b, likely, verdict)


def _together(verdicts: set[Verdict]) -> Verdict:
    if Verdict.NO_LATENCIES in verdicts:
        return Verdict.NO_LATENCIES
    told = verdicts - {Verdict.SAME, Verdict.TOO_FEW}
    if len(told) > 1:
        return Verdict.MIXED
    if told:
        return told.pop()
    return Verdict.SAME if Verdict.SAME in verdicts else Verdict.TOO_FEW


# --- As text and as JSON ---------------------------------------------------------------------------------


def to_text(comparison: Comparison) -> str:
    """Return the comparison for people."""
    return "\n".join([*_lines(comparison), ""])


def _lines(comparison: Comparison) -> Iterator[str]:
    a, b = comparison.a, comparison.b
    yield ""
    yield from columns((letter, *_about(run)) for letter, run in (("A", a), ("B", b)))
    if comparison.options:
        yield ""
        yield "They were asked for different things:"
        yield from columns(
            (printable(name), f"A {_told(old)}", f"B {_told(new)}") for name, old, new in comparison.options
        )
    yield ""
    head = ("", "A", "B", "difference", f"likely ({CONFIDENCE:.0%})", "judgement")
    yield from columns([head, *map(_row, comparison.figures)])
    yield ""
    yield _conclusion(comparison)
    if any(figure.verdict is Verdict.TOO_FEW for figure in comparison.figures):
        yield TOO_FEW_NOTE
    if comparison.verdict not in (Verdict.TOO_FEW, Verdict.NO_LATENCIES):
        yield NOTE


def _about(run: SavedRun) -> Sequence[str]:
    call = run.options.get("call")
    named = [printable(text) for text in (run.name, call) if isinstance(text, str) and text]
    return (
        printable(run.where),
        ", ".join([*named, f"{plural(run.count, 'call')} in {format_duration(run.elapsed_ns)}"]),
    )


def _told(value: object) -> str:
    return printable(value if isinstance(value, str) else json.dumps(value))


def _row(figure: Figure) -> Sequence[str]:
    match figure.name:
        case "rps":
            name = "Requests/sec"
        case "average" | "errors":
            name = figure.name.capitalize()
        case _:
            name = f"{figure.name} %"
    likely = "" if figure.likely is None else f"{_change(figure, figure.likely.low)} to "
    likely += "" if figure.likely is None else _change(figure, figure.likely.high)
    change = "" if figure.difference is None else _change(figure, figure.difference)
    return (name, _value(figure, figure.a), _value(figure, figure.b), change, likely, figure.verdict.value)


def _value(figure: Figure, value: float | None) -> str:
    if value is None:
        return "-"
    match figure.name:
        case "rps":
            return f"{value:.2f}"
        case "errors":
            return f"{100 * value:.3f} %"
        case _:
            return format_duration(value)


def _change(figure: Figure, value: float) -> str:
    return f"{100 * value:+.3f} points" if figure.name == "errors" else f"{100 * value:+.2f} %"


def _conclusion(comparison: Comparison) -> str:
    match comparison.verdict:
        case Verdict.TOO_FEW:
            speed = "Too few data to judge B beside A"
        case Verdict.NO_LATENCIES:
            runs = " or ".join("AB"[number] for number in _without_latencies(comparison.a, comparison.b))
            speed = f"No call of {runs} succeeded, so how fast B is beside A {Verdict.NO_LATENCIES.value}"
        case Verdict.SAME:
            speed = f"Between A and B there is {Verdict.SAME.value}"
        case verdict:
            speed = f"B is {verdict.value}"
    if comparison.errors in (Verdict.MORE_ERRORS, Verdict.FEWER_ERRORS):
        speed += f"; B has {comparison.errors.value}"
    return f"{speed}."


def to_json(comparison: Comparison) -> str:
    """Return the comparison for programs. Latencies are nanoseconds; differences are parts of A's figure."""
    document = {
        "a": _run(comparison.a),
        "b": _run(comparison.b),
        "verdict": comparison.verdict.value,
        "errors": comparison.errors.value,
        "confidence": CONFIDENCE,
        "figures": [
            {
                "figure": figure.name,
                "a": figure.a,
                "b": figure.b,
                "difference": figure.difference,
                "low": None if figure.likely is None else figure.likely.low,
                "high": None if figure.likely is None else figure.likely.high,
                "verdict": figure.verdict.value,
            }
            for figure in comparison.figures
        ],
        "options": [{"option": name, "a": old, "b": new} for name, old, new in comparison.options],
        "note": NOTE,
    }
    return json.dumps(document, indent=2) + "\n"


def _run(run: SavedRun) -> dict[str, Any]:
    return {"file": run.where, "name": run.name, "count": run.count, "total": run.elapsed_ns}
