"""The report as one HTML file with charts. It asks for nothing from anywhere and runs only its own script."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from importlib.resources import files
from typing import Any, Final

from tai_grpc._version import __version__
from tai_grpc.load.durations import format_duration
from tai_grpc.load.report.distribution import Distribution
from tai_grpc.load.report.figures import HOST_HEADS, Figures, even, host_rows, late
from tai_grpc.load.report.notes import notes
from tai_grpc.load.report.options import options
from tai_grpc.load.report.text import encodable, plural, share
from tai_grpc.load.result import LoadResult, rate

MOST_ERRORS: Final = 200
"""Texts of errors that are listed, the most frequent first."""
_TICKS: Final = 10
_TILES: Final = (50, 99, 99.9)
_DURATIONS: Final = {
    *("duration", "warmup", "timeout", "dial-timeout", "stream-interval", "stream-call-duration"),
}
# Nothing can end a <script> early or be taken for markup in it.
_IN_SCRIPT: Final = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def to_html(result: LoadResult) -> str:
    """Return the page. Its charts need a browser with scripts; its tables and figures none."""
    style, script = _asset("page.css"), _asset("page.js")
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    title = escape(result.plan.name or result.plan.method.full_name)
    data = json.dumps(_data(result), allow_nan=False, separators=(",", ":")).translate(_IN_SCRIPT)
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{title} - load report</title>\n<style>{style}</style>\n</head>\n<body>\n"
        + "\n".join(_body(result, title))
        + f'\n<script type="application/json" id="data">{data}</script>\n'
        f"<script>{script}</script>\n</body>\n</html>\n"
    )
    return encodable(page)


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


# --- What the script draws --------------------------------------------------------------------------------


def _data(result: LoadResult) -> dict[str, Any]:
    """Columns of numbers; times in seconds, latencies in nanoseconds, rates a second."""
    intervals = even(result)
    latencies = [
        (*interval.latencies.percentiles((50, 99)), interval.latencies.max)
        if interval.latencies.count
        else (None, None, None)
        for interval in intervals
    ]
    p50, p99, slowest = (
        (list(column) for column in zip(*latencies, strict=True)) if latencies else ([], [], [])
    )
    levels = list(Distribution.of(result.latencies).levels(_TICKS))
    return {
        "start": [interval.start_ns / 1e9 for interval in intervals],
        "length": [interval.length_ns / 1e9 for interval in intervals],
        "ok": [rate(interval.statuses["OK"], interval.length_ns) for interval in intervals],
        "failed": [
            rate(interval.statuses.total() - interval.statuses["OK"], interval.length_ns)
            for interval in intervals
        ],
        "p50": p50,
        "p99": p99,
        "max": slowest,
        "sent": [rate(interval.messages_sent, interval.length_ns) for interval in intervals],
        "received": [rate(interval.messages_received, interval.length_ns) for interval in intervals],
        "percentages": [percentage for percentage, _, _ in levels],
        "values": [value for _, value, _ in levels],
        "total": result.latencies.count,
        "marks": [row.mark_ns for row in Figures.of(result.latencies).rows],
        "counts": [row.count for row in Figures.of(result.latencies).rows],
        "codes": [name for name, _ in result.statuses.most_common()],
        "calls": [n for _, n in result.statuses.most_common()],
    }


# --- What is there without it -----------------------------------------------------------------------------


def _body(result: LoadResult, title: str) -> Iterator[str]:
    plan = result.plan
    figures = Figures.of(result.latencies)
    streams = plan.method.client_streaming or plan.method.server_streaming
    began = result.started.strftime("%Y-%m-%d %H:%M:%S %Z").strip()
    yield (
        f"<header><h1>{title}</h1><p>{escape(plan.method.full_name)} at "
        f"{escape(', '.join(plan.hosts))}, {began}, "
        f"{plural(result.count, 'call')} in {format_duration(result.elapsed_ns)}</p>"
    )
    if plan.tags:
        tags = "".join(f"<li><b>{escape(name)}</b> {escape(text)}</li>" for name, text in plan.tags.items())
        yield f'<ul class="tags">{tags}</ul>'
    yield "</header>\n<main>"
    yield f'<dl class="tiles">{"".join(_tiles(result, figures))}</dl>'
    if found := notes(result):
        yield f'<ul class="notes">{"".join(f"<li>{escape(note)}</li>" for note in found)}</ul>'
    yield (
        '<noscript><p class="empty">The charts are drawn by this page\'s own script, which is switched off; '
        "all figures are in the tables.</p></noscript>"
    )
    yield '<div class="charts">'
    yield _chart("latency", "Latency over time", wide=True)
    yield _chart("throughput", "Throughput over time", wide=True)
    if streams:
        yield _chart("messages", "Messages over time", wide=True)
    yield _chart("percentiles", "Latency by percentile", wide=True)
    yield _chart("histogram", "Response time histogram")
    yield _chart("codes", "Status codes")
    yield '</div>\n<div class="tables">'
    yield _table("Summary", (), _summary(result, figures))
    yield _table(
        "Latency distribution",
        ("Calls", "within"),
        ((f"{percentage:g} %", format_duration(ns)) for percentage, ns in figures.percentiles),
    )
    yield _table(
        "Status codes",
        ("Status", "Calls", "Share"),
        ((name, f"{n:,}", share(n, result.count)) for name, n in result.statuses.most_common()),
    )
    if len(result.hosts) > 1:
        yield _table("Hosts", [head.capitalize() for head in HOST_HEADS], host_rows(result.hosts))
    yield _table("Options", (), _options(result))
    if result.errors:
        listed = result.errors.most_common(MOST_ERRORS)
        more = len(result.errors) - len(listed)
        rows = [(f"{n:,}", error) for error, n in listed]
        if more:
            rows.append(("", f"and {plural(more, 'other text')}"))
        yield _table("Errors", ("Calls", "Error"), rows, wide=True)
    yield f"</div>\n</main>\n<footer>tai-grpc {__version__}</footer>"


def _tiles(result: LoadResult, figures: Figures) -> Iterator[str]:
    percentiles = dict(figures.percentiles)
    yield _tile("Requests/sec", f"{result.rps:,.2f}")
    for percentage in _TILES:
        value = format_duration(percentiles[percentage]) if figures.count else "-"
        yield _tile(f"{percentage:g} % within", value)
    yield _tile("Slowest", format_duration(figures.slowest_ns) if figures.count else "-")
    yield _tile("Failed", share(result.failed, result.count), bad=result.failed > 0)


def _tile(name: str, value: str, *, bad: bool = False) -> str:
    kind = ' class="bad"' if bad else ""
    return f"<div{kind}><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"


def _chart(name: str, title: str, *, wide: bool = False) -> str:
    return (
        f'<section class="card chart{" wide" if wide else ""}" id="{name}"><h2>{title}</h2>'
        '<div class="legend"></div><div class="plot"></div></section>'
    )


def _summary(result: LoadResult, figures: Figures) -> Iterator[Sequence[str]]:
    plan = result.plan
    yield ("Calls", f"{result.count:,}")
    yield ("Total time", format_duration(result.elapsed_ns))
    yield ("Requests/sec", f"{result.rps:,.2f}")
    if figures.count:
        yield ("Average", format_duration(figures.average_ns))
        yield ("Fastest", format_duration(figures.fastest_ns))
        yield ("Slowest", format_duration(figures.slowest_ns))
    yield (
        "Ended",
        {"normal": "all calls made", "timeout": "duration over"}.get(result.end_reason.value, "stopped"),
    )
    if plan.schedule is not None:
        yield ("Missed sends", f"{result.missed:,}")
        if result.send_lag.count:
            half, most = result.send_lag.percentiles((50, 99))
            yield ("Send lag, 50 %", format_duration(half))
            yield ("Send lag, 99 %", format_duration(most))
            yield ("Send lag, longest", format_duration(result.send_lag.max))
            yield ("Sent over 1 ms late", f"{late(result.send_lag):,}")
    yield ("Messages sent", _traffic(result.messages_sent, result))
    yield ("Messages received", _traffic(result.messages_received, result))
    yield ("Bytes sent", _traffic(result.bytes_sent, result))
    yield ("Bytes received", _traffic(result.bytes_received, result))
    yield ("Busiest engine thread", f"{result.engine_cpu:.0%} of a core".replace("%", " %"))


def _traffic(count: int, result: LoadResult) -> str:
    return f"{count:,} ({rate(count, result.elapsed_ns):,.0f} /sec)"


def _options(result: LoadResult) -> Iterator[Sequence[str]]:
    for name, value in options(result.plan).items():
        if name in _DURATIONS:
            yield (name, format_duration(value))
        else:
            yield (name, value if isinstance(value, str) else json.dumps(value))


def _table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]], *, wide: bool = False) -> str:
    """A table whose cells are escaped here."""
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    lines = "".join(f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in row)}</tr>" for row in rows)
    return (
        f'<section class="card{" wide" if wide else ""}"><h2>{escape(title)}</h2><table>'
        f"{f'<thead><tr>{head}</tr></thead>' if head else ''}<tbody>{lines}</tbody></table></section>"
    )
