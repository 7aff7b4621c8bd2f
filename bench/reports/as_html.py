"""A run as one HTML file, which asks nothing of any other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Final

from bench.harness.results import Figure, Row
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

_STYLE: Final = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { border-bottom: 1px solid #8884; padding: .25rem .6rem; text-align: left; vertical-align: top; }
td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.bar { background: #4a7ebb; height: .8rem; min-width: 1px; }
.ours .bar { background: #2a9d5c; }
.PASS { color: #1b7f46; } .MISS, .FAILED { color: #c22; } .NOT { color: #888; }
:root { color-scheme: light dark; }
"""
_BAR_REMS: Final = 14.0


def whole(report: Report) -> str:
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield "<!doctype html>"
    yield '<html lang="en"><head><meta charset="utf-8"><title>tai-grpc: figures</title>'
    yield f"<style>{_STYLE}</style></head><body>"
    yield f"<h1>Figures</h1><p>Made by <code>{escape(report.command)}</code>.</p><ul>"
    yield from (f"<li>{escape(sentence)}</li>" for sentence in report.circumstances())
    yield f"</ul><p><strong>{escape(report.summary())}</strong></p>"
    titles = ("what", "the mission says", "row", "to reach", "found", "of the limit", "verdict")
    yield "<table>" + _titles(titles)
    for promise, row, target in report.by_promise():
        said = (promise.what, promise.mission) if promise else ("", "")
        yield (
            f"<tr>{_cells((*said, row.name, target.what))}{_numbers([value_of(target), of_limit(target)])}"
            f"<td>{_verdict(target.verdict)}</td></tr>"
        )
    yield "</table>"
    for row in report.rows:
        yield from _row(row)
    yield "<h2>How the figures came about</h2><ul>"
    yield from (f"<li>{escape(f'{rows}: {method}')}</li>" for rows, method in report.methods())
    yield "</ul></body></html>"


def _row(row: Row) -> Iterator[str]:
    yield f"<h2>{escape(row.name)}</h2><p>{escape(row.what)}</p>"
    if row.targets:
        yield f"<p>The mission: {escape(row.promise.mission)}. To reach: {escape(row.promise.ours)}.</p>"
    beside = [f"x {row.beside}"] if row.beside else []
    better = [f"{row.ours} is better by"] if row.ours else []
    yield "<table>" + _titles(("", "figure", "spread", "", *beside, *better, "also"))
    most = max((figure.middle for figure in row.figures if figure.values), default=0.0)
    for figure in row.figures:
        yield _figure(row, figure, most)
    yield "</table>"
    if row.targets:
        yield "<ul>"
        for target in row.targets:
            yield f"<li>{_verdict(target.verdict)} {escape(said_of(target))}</li>"
        yield "</ul>"
    if row.note:
        yield f"<p>{escape(row.note)}</p>"


def _figure(row: Row, figure: Figure, most: float) -> str:
    columns = 4 + bool(row.beside) + bool(row.ours)
    if not figure.values:
        return f'<tr>{_cells([figure.who])}<td colspan="{columns}">{escape(figure.absent or "")}</td></tr>'
    width = _BAR_REMS * figure.middle / most if most else 0.0
    numbers = [
        *([ratio_of(row, figure)] if row.beside else []),
        *([better_of(row, figure)] if row.ours else []),
    ]
    ours = ' class="ours"' if figure.who == row.ours else ""
    return (
        f"<tr{ours}>{_cells([figure.who])}{_numbers([figure_of(figure), spread_of(figure)])}"
        f'<td><div class="bar" style="width: {width:.2f}rem"></div></td>'
        f"{_numbers(numbers)}{_cells([also_of(figure)])}</tr>"
    )


def _titles(titles: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<th>{escape(title)}</th>' for title in titles)}</tr>"


def _cells(texts: Iterable[str]) -> str:
    return "".join(f"<td>{escape(text)}</td>" for text in texts)


def _numbers(texts: Iterable[str]) -> str:
    return "".join(f'<td class="number">{escape(text)}</td>' for text in texts)


def _verdict(verdict: str) -> str:
    return f'<strong class="{verdict.partition(" ")[0]}">{escape(verdict)}</strong>'
