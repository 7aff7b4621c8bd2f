"""The report for people: ghz's layout, and below it what ghz does not tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from tai_grpc.load.durations import format_duration
from tai_grpc.load.report.figures import HOST_HEADS, LATE_NS, Figures, Row, host_rows, late
from tai_grpc.load.report.notes import notes
from tai_grpc.load.report.text import columns, plural, printable, share
from tai_grpc.load.result import LoadResult, rate

_BAR_WIDTH: Final = 40


def to_summary(result: LoadResult) -> str:
    """Return the report as text. Latencies are those of the calls that ended with OK."""
    return "\n".join([*_lines(result), ""])


def _lines(result: LoadResult) -> Iterator[str]:
    figures, plan = Figures.of(result.latencies), result.plan
    yield from ("", "Summary:")
    if plan.name:
        yield f"  Name:\t\t{printable(plan.name)}"
    yield f"  Count:\t{result.count}"
    yield f"  Total:\t{format_duration(result.elapsed_ns)}"
    yield f"  Slowest:\t{format_duration(figures.slowest_ns)}"
    yield f"  Fastest:\t{format_duration(figures.fastest_ns)}"
    yield f"  Average:\t{format_duration(figures.average_ns)}"
    yield f"  Requests/sec:\t{result.rps:.2f}"
    yield from ("", "Response time histogram:", *_bars(figures.rows))
    yield from ("", "Latency distribution:")
    for percentage, ns in figures.percentiles:
        yield f"  {percentage:g} % in {format_duration(ns)}"
    yield from ("", "Status code distribution:")
    yield from columns((f"[{name}]", f"{n} responses") for name, n in result.statuses.most_common())
    if result.errors:
        yield from ("", "Error distribution:")
        yield from columns((f"[{n}]", printable(error)) for error, n in result.errors.most_common())
    if plan.method.client_streaming or plan.method.server_streaming:
        yield from ("", "Messages:")
        counts = (("Sent:", result.messages_sent), ("Received:", result.messages_received))
        yield from columns((name, f"{n}", f"{rate(n, result.elapsed_ns):.2f} /sec") for name, n in counts)
    if plan.schedule is not None:
        yield from ("", "Open loop:", *_open_loop(result))
    if len(result.hosts) > 1:
        rows = ((printable(host), *rest) for host, *rest in host_rows(result.hosts))
        yield from ("", "Hosts:", *columns((HOST_HEADS, *rows)))
    if found := notes(result):
        yield from ("", *found)


def _open_loop(result: LoadResult) -> Iterator[str]:
    lag = result.send_lag
    sent = lag.count
    yield f"  Missed:\t{plural(result.missed, 'call')} due before the end and not sent"
    if sent:
        half, most = lag.percentiles((50, 99))
        yield (
            f"  Send lag:\t50 % in {format_duration(half)}, 99 % in {format_duration(most)}, "
            f"longest {format_duration(lag.max)}"
        )
        behind = late(lag)
        yield (
            f"  Late:\t\t{plural(behind, 'call')} ({share(behind, sent)}) sent over "
            f"{format_duration(LATE_NS)} after being due"
        )


def _bars(rows: Sequence[Row]) -> Iterator[str]:
    most = max((row.count for row in rows), default=0)
    marks = [f"{row.mark_ns / 1e6:.3f}" for row in rows]
    width = max(map(len, marks), default=0)
    for row, mark in zip(rows, marks, strict=True):
        bar = "∎" * ((row.count * _BAR_WIDTH + most // 2) // most)
        yield f"  {mark:{width}} [{row.count}]{' ' * (len(str(most)) - len(str(row.count)))} |{bar}"
