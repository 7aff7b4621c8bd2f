"""A run as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from bench.harness.results import Figure, Row, Target
from bench.reports.report import Report


def whole(report: Report) -> str:
    return (
        json.dumps(
            {
                "datetime": report.datetime,
                "command": report.command,
                "seconds": report.seconds,
                "whole": report.whole,
                "interrupted": report.interrupted,
                "machine": report.machine,
                "cpus": report.cpus,
                "taken_by_others": report.taken_by_others,
                "versions": report.versions,
                "plan": asdict(report.plan),
                "missed": report.missed,
                "rows": [_row(row) for row in report.rows],
            },
            indent=1,
        )
        + "\n"
    )


def _row(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "what": row.what,
        "mission": row.promise.mission,
        "promise": row.promise.ours,
        "ours_is": row.ours,
        "beside": row.beside,
        "more_is_better": row.more_is_better,
        "figures": [_figure(row, figure) for figure in row.figures],
        "targets": [_target(target) for target in row.targets],
        "method": row.method,
        "note": row.note,
    }


def _figure(row: Row, figure: Figure) -> dict[str, Any]:
    if not figure.values:
        return {"who": figure.who, "absent": figure.absent}
    return {
        "who": figure.who,
        "unit": figure.unit,
        "median": figure.middle,
        "spread_percent": figure.spread,
        "values": list(figure.values),
        "also": figure.also,
        "ratio": row.ratio(figure.who, row.beside),
        "ours_is_better_by": row.better(figure),
        "ours_is_better_by_in_rounds": list(row.betters(figure)),
    }


def _target(target: Target) -> dict[str, Any]:
    return {
        "what": target.what,
        "value": target.value,
        "limit": target.limit,
        "unit": target.unit,
        "of_limit": target.of_limit,
        "verdict": target.verdict,
    }
