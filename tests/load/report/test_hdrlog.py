"""HdrHistogram's own formats, read by the hdrhistogram package."""

import re
from io import BytesIO
from pathlib import Path

import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
from hypothesis import given, settings
from hypothesis import strategies as st

from load.report.results import STARTED, histogram, interval, ordinary, plan, result
from tai_grpc import LatencyHistogram
from tai_grpc.load.report.hdrlog import to_hgrm, to_hlog
from tai_grpc.load.result import LoadResult

PERCENTAGES = [*range(101), 99.5, 99.9, 99.95, 99.99, 99.999]


def _read(made: LoadResult, folder: Path) -> list[HdrHistogram]:
    """The intervals of a log, by the package's own reader."""
    path = folder / "run.hlog"
    path.write_text(to_hlog(made), encoding="utf-8")
    reader = HistogramLogReader(str(path), HdrHistogram(1, 3_600_000_000_000, 3))
    try:
        return list(iter(reader.get_next_interval_histogram, None))
    finally:
        reader.close()


def _same(theirs: HdrHistogram, ours: LatencyHistogram) -> None:
    assert theirs.get_total_count() == ours.count
    assert [theirs.get_value_at_percentile(p) for p in PERCENTAGES] == ours.percentiles(PERCENTAGES)


def test_every_interval_has_equal_percentiles_in_the_hdrhistogram_package(tmp_path: Path) -> None:
    made = ordinary(5)
    read = _read(made, tmp_path)
    for theirs, ours in zip(read, made.intervals, strict=True):
        _same(theirs, ours.latencies)
    whole = HdrHistogram(1, 3_600_000_000_000, 3)
    for theirs in read:
        whole.add(theirs)
    _same(whole, made.latencies)


def test_intervals_have_their_times(tmp_path: Path) -> None:
    for i, theirs in enumerate(_read(ordinary(3), tmp_path)):
        assert theirs.get_start_time_stamp() == pytest.approx(STARTED.timestamp() * 1000 + i * 1000)
        assert theirs.get_end_time_stamp() - theirs.get_start_time_stamp() == pytest.approx(1000)


def test_a_run_without_intervals_is_one(tmp_path: Path) -> None:
    made = result(latencies=histogram([5, 6, 7]), elapsed_ns=2_000_000_000)
    (theirs,) = _read(made, tmp_path)
    _same(theirs, made.latencies)


def test_a_second_in_which_no_call_succeeded_is_an_empty_histogram(tmp_path: Path) -> None:
    made = result([interval(0, [], failed=3), interval(1, [5_000])])
    assert [theirs.get_total_count() for theirs in _read(made, tmp_path)] == [0, 1]


def test_the_log_says_when_it_began_and_its_maxima_are_milliseconds() -> None:
    lines = to_hlog(result([interval(0, [2_000_000]), interval(1, [])])).splitlines()
    assert lines[1:5] == [
        "#[Histogram log format version 1.3]",
        "#[StartTime: 1704164645.250 (seconds since epoch), Tue Jan 02 03:04:05 UTC 2024]",
        "#[BaseTime: 1704164645.250 (seconds since epoch)]",
        '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"',
    ]
    assert re.fullmatch(r"0\.000,1\.000,2\.00[01],HISTFAAA\S+", lines[5])
    assert re.fullmatch(r"1\.000,1\.000,0\.000,HISTFAAA\S+", lines[6])


def test_a_name_cannot_add_a_line_to_the_log(tmp_path: Path) -> None:
    made = ordinary(2, of=plan(name="x\n0.0,1.0,1.0,HISTFAAA\r#"))
    assert len(_read(made, tmp_path)) == 2


def _table(text: str) -> list[list[float]]:
    return [[float(field) for field in line.split()] for line in text.splitlines()[2:] if line[0] != "#"]


@settings(max_examples=50)
@given(st.lists(st.integers(1_000_000_000, 3_600_000_000_000), min_size=1, max_size=300))
def test_each_row_has_the_first_value_that_its_share_of_the_calls_do_not_exceed(values: list[int]) -> None:
    """Of values whose buckets are wider than what the table rounds."""
    theirs = HdrHistogram(1, 3_600_000_000_000, 3)
    for value in values:
        theirs.record_value(value)
    rows = _table(to_hgrm(result(latencies=histogram(values))))
    for value_ms, share, count, *distance in rows:
        top = value_ms * 1e6 + 600
        assert count == sum(1 for value in values if value <= top)
        assert count / len(values) >= share - 1e-9
        bottom = theirs.get_lowest_equivalent_value(round(top) - 1_200)
        assert share == 0 or sum(1 for value in values if value < bottom) / len(values) < share
        assert distance == ([pytest.approx(1 / (1 - share), abs=0.006)] if share < 1 else [])
    assert rows[-1] == [pytest.approx(theirs.get_max_value() / 1e6, abs=0.0006), 1.0, len(values)]


def test_the_table_is_laid_out_as_hdrhistogram_does_it() -> None:
    """Its rows lie elsewhere than those of Java's, and ours, after the first."""
    made = ordinary()
    buffer = BytesIO()
    theirs = HdrHistogram.decode(made.latencies.encode())
    theirs.output_percentile_distribution(buffer, 1e6, 5)
    expected, text = buffer.getvalue().decode().splitlines(), to_hgrm(made).splitlines()
    assert text[:3] == expected[:3]
    assert all(re.fullmatch(r" {3,}\d+\.\d{3} 0\.\d{12} {3,}\d+ {3,}\d+\.\d\d", line) for line in text[3:-4])
    assert text[-4] == expected[-4]
    # Theirs leaves the deviation in nanoseconds, and counts with a fraction.
    number = r" *(\d+\.?\d*)"
    mean, deviation = _numbers(rf"#\[Mean    ={number}, StdDeviation   ={number}\]", text[-3])
    greatest, total = _numbers(rf"#\[Max     ={number}, Total count    ={number}\]", text[-2])
    assert mean == pytest.approx(theirs.get_mean_value() / 1e6, abs=0.001)
    assert deviation == pytest.approx(theirs.get_stddev() / 1e6, abs=0.001)
    assert greatest == pytest.approx(made.latencies.max / 1e6, abs=0.001)
    assert total == 5000
    assert text[-1] == expected[-1]


def _numbers(pattern: str, line: str) -> list[float]:
    found = re.fullmatch(pattern, line)
    assert found, line
    return [float(group) for group in found.groups()]


def test_the_table_of_a_run_without_a_good_call_has_no_rows() -> None:
    assert _table(to_hgrm(result())) == []
