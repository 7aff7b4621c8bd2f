import json
import random
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from tai_grpc import LatencyHistogram
from tai_grpc.load.engine import EndReason, LoadResult
from tai_grpc.load.methods import built_in_method
from tai_grpc.load.plan import LoadPlan
from tai_grpc.load.report import CLOSED_LOOP_NOTE, PERCENTAGES, Report, to_json, to_summary

METHOD = built_in_method("tai.v1.Governor", "HealthCheck")
LATENCIES_US = random.Random(7).choices(range(100, 90_000), k=5_000)


def _result(latencies_us: list[int], *, failed: int = 0, abandoned: int = 0, **plan: Any) -> LoadResult:
    histogram = LatencyHistogram()
    for us in latencies_us:
        histogram.record(us)
    statuses = Counter({"OK": len(latencies_us)} if latencies_us else {})
    if failed:
        statuses["ABORTED"] = failed
    return LoadResult(
        plan=LoadPlan(host="127.0.0.1:50051", method=METHOD, requests=(b"",), **plan),
        started=datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC),
        elapsed_ns=2_000_000_000,
        end_reason=EndReason.NORMAL,
        latencies=histogram,
        statuses=statuses,
        errors=Counter({"ABORTED: why": failed} if failed else {}),
        abandoned=abandoned,
    )


def _json(result: LoadResult) -> Any:
    return json.loads(to_json(Report.of(result)))


def test_the_json_has_the_keys_of_ghz() -> None:
    document = _json(_result(LATENCIES_US, name="n", tags={"env": "test"}))
    assert set(document) >= {
        *("name", "endReason", "date", "options", "count", "total", "average", "fastest", "slowest", "rps"),
        *("errorDistribution", "statusCodeDistribution", "latencyDistribution", "histogram", "tags"),
    }
    assert document["name"] == "n"
    assert document["endReason"] == "normal"
    assert document["date"] == "2024-01-02T03:04:05+00:00"
    assert document["tags"] == {"env": "test"}
    assert document["options"]["timeout"] == 20_000_000_000
    assert document["options"]["total"] == 200


def test_a_run_by_time_has_its_duration_among_the_options_and_no_total() -> None:
    options = _json(_result([5], duration=1.5))["options"]
    assert options["duration"] == 1_500_000_000
    assert "total" not in options


def test_the_percentiles_are_those_of_the_histogram_in_nanoseconds() -> None:
    result = _result(LATENCIES_US)
    reported = {entry["percentage"]: entry["latency"] for entry in _json(result)["latencyDistribution"]}
    assert reported == {p: result.latencies.percentile(p) * 1000 for p in PERCENTAGES}


def test_the_figures_agree_with_the_plain_list_of_latencies() -> None:
    document = _json(_result(LATENCIES_US))
    ordered = sorted(LATENCIES_US)
    assert document["fastest"] == pytest.approx(ordered[0] * 1000, rel=0.001)
    assert document["slowest"] == pytest.approx(ordered[-1] * 1000, rel=0.001)
    assert document["average"] == pytest.approx(sum(ordered) / len(ordered) * 1000, rel=0.001)
    median = next(entry["latency"] for entry in document["latencyDistribution"] if entry["percentage"] == 50)
    assert median == pytest.approx(ordered[2499] * 1000, rel=0.001)
    assert document["rps"] == 2500


@pytest.mark.parametrize("latencies", [LATENCIES_US, [7], [7, 7, 7], [1, 2], [1, 59_000_000]])
def test_every_call_is_in_one_row_of_the_histogram_and_not_above_its_mark(latencies: list[int]) -> None:
    rows = _json(_result(latencies))["histogram"]
    assert len(rows) <= 11
    assert sum(row["count"] for row in rows) == len(latencies)
    assert sum(row["frequency"] for row in rows) == pytest.approx(1)
    below = 0.0
    for row in rows:
        # What a histogram of three digits keeps of a value.
        low, high = below * 1e6 * 0.999, row["mark"] * 1e6 * 1.001
        fitting = sum(1 for us in latencies if low <= us <= high)
        assert row["count"] <= fitting
        below = row["mark"]


def test_the_summary_has_the_sections_of_ghz_in_their_order() -> None:
    text = to_summary(Report.of(_result(LATENCIES_US, failed=2, abandoned=3, name="nightly")))
    sections = [
        "Summary:",
        "Response time histogram:",
        "Latency distribution:",
        "Status code distribution:",
        "Error distribution:",
    ]
    places = [text.index(section) for section in sections]
    assert places == sorted(places)
    for line in (
        "  Name:\t\tnightly",
        "  Count:\t5002",
        "  Total:\t2.00 s",
        "  Requests/sec:\t2501.00",
        "  [OK]\t5000 responses",
        "  [ABORTED]\t2 responses",
        "  [2]\tABORTED: why",
    ):
        assert f"\n{line}\n" in text
    assert "\n  99.99 % in " in text
    assert "Stopped with 3 calls in flight" in text


def test_the_report_says_what_a_closed_loop_leaves_out() -> None:
    result = _result([5])
    assert CLOSED_LOOP_NOTE in to_summary(Report.of(result))
    assert _json(result)["note"] == CLOSED_LOOP_NOTE
    assert _json(result)["options"]["loop"] == "closed"


def test_bars_are_as_long_as_their_share_of_the_fullest_row() -> None:
    text = to_summary(Report.of(_result([100] * 40 + [200] * 10)))
    bars = [line.count("∎") for line in text.splitlines() if "\t|" in line]
    assert (max(bars), bars[0], bars[-1]) == (40, 40, 10)


def test_a_run_without_a_good_call_has_a_report_all_the_same() -> None:
    document = _json(_result([], failed=4))
    assert document["count"] == 4
    assert document["latencyDistribution"] == document["histogram"] == []
    assert "  Fastest:\t0 ns" in to_summary(Report.of(_result([], failed=4)))
