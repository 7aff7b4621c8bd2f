"""Log lines: each carries the trace id, and a JSON line is one object on one line whatever happened."""

import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tai_grpc.observability.logging import LOGGER_NAME, configure_logging
from tai_grpc.observability.tracing import TraceContext, trace_scope

TRACE = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
CALL = {"method": "pkg.Svc/Method", "code": "OK", "duration_ms": 1.5, "peer": "ipv4:127.0.0.1:4711"}

log = logging.getLogger(f"{LOGGER_NAME}.some.module")


@pytest.fixture(autouse=True)
def logger_put_back() -> Iterator[None]:
    logger = logging.getLogger(LOGGER_NAME)
    before = (logger.handlers[:], logger.level, logger.propagate)
    yield
    logger.handlers[:], level, logger.propagate = before
    logger.setLevel(level)


@pytest.fixture
def text() -> io.StringIO:
    stream = io.StringIO()
    configure_logging(stream=stream)
    return stream


@pytest.fixture
def lines() -> io.StringIO:
    stream = io.StringIO()
    configure_logging(form="json", stream=stream)
    return stream


def only(stream: io.StringIO) -> dict[str, Any]:
    """Return the one JSON line there is."""
    (line,) = stream.getvalue().splitlines()
    assert stream.getvalue() == f"{line}\n"
    parsed = json.loads(line)
    assert isinstance(parsed, dict)
    return parsed


def lose() -> None:
    raise LookupError("lost\nfor ever")


def log_failure() -> None:
    try:
        lose()
    except LookupError:
        log.exception("failed")


def test_a_text_line_carries_the_trace_id(text: io.StringIO) -> None:
    with trace_scope(TRACE):
        log.info("served %d", 3)
    assert text.getvalue().endswith(f" INFO served 3 trace_id={TRACE.trace_id}\n")


def test_outside_of_a_call_the_trace_id_is_a_dash(text: io.StringIO) -> None:
    log.info("started")
    assert text.getvalue().endswith(" INFO started trace_id=-\n")


def test_a_text_line_has_what_its_message_does_not_say(text: io.StringIO) -> None:
    log.warning("%s answered %s", CALL["method"], CALL["code"], extra=CALL)
    line = text.getvalue()
    fields = "duration_ms=1.5 peer=ipv4:127.0.0.1:4711"
    assert line.endswith(f" WARNING pkg.Svc/Method answered OK {fields} trace_id=-\n")


def test_a_text_line_is_followed_by_the_traceback(text: io.StringIO) -> None:
    log_failure()
    first, second, *_ = text.getvalue().splitlines()
    assert first.endswith("ERROR failed trace_id=-")
    assert second.startswith("Traceback")
    assert text.getvalue().endswith("LookupError: lost\nfor ever\n")


def test_a_json_line_has_time_level_message_trace_and_the_call_s_fields(lines: io.StringIO) -> None:
    before = datetime.now(UTC)
    with trace_scope(TRACE):
        log.info("served %d", 3, extra=CALL)
    line = only(lines)
    # The line's time has milliseconds.
    assert before.timestamp() - 0.001 <= datetime.fromisoformat(line.pop("time")).timestamp()
    assert line == {"level": "INFO", "message": "served 3", "trace_id": TRACE.trace_id, **CALL}


def test_a_json_line_s_time_is_utc(lines: io.StringIO) -> None:
    record = logging.LogRecord(log.name, logging.INFO, __file__, 1, "then", None, None)
    record.created, record.msecs = 86_400.007, 7.0
    log.handle(record)
    assert only(lines)["time"] == "1970-01-02T00:00:00.007Z"


@pytest.mark.parametrize("message", ["two\nlines", "\r\n\t\x00\x1b", 'a "quote" \\', "é \u2028 \ud800", "{}"])
def test_a_json_line_stays_one_line_and_says_the_same(lines: io.StringIO, message: str) -> None:
    log.info(message)
    assert only(lines)["message"] == message


def test_an_exception_is_within_the_json_line(lines: io.StringIO) -> None:
    log_failure()
    line = only(lines)
    assert line["message"] == "failed"
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("LookupError: lost\nfor ever")


def test_a_field_that_json_does_not_know_is_written_as_text(lines: io.StringIO) -> None:
    log.info(
        "served",
        extra={
            "peer": {
                1,
            }
        },
    )
    assert only(lines)["peer"] == "{1}"


def test_lines_below_the_level_are_not_written() -> None:
    stream = io.StringIO()
    configure_logging(logging.WARNING, stream=stream)
    log.info("quiet")
    assert not stream.getvalue()
    log.warning("loud")
    assert "loud" in stream.getvalue()


def test_configuring_again_replaces_what_was_configured(text: io.StringIO) -> None:
    again = io.StringIO()
    configure_logging(stream=again)
    log.info("once")
    assert not text.getvalue()
    assert len(again.getvalue().splitlines()) == 1


def test_lines_go_to_stderr_by_default_and_not_to_the_root_logger(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    configure_logging()
    log.info("here")
    assert "here" in capsys.readouterr().err
    assert not caplog.records
