"""The line that says how far a run is."""

from __future__ import annotations

from io import StringIO

import pytest

from bench.harness.progress import Progress


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_is_left_shrinks_with_time_and_never_below_the_parts_to_come() -> None:
    clock = Clock()
    progress = Progress({"unary": 10.0, "memory": 20.0}, Terminal(), clock)
    progress.begin("unary")
    assert progress.remaining == 30.0
    clock.now += 4
    assert progress.remaining == 26.0
    clock.now += 40
    assert progress.remaining == 20.0


def test_a_machine_that_is_slower_is_expected_to_stay_so() -> None:
    clock = Clock()
    progress = Progress({"unary": 10.0, "memory": 20.0}, Terminal(), clock)
    progress.begin("unary")
    clock.now += 30
    progress.begin("memory")
    assert progress.remaining == 60.0
    clock.now += 15
    assert progress.remaining == 45.0


def test_a_terminal_is_told_the_time_what_is_left_and_what_is_measured() -> None:
    clock, terminal = Clock(), Terminal()
    progress = Progress({"unary": 10.0}, terminal, clock)
    progress.begin("unary")
    clock.now += 3
    progress.show("round 1 of 5, grpcio")
    assert terminal.getvalue() == "\r\x1b[K   3 s, about 7 s left  round 1 of 5, grpcio"
    progress.clear()
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_a_line_is_never_longer_than_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that wraps could not be written over."""
    monkeypatch.setenv("COLUMNS", "30")
    terminal = Terminal()
    progress = Progress({"unary": 10.0}, terminal, Clock())
    progress.show("round 1 of 5, an implementation of a long name")
    assert len(terminal.getvalue().removeprefix("\r\x1b[K")) == 29


def test_a_pipe_is_told_nothing() -> None:
    pipe = StringIO()
    progress = Progress({"unary": 10.0}, pipe, Clock())
    progress.begin("unary")
    progress.show("round 1 of 5")
    progress.clear()
    assert pipe.getvalue() == ""
