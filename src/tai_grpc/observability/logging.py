"""Log lines that carry the trace id, as text for people or JSON for programs."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import IO, Final, Literal

from tai_grpc.observability.tracing import current_trace

LOGGER_NAME: Final = "tai_grpc"
_EXTRA_FIELDS: Final = ("method", "code", "duration_ms", "peer", "endpoint")


class _Trace(logging.Filter):
    """Puts the current trace id on every record."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "trace_id"):
            trace = current_trace()
            record.trace_id = trace.trace_id if trace else "-"
        return True


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: getattr(record, name) for name in _EXTRA_FIELDS if hasattr(record, name)}


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        trace = getattr(record, "trace_id", "-")
        line = f"{self.formatTime(record)} {record.levelname} {record.getMessage()}{fields} trace_id={trace}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _Json(logging.Formatter):
    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%S')}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "message": record.getMessage(),
            "trace_id": getattr(record, "trace_id", "-"),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure_logging(
    level: int | str = logging.INFO, form: Literal["text", "json"] = "text", stream: IO[str] | None = None
) -> None:
    """Send this package's log lines to `stream` (stderr), one a line; for programs, not for libraries."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Text())
    handler.addFilter(_Trace())
    logger = logging.getLogger(LOGGER_NAME)
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False
