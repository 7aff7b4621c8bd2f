"""Reports read back."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from load.courses import course, of_ghz, saved
from load.report.results import interval, plan, result
from tai_grpc import LatencyHistogram
from tai_grpc.load.errors import RequestError
from tai_grpc.load.report.as_json import document, to_pretty_json
from tai_grpc.load.report.distribution import Distribution
from tai_grpc.load.report.figures import PERCENTAGES
from tai_grpc.load.report.saved import MAX_INTERVALS, parse_report, read_report


def test_our_own_report_is_had_back_exactly(tmp_path: Path) -> None:
    made = course(1, failing=0.02, of=plan(name="nightly"))
    path = tmp_path / "run.json"
    path.write_text(to_pretty_json(made))
    run = read_report(path)
    assert (run.where, run.name, run.count, run.failed) == (str(path), "nightly", made.count, made.failed)
    assert (run.rps, run.elapsed_ns) == (made.rps, made.elapsed_ns)
    assert run.percentiles == dict(zip(PERCENTAGES, made.latencies.percentiles(PERCENTAGES), strict=True))
    assert run.options["concurrency"] == 50
    for told, each in zip(run.slices, made.intervals, strict=True):
        original = Distribution.of(each.latencies)
        assert (told.latencies.high == original.high).all()
        assert (told.latencies.counts == original.counts).all()
        assert told.failed == each.statuses["UNAVAILABLE"]


def test_of_ghz_the_calls_one_by_one_make_its_course() -> None:
    """And the percentiles that ghz does not tell."""
    made = course(2, failing=0.02)
    run = parse_report(json.dumps(of_ghz(made)).encode(), "ghz.json")
    assert (run.count, run.failed, run.rps) == (made.count, made.failed, made.rps)
    assert sum(each.count for each in run.slices) == made.count
    assert sum(each.failed for each in run.slices) == made.failed
    assert 19 <= len(run.slices) <= 20
    for percentage in PERCENTAGES:
        assert run.percentiles[percentage] == pytest.approx(made.latencies.percentile(percentage), rel=0.01)


def test_a_short_run_of_ghz_is_cut_into_twentieths() -> None:
    made = result([interval(i / 5, [5_000_000] * 100, length=0.2) for i in range(15)])
    run = parse_report(json.dumps(of_ghz(made)).encode(), "ghz.json")
    assert len(run.slices) == 20
    assert sum(each.length_ns for each in run.slices) == pytest.approx(made.elapsed_ns, rel=0.01)


def test_ghz_without_its_details_tells_figures_only() -> None:
    run = parse_report(json.dumps(of_ghz(course(2), details=False)).encode(), "ghz.json")
    assert run.slices == ()
    assert set(run.percentiles) == {10, 25, 50, 75, 90, 95, 99}


def test_a_run_in_which_no_call_succeeded_is_read_too() -> None:
    run = saved(result([interval(0, [], failed=5)]))
    assert (run.count, run.failed, run.percentiles) == (5, 5, {})
    empty = of_ghz(result([interval(0, [], failed=5)])) | {"latencyDistribution": None, "histogram": None}
    assert parse_report(json.dumps(empty).encode(), "ghz.json").failed == 5


def _broken(**changes: Any) -> bytes:
    return json.dumps(document(course(1, seconds=2)) | changes).encode()


GOOD_HDR = LatencyHistogram().encode().decode()
ONE = {"start": 0, "length": 1, "statusCodeDistribution": {}, "hdr": GOOD_HDR}


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "not JSON: Expecting value"),
        (b"Summary:\n  Count: 5", "not JSON: Expecting value"),
        (b"\xff\xfe\xfd", "not JSON: "),
        (b"[" * 100_000, "not JSON: "),
        (b"[]", "the document is no object"),
        (b"{}", "statusCodeDistribution is no object"),
        (_broken(count=-1), "count is no number from 0"),
        (_broken(count=1.5), "count is no whole number"),
        (_broken(count=True), "count is no number from 0"),
        (_broken(count=10**30), "count is no number from 0"),
        (_broken(rps="fast"), "rps is no number from 0"),
        (_broken(rps=float("nan")), "rps is no number from 0"),
        (_broken(rps=float("inf")), "rps is no number from 0"),
        (_broken(total=None), "total is no number from 0"),
        (_broken(latencyDistribution={}), "latencyDistribution is no array"),
        (_broken(latencyDistribution=[5]), "latencyDistribution is no object"),
        (_broken(statusCodeDistribution={"OK": "5"}), "OK is no number from 0"),
        (_broken(intervals=None), "intervals is no array"),
        (_broken(intervals=[ONE] * (MAX_INTERVALS + 1)), f"over {MAX_INTERVALS} intervals"),
        (_broken(intervals=[ONE | {"hdr": "HISTFAAA"}]), "hdr: not an HdrHistogram V2 blob"),
        (_broken(intervals=[ONE | {"hdr": None}]), "hdr: not an HdrHistogram V2 blob"),
        (_broken(intervals=[ONE | {"length": "1"}]), "length is no number from 0"),
        (json.dumps(of_ghz(course(1)) | {"details": [{"latency": 5}]}).encode(), "details have no timestamp"),
        (json.dumps(of_ghz(course(1)) | {"details": [5]}).encode(), "details is no object"),
    ],
)
def test_what_is_no_report_is_one_clear_line(data: bytes, told: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_report(data, "a.json")
    message = str(caught.value)
    assert message.startswith("a.json: ")
    assert told in message
    assert "\n" not in message


def test_a_file_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"no\.json: No such file or directory$"):
        read_report(tmp_path / "no.json")
    with pytest.raises(RequestError, match=r"Is a directory$"):
        read_report(tmp_path)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(st.sampled_from(sorted(document(course(1, seconds=1)))), values)
def test_a_report_with_any_value_at_any_key_is_read_or_refused(key: str, value: Any) -> None:
    try:
        parse_report(json.dumps(document(course(1, seconds=1)) | {key: value}).encode(), "a.json")
    except RequestError:
        return
