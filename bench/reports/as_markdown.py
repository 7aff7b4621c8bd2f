"""A run as Markdown: what bench/RESULTS.md has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bench.harness.results import Row
from bench.reports.report import (
    Report,
    also_of,
    better_of,
    figure_of,
    of_limit,
    ratio_of,
    said_of,
    spread_of,
    value_of,
)


def whole(report: Report) -> str:
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield from ("# Figures", "")
    yield f"Made by `{_code(report.command)}`; do not edit."
    yield ""
    for sentence in report.circumstances():
        yield f"- {_text(sentence)}"
    yield from ("", f"**{report.summary()}**", "")
    titles = ("what", "the mission says", "row", "to reach", "found", "of the limit", "verdict")
    yield from _table(titles, _promises(report))
    for row in report.rows:
        yield from _row(row)
    yield from ("", "## How the figures came about", "")
    for rows, method in report.methods():
        yield f"- {_text(rows)}: {_text(method)}."


def _promises(report: Report) -> Iterator[Sequence[str]]:
    for promise, row, target in report.by_promise():
        said = (promise.what, promise.mission) if promise else ("", "")
        yield (*said, row.name, target.what, value_of(target), of_limit(target), target.verdict)


def _row(row: Row) -> Iterator[str]:
    yield from ("", f"## {row.name}", "", f"{_text(row.what[:1].upper() + row.what[1:])}.")
    if row.targets:
        yield f"The mission: {_text(row.promise.mission)}. To reach: {_text(row.promise.ours)}."
    yield ""
    titles = ["who", "figure", "spread"]
    if row.beside:
        titles.append(f"x {row.beside}")
    if row.ours:
        titles.append(f"{row.ours} is better by")
    titles.append("also")

    def cells() -> Iterator[Sequence[str]]:
        for figure in row.figures:
            if not figure.values:
                yield (figure.who, figure.absent or "", *[""] * (len(titles) - 2))
                continue
            yield (
                figure.who,
                figure_of(figure),
                spread_of(figure),
                *([ratio_of(row, figure)] if row.beside else []),
                *([better_of(row, figure)] if row.ours else []),
                also_of(figure),
            )

    yield from _table(titles, cells())
    if row.targets:
        yield ""
    for target in row.targets:
        yield f"- **{target.verdict}** {_text(said_of(target))}"
    if row.note:
        yield from ("", f"{_text(row.note[:1].upper() + row.note[1:])}.")


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield _line(titles)
    yield _line(["---"] * len(titles))
    yield from map(_line, rows)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(map(_text, cells))} |"


_SPECIAL = str.maketrans({each: f"\\{each}" for each in "\\`*_[]|<>#"})


def _text(text: str) -> str:
    """Return what shows as this text: nothing in it is Markdown or HTML, and it is one line."""
    return " ".join(text.split()).translate(_SPECIAL)


def _code(text: str) -> str:
    """Return what may stand between backticks."""
    return " ".join(text.split()).replace("`", "'")
