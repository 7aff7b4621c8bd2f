"""The report for programs."""

import json
from collections import Counter
from typing import Any

import pytest

from load.report.results import CONSTANT_RATE, STREAM, histogram, interval, latencies, ordinary, plan, result
from tai_grpc import LatencyHistogram
from tai_grpc.load.plan import Arrivals, Schedule, Segment, Streaming, TlsPlan
from tai_grpc.load.report.as_json import to_json, to_pretty_json
from tai_grpc.load.report.figures import PERCENTAGES
from tai_grpc.load.report.notes import CLOSED_LOOP_NOTE
from tai_grpc.load.result import HostResult, LoadResult


def _document(made: LoadResult) -> Any:
    return json.loads(to_json(made))


def test_the_keys_of_ghz_are_there() -> None:
    document = _document(ordinary(of=plan(name="n", tags={"env": "test"})))
    assert list(document)[:15] == [
        *("name", "endReason", "date", "options", "count", "total", "average", "fastest", "slowest", "rps"),
        *("errorDistribution", "statusCodeDistribution", "latencyDistribution", "histogram", "tags"),
    ]
    assert document["name"] == "n"
    assert document["endReason"] == "normal"
    assert document["date"] == "2024-01-02T03:04:05.250000+00:00"
    assert document["tags"] == {"env": "test"}
    assert (document["count"], document["total"], document["rps"]) == (5005, 10_000_000_000, 500.5)
    assert document["errorDistribution"] == {"UNAVAILABLE: the server is gone": 5}
    assert document["statusCodeDistribution"] == {"OK": 5000, "UNAVAILABLE": 5}
    assert document["notes"][-1] == CLOSED_LOOP_NOTE


def test_json_is_one_line_and_pretty_says_the_same_on_many() -> None:
    made = ordinary(of=plan(name="Größe"))
    assert to_json(made).count("\n") == 1
    assert to_pretty_json(made).count("\n") > 100
    assert json.loads(to_pretty_json(made)) == _document(made)
    assert '"Größe"' in to_json(made)


def test_the_percentiles_are_those_of_the_histogram_in_nanoseconds() -> None:
    made = ordinary()
    reported = {entry["percentage"]: entry["latency"] for entry in _document(made)["latencyDistribution"]}
    assert reported == {p: made.latencies.percentile(p) for p in PERCENTAGES}


def test_marks_are_seconds_as_in_ghz() -> None:
    rows = _document(result([interval(0, [1_000_000, 2_000_000])]))["histogram"]
    assert [rows[0]["mark"], rows[-1]["mark"]] == [
        pytest.approx(0.001, rel=0.001),
        pytest.approx(0.002, rel=0.001),
    ]
    assert [rows[0]["count"], rows[-1]["frequency"]] == [1, 0.5]


def test_every_histogram_can_be_had_back() -> None:
    """All of them whole, so that runs can be merged and compared exactly."""
    lag = histogram([5, 6])
    host = HostResult("a:1", histogram([7]), Counter(OK=1))
    made = ordinary(3, of=plan(schedule=CONSTANT_RATE), send_lag=lag, hosts=[host])
    document = _document(made)

    def same(blob: str, original: LatencyHistogram) -> bool:
        decoded = LatencyHistogram.decode(blob)
        return bool((decoded.counts == original.counts).all())

    assert same(document["hdr"], made.latencies)
    assert same(document["sendLag"]["hdr"], lag)
    assert same(document["hosts"][0]["hdr"], host.latencies)
    assert [
        same(told["hdr"], each.latencies)
        for told, each in zip(document["intervals"], made.intervals, strict=True)
    ] == [True] * 3
    assert [told["statusCodeDistribution"] for told in document["intervals"]] == [
        {"OK": 500},
        {"OK": 500, "UNAVAILABLE": 1},
        {"OK": 500},
    ]


