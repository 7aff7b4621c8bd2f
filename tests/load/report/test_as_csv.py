"""The course of a run as a table."""

import csv
import io
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from load.report.results import interval, ordinary, result
from tai_grpc.load.report.as_csv import cell, to_csv
from tai_grpc.load.result import LoadResult


def _rows(made: LoadResult) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(to_csv(made))))


def test_each_interval_is_a_row() -> None:
    made = ordinary(4, 500)
    rows = _rows(made)
    assert [row["start (s)"] for row in rows] == ["0.000", "1.000", "2.000", "3.000"]
    assert [row["count"] for row in rows] == ["500", "501", "500", "501"]
    assert [row["requests/sec"] for row in rows] == ["500.00", "501.00", "500.00", "501.00"]
    assert [(row["OK"], row["UNAVAILABLE"]) for row in rows[:2]] == [("500", "0"), ("500", "1")]
    for row, each in zip(rows, made.intervals, strict=True):
        assert float(row["p99.9 (ms)"]) == each.latencies.percentile(99.9) / 1e6
        assert float(row["slowest (ms)"]) == each.latencies.max / 1e6


def test_an_interval_without_a_good_call_has_no_latencies() -> None:
    (row,) = _rows(result([interval(0, [], failed=3)]))
    assert (row["count"], row["UNAVAILABLE"]) == ("3", "3")
    assert {row[name] for name in row if name.endswith("(ms)")} == {""}


def test_without_intervals_there_are_only_the_names() -> None:
    assert to_csv(result()).count("\n") == 1


@given(st.text())
def test_no_text_is_a_formula_for_a_spreadsheet(text: str) -> None:
    assert not cell(text).startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert cell(text) in (text, f"'{text}")


def test_a_status_that_looks_like_a_formula_is_text() -> None:
    odd = replace(interval(0, [5]), statuses=Counter({"=1+1": 1, 'a"b,c': 2}))
    (row,) = _rows(result([odd]))
    assert (row["'=1+1"], row['a"b,c']) == ("1", "2")


@pytest.mark.parametrize("seconds", [1, 3])
def test_rows_are_as_long_as_the_names(seconds: int) -> None:
    rows = list(csv.reader(io.StringIO(to_csv(ordinary(seconds)))))
    assert {len(row) for row in rows} == {len(rows[0])}
