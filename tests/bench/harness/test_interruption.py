"""Signals during a run."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from bench.harness.interruption import Interruption

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {each: signal.getsignal(each) for each in SIGNALS}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_interrupts_and_those_that_follow_are_ignored(number: signal.Signals) -> None:
    with Interruption() as interruption:
        with pytest.raises(KeyboardInterrupt):
            send(number)
        for each in SIGNALS:
            send(each)
    assert interruption.number == number


def test_none_is_heard_where_no_more_are_to_be() -> None:
    with Interruption() as interruption:
        interruption.no_more()
        for each in SIGNALS:
            send(each)
    assert interruption.number is None


def test_what_was_ignored_stays_so_and_the_others_are_as_they_were() -> None:
    """As under nohup."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with Interruption() as interruption:
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGTERM)
    assert interruption.number == signal.SIGTERM
    assert [signal.getsignal(each) for each in SIGNALS] == [signal.SIG_IGN, signal.SIG_DFL]
