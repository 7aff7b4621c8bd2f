"""Log lines that carry the trace id, as text for people or JSON for programs."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Sequence
from typing import IO, Final, Literal

from tai_grpc.observability.tracing import current_trace

LOGGER_NAME: Final = "tai_grpc"
# What a record may carry in `extra`: a JSON line has all of it, a text line what the message does not say.
_TEXT_FIELDS: Final = ("duration_ms", "peer")
_JSON_FIELDS: Final = ("method", "code", *_TEXT_FIELDS)


class _Trace(logging.Filter):
    """Puts the current trace id on every record."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "trace_id"):
            trace = current_trace()
            record.trace_id = trace.trace_id if trace else "-"
        return True


def _fields(record: logging.LogRecord, names: Sequence[str]) -> dict[str, object]:
    return {name: getattr(record, name) for name in names if hasattr(record, name)}


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name, value in _fields(record, _TEXT_FIELDS).items())
        message, trace = record.getMessage(), f" trace_id={getattr(record, 'trace_id', '-')}"
        if trace in message:
            trace = ""
        line = f"{self.formatTime(record)} {record.levelname} {message}{fields}{trace}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _Json(logging.Formatter):
    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%S')}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "message": record.getMessage(),
            "trace_id": getattr(record, "trace_id", "-"),
            **_fields(record, _JSON_FIELDS),
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