def test_what_ghz_does_not_tell_has_keys_of_its_own() -> None:
    seen: dict[str, Any] = {"missed": 1, "abandoned": 2, "starved": 3, "reconnects": 4, "engine_cpu": 0.5}
    made = ordinary(2, of=plan(schedule=CONSTANT_RATE, method=STREAM), bytes_sent=600, **seen)
    document = _document(made)
    assert [document[key] for key in ("missed", "abandoned", "starved", "reconnects")] == [1, 2, 3, 4]
    assert document["engineCpu"] == 0.5
    assert document["messages"] == {
        **{"sent": 1000, "received": 2000, "sentPerSecond": 500.0, "receivedPerSecond": 1000.0}
    }
    assert document["bytes"]["sentPerSecond"] == 300.0
    assert _document(ordinary())["sendLag"] is None


def test_options_have_the_names_of_ghz_and_durations_in_nanoseconds() -> None:
    assert _document(ordinary())["options"] == {
        "call": "tai.v1.Governor/HealthCheck",
        "host": "127.0.0.1:50051",
        "insecure": True,
        "loop": "closed",
        **{"concurrency": 50, "connections": 1, "total": 200, "warmup": 0},
        **{"timeout": 20_000_000_000, "dial-timeout": 10_000_000_000, "threads": 1},
        "max-recv-message-size": 67_108_864,
    }


def test_options_of_an_open_loop_say_its_schedule() -> None:
    constant = _document(ordinary(of=plan(schedule=CONSTANT_RATE, duration=1.5, total=None)))["options"]
    assert {key: constant[key] for key in ("loop", "rps", "arrivals", "latency-from", "duration")} == {
        **{"loop": "open", "rps": 1000.0, "arrivals": "uniform", "latency-from": "due"},
        "duration": 1_500_000_000,
    }
    assert "total" not in constant
    ramp = Schedule(segments=(Segment(5.0, 1.0, 9.0), Segment(None, 9.0, 9.0)), arrivals=Arrivals.POISSON)
    told = _document(ordinary(of=plan(schedule=ramp, closed=True)))["options"]
    assert (told["arrivals"], told["latency-from"]) == ("poisson", "sent")
    assert told["schedule"] == [
        {"duration": 5_000_000_000, "start": 1.0, "end": 9.0},
        {"duration": None, "start": 9.0, "end": 9.0},
    ]


def test_options_tell_no_keys() -> None:
    tls = TlsPlan(certificate=b"a certificate", key=b"a secret", verify=False, server_name="peer")
    text = to_json(ordinary(of=plan(tls=tls, authority="me", gzip=True)))
    options = json.loads(text)["options"]
    assert options["insecure"] is False
    assert (options["skipTLS"], options["cname"], options["authority"]) == (True, "peer", "me")
    assert options["enable-compression"] is True
    assert "secret" not in text


def test_options_of_a_stream() -> None:
    options = _document(
        ordinary(of=plan(method=STREAM, streaming=Streaming(interval=0.5, messages=7, duration=2.0)))
    )["options"]
    assert options["stream-interval"] == 500_000_000
    assert options["stream-call-count"] == 7
    assert options["stream-call-duration"] == 2_000_000_000


def test_a_run_without_a_good_call_has_a_report_all_the_same() -> None:
    document = _document(result([interval(0, [], failed=4)]))
    assert document["count"] == 4
    assert document["latencyDistribution"] == document["histogram"] == []
    assert document["average"] == 0


def test_a_name_that_is_no_unicode_does_not_break_the_report() -> None:
    """As an argument is that was given as other bytes than UTF-8."""
    made = ordinary(of=plan(name=b"caf\xe9".decode("utf-8", "surrogateescape")))
    assert json.loads(to_json(made).encode())["name"] == "caf?"


def test_hosts_have_figures_of_their_own() -> None:
    host = HostResult("a:1", histogram(latencies(1, 10)), Counter(OK=10, UNKNOWN=2))
    (told,) = _document(ordinary(hosts=[host]))["hosts"]
    assert (told["host"], told["count"]) == ("a:1", 12)
    assert told["slowest"] == host.latencies.max
