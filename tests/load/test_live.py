"""What is seen of a run while it goes on."""

import io
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from load.report.results import STREAM, interval, plan
from tai_grpc.load.live import LiveView, sparkline
from tai_grpc.load.plan import LoadPlan
from tai_grpc.load.result import Interval

CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
ENDLESS: dict[str, Any] = {"total": None, "duration": 20.0}

PROGRAM = """
from load.report.results import interval, plan
from tai_grpc.load.live import LiveView
with LiveView(plan()) as view:
    view.show(interval(0, [1_000_000] * 100))
print("the report")
"""


@pytest.fixture(autouse=True)
def transport() -> None:
    """The view is the same on each transport: here no test runs twice."""


def _frames(of: LoadPlan, intervals: Iterable[Interval], width: int = 100) -> list[str]:
    """What was drawn for each interval, without colours."""
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=width, color_system=None, legacy_windows=False)
    frames = []
    with LiveView(of, console) as view:
        for each in intervals:
            output.seek(0)
            output.truncate()
            view.show(each)
            frames.append(CODES.sub("", output.getvalue()))
    return frames


def _quarter(number: int, calls: int, ns: int = 1_000_000, **changes: Any) -> Interval:
    return interval(number / 4, [ns] * calls, length=0.25, **changes)


def test_rate_and_percentiles_are_those_of_the_last_second() -> None:
    slow = [_quarter(i, 100, 5_000_000) for i in range(4)]
    fast = [_quarter(i, 500, 1_000_000) for i in range(4, 8)]
    frames = _frames(plan(**ENDLESS), [*slow, *fast])
    assert "400 calls/s   p50 5.00 ms   p99 5.00 ms   400 calls   0 failed" in frames[3]
    assert "1,200 calls/s   p50 1.00 ms   p99 5.00 ms   1,400 calls" in frames[5]
    assert "2,000 calls/s   p50 1.00 ms   p99 1.00 ms   2,400 calls" in frames[7]


def test_failed_calls_are_counted_from_the_beginning() -> None:
    frames = _frames(plan(**ENDLESS), [_quarter(0, 10, failed=3), *(_quarter(i, 10) for i in range(1, 9))])
    assert "93 calls   3 failed" in frames[-1]


def test_a_run_by_time_tells_how_much_is_left() -> None:
    (frame,) = _frames(plan(**ENDLESS), [interval(4, [1_000_000])])
    assert f"  {'━' * 10}{'╌' * 30}  5 s, 15 s left\n" in frame
    (later,) = _frames(plan(total=None, duration=4000.0), [interval(99, [1_000_000])])
    assert "  1:40, 1:05:00 left" in later


def test_a_run_by_number_tells_how_long_the_rest_will_take() -> None:
    (frame,) = _frames(plan(total=1000), [interval(0, [1_000_000] * 100)])
    assert "  1 s, 9 s left" in frame


def test_what_comes_first_ends_the_run() -> None:
    (frame,) = _frames(plan(total=1000, duration=3.0), [interval(0, [1_000_000] * 100)])
    assert "  1 s, 2 s left" in frame


def test_warming_up_is_told_and_is_no_part_of_the_rate() -> None:
    frames = _frames(plan(**ENDLESS, warmup=2.0), [interval(-2, []), interval(-1, []), interval(0, [5] * 9)])
    assert "warming up" in frames[0]
    assert "1 s until measuring begins" in frames[0]
    assert "warming up" not in frames[2]
    assert frames[2].count("█") == 1


def test_a_rate_is_of_the_time_in_which_calls_were_counted() -> None:
    warm = [interval(number / 4 - 0.9, [], length=0.25) for number in range(3)]
    first, second = (interval(start, [1_000_000] * 50, length=0.1) for start in (0, 0.1))
    frames = _frames(plan(**ENDLESS, warmup=0.9), [*warm, first, second])
    assert "500 calls/s   p50 1.00 ms   p99 1.00 ms   50 calls" in frames[3]
    assert "500 calls/s   p50 1.00 ms   p99 1.00 ms   100 calls" in frames[4]
    assert frames[4].count("█") == 2


def test_a_run_in_which_nothing_ends_has_no_percentiles() -> None:
    (frame,) = _frames(plan(total=10), [interval(0, [])])
    assert "0 calls/s   0 calls   0 failed" in frame
    assert "left" not in frame


def test_a_stream_tells_its_messages() -> None:
    (frame,) = _frames(plan(method=STREAM), [interval(0, [5_000], messages=50)])
    assert "150 messages/s" in frame


@pytest.mark.parametrize("width", [20, 40, 200])
def test_no_line_is_longer_than_the_terminal_is_wide(width: int) -> None:
    frames = _frames(plan(**ENDLESS), [_quarter(i, 10 * i) for i in range(300)], width)
    assert max(len(line) for frame in frames for line in frame.splitlines()) <= width


def test_a_name_cannot_steer_the_terminal() -> None:
    (frame,) = _frames(plan(hosts=("unix:/tmp/\x1b]0;x\x07[red]",)), [interval(0, [5])])
    assert "unix:/tmp/\\x1b]0;x\\x07[red]" in frame


@given(st.lists(st.floats(0, 1e9), max_size=50))
def test_a_sparkline_rises_with_its_values(values: list[float]) -> None:
    bars = sparkline(values)
    assert len(bars) == len(values)
    if any(values):
        assert bars[values.index(max(values))] == "█"
    levels = [bars[i] for i in sorted(range(len(values)), key=values.__getitem__)]
    assert levels == sorted(levels)


def _run(stderr: int) -> str:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "TERM": "xterm"}
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        stderr=stderr,
        check=True,
        env=environment,
        text=True,
    )
    assert ran.stdout == "the report\n"
    return ran.stderr or ""


def test_in_a_pipe_there_is_nothing() -> None:
    assert _run(subprocess.PIPE) == ""


def test_on_a_terminal_it_is_drawn_and_wiped_away() -> None:
    ours, theirs = pty.openpty()
    try:
        _run(theirs)
        drawn = os.read(ours, 100_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "100 calls/s" in drawn
    # The cursor goes up and each line is erased, and it is shown again.
    assert "\x1b[1A\x1b[2K" in drawn[drawn.index("100 calls/s") :]
    assert "\x1b[?25h" in drawn
