"""What a run consists of, and what the command offers of it."""

from __future__ import annotations

from bench.harness.promises import PROMISES
from bench.table import SECTIONS
from tai_grpc.cli.bench import ROWS


def test_the_command_offers_every_part_of_a_run() -> None:
    """It may not import what it runs, so it has the names too."""
    assert tuple(SECTIONS) == ROWS


def test_a_whole_run_is_expected_to_take_less_than_ten_minutes() -> None:
    for quick, seconds in ((False, 600), (True, 240)):
        assert sum(section.expected(quick=quick) for section in SECTIONS.values()) < seconds


def test_no_promise_is_stated_twice() -> None:
    assert len({promise.what for promise in PROMISES}) == len(PROMISES)
