"""The report for people."""

from collections import Counter
from typing import Any

import pytest

from load.report.results import CONSTANT_RATE, STREAM, histogram, interval, latencies, ordinary, plan, result
from tai_grpc.load.report.notes import CLOSED_LOOP_NOTE, FROM_SENT_NOTE
from tai_grpc.load.report.summary import to_summary
from tai_grpc.load.result import HostResult


def test_the_summary_has_the_sections_of_ghz_in_their_order() -> None:
    text = to_summary(ordinary(10, of=plan(name="nightly"), abandoned=3))
    sections = [
        "\nSummary:\n",
        "\nResponse time histogram:\n",
        "\nLatency distribution:\n",
        "\nStatus code distribution:\n",
        "\nError distribution:\n",
    ]
    places = [text.index(section) for section in sections]
    assert places == sorted(places)
    assert places[0] == 0
    for line in (
        "  Name:\t\tnightly",
        "  Count:\t5005",
        "  Total:\t10.00 s",
        "  Requests/sec:\t500.50",
        "  [OK]            5000 responses",
        "  [UNAVAILABLE]   5 responses",
        "  [5]   UNAVAILABLE: the server is gone",
    ):
        assert f"\n{line}\n" in text
    for percentage in ("10", "25", "50", "75", "90", "95", "99", "99.9", "99.99"):
        assert f"\n  {percentage} % in " in text
    assert "Stopped with 3 calls in flight, which are not counted." in text
    assert CLOSED_LOOP_NOTE in text


def test_bars_are_as_long_as_their_share_of_the_fullest_row() -> None:
    text = to_summary(result([interval(0, [100] * 40 + [200] * 10)]))
    bars = [line.count("∎") for line in text.splitlines() if " |" in line]
    assert (len(bars), max(bars), bars[0], bars[-1]) == (11, 40, 40, 10)


def test_a_run_without_a_good_call_has_a_report_all_the_same() -> None:
    text = to_summary(result([interval(0, [], failed=4)], errors={"UNAVAILABLE: gone": 4}))
    assert "\n  Count:\t4\n" in text
    assert "\n  Fastest:\t0 ns\n" in text


def test_a_run_in_which_nothing_happened_has_a_report_all_the_same() -> None:
    assert "\n  Requests/sec:\t0.00\n" in to_summary(result())


def test_an_open_loop_tells_what_was_missed_and_how_late_calls_were_sent() -> None:
    lag = histogram([10_000] * 98 + [2_000_000, 5_000_000])
    made = ordinary(2, of=plan(schedule=CONSTANT_RATE), missed=12, send_lag=lag)
    text = to_summary(made)
    assert "\n  Missed:\t12 calls due before the end and not sent\n" in text
    assert "\n  Send lag:\t50 % in 10.01 us, 99 % in 2.00 ms, longest 5.00 ms\n" in text
    assert "\n  Late:\t\t2 calls (2.00 %) sent over 1.00 ms after being due\n" in text
    assert "12 calls due before the run ended were not sent" in text
    assert CLOSED_LOOP_NOTE not in text
    assert FROM_SENT_NOTE not in text


def test_an_open_loop_that_counts_from_the_send_says_so() -> None:
    assert FROM_SENT_NOTE in to_summary(ordinary(of=plan(schedule=CONSTANT_RATE, closed=True)))


def test_a_stream_tells_its_message_rates() -> None:
    text = to_summary(ordinary(10, 500, of=plan(method=STREAM)))
    assert "\n  Sent:       5000    500.00 /sec\n" in text
    assert "\n  Received:   10000   1000.00 /sec\n" in text
    assert "Messages:" not in to_summary(ordinary())


def test_several_hosts_are_told_apart() -> None:
    hosts = [
        HostResult("a:1", histogram(latencies(1, 5000)), Counter(OK=5000)),
        HostResult("b:2", histogram(), Counter(UNAVAILABLE=7)),
    ]
    text = to_summary(ordinary(of=plan(hosts=("a:1", "b:2"), connections=2), hosts=hosts))
    rows = [line.split() for line in text[text.index("Hosts:") :].splitlines()]
    assert rows[1][:4] == ["host", "count", "failed", "average"]
    assert rows[2][:3] == ["a:1", "5,000", "0"]
    assert rows[3] == ["b:2", "7", "7", "-", "-", "-", "-", "-"]
    assert "Hosts:" not in to_summary(ordinary(hosts=hosts[:1]))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"engine_cpu": 0.97}, "The load generator was the limit: its busiest thread took 97% of a core."),
        (
            {"of": plan(schedule=CONSTANT_RATE), "send_lag": histogram([5] * 97 + [9_000_000] * 3)},
            "3 calls were sent over 1.00 ms after being due: the load generator, or the concurrency of 50, "
            "held them up, and the latencies count from when they were due.",
        ),
        (
            {
                "of": plan(schedule=CONSTANT_RATE),
                "send_lag": histogram([5] * 97 + [9_000_000] * 3),
                "stream_limit": 2,
            },
            "after being due: the server's limit of streams held them up",
        ),
        (
            {"stream_limit": 1},
            "The server allows 1 stream a connection, and calls waited for one: give more than 1 connection,",
        ),
        (
            {"sent_again": 2},
            "2 calls were refused by the server unprocessed and sent once more, each counted once: it had so",
        ),
        ({"starved": 1}, "1 send waited for the request to be rendered from its template"),
        ({"reconnects": 3}, "3 connections were lost or closed by the server, and made again."),
        ({"missed": 1}, "1 call due before the run ended was not sent"),
    ],
)
def test_what_casts_doubt_on_the_figures_is_told(changes: dict[str, Any], told: str) -> None:
    assert told in to_summary(ordinary(**changes))
    assert told not in to_summary(ordinary())


def test_calls_that_were_too_slow_for_the_histogram_are_told() -> None:
    made = histogram([5, 4_000_000_000_000])
    text = to_summary(result(latencies=made, send_lag=made, statuses=Counter(OK=2), elapsed_ns=10**9))
    assert "1 call took longer than 3600.00 s and was counted as that." in text
    assert "1 call waited longer to be sent than 3600.00 s and was counted as that." in text


def test_an_error_text_cannot_steer_the_terminal() -> None:
    text = to_summary(ordinary(of=plan(name="a\x1b[2Jb\nc"), errors={"UNKNOWN: \x1b]0;x\x07\u202e": 1}))
    assert "  Name:\t\ta\\x1b[2Jb\\nc\n" in text
    assert "UNKNOWN: \\x1b]0;x\\x07\\u202e" in text
    assert not {"\x1b", "\x07", "\u202e"} & set(text)
