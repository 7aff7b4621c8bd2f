"""The course of a run as a table: a row for each interval."""

from __future__ import annotations

import csv
import io
from typing import Final

from tai_grpc.load.report.figures import PERCENTAGES, Figures
from tai_grpc.load.result import LoadResult, rate

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


def to_csv(result: LoadResult) -> str:
    """Return a row for each interval, latencies in milliseconds; empty cells where no call succeeded.

    ghz's csv has a row for each call. Calls are not kept one by one here, however many there are, so nothing
    of theirs is lost either: each is in its interval's row.
    """
    intervals = result.intervals
    names = sorted({name for interval in intervals for name in interval.statuses})
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(
        [
            *("start (s)", "length (s)", "count", "requests/sec", "average (ms)", "fastest (ms)"),
            *(f"p{percentage:g} (ms)" for percentage in PERCENTAGES),
            *("slowest (ms)", "messages sent", "messages received"),
            *map(cell, names),
        ]
    )
    for interval in intervals:
        figures = Figures.of(interval.latencies)
        percentiles = dict(figures.percentiles)
        latencies = (
            figures.average_ns,
            figures.fastest_ns,
            *(percentiles.get(percentage, 0) for percentage in PERCENTAGES),
            figures.slowest_ns,
        )
        count = interval.statuses.total()
        writer.writerow(
            [
                f"{interval.start_ns / 1e9:.3f}",
                f"{interval.length_ns / 1e9:.3f}",
                count,
                f"{rate(count, interval.length_ns):.2f}",
                *(f"{ns / 1e6:.6f}" if figures.count else "" for ns in latencies),
                interval.messages_sent,
                interval.messages_received,
                *(interval.statuses[name] for name in names),
            ]
        )
    return output.getvalue()


def cell(text: str) -> str:
    """Return foreign text for a cell, such that no spreadsheet takes it for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text
