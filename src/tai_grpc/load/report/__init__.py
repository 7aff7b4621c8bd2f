"""A run's report, in every form that it is written in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from tai_grpc.load.report.as_csv import to_csv
from tai_grpc.load.report.as_html import to_html
from tai_grpc.load.report.as_json import to_json, to_pretty_json
from tai_grpc.load.report.as_prometheus import to_prometheus
from tai_grpc.load.report.hdrlog import to_hgrm, to_hlog
from tai_grpc.load.report.summary import to_summary
from tai_grpc.load.result import LoadResult

FORMATS: Final[Mapping[str, Callable[[LoadResult], str]]] = MappingProxyType(
    {
        "summary": to_summary,
        "csv": to_csv,
        "json": to_json,
        "pretty": to_pretty_json,
        "html": to_html,
        "prometheus": to_prometheus,
        "hlog": to_hlog,
        "hgrm": to_hgrm,
    }
)
"""What writes a report, by the form's name: ghz's names, and HdrHistogram's for its own."""
