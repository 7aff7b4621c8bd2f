"""The report as metrics, read by Prometheus' own client."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from load.report.results import STREAM, histogram, interval, ordinary, plan, result
from tai_grpc.load.report.as_prometheus import to_prometheus
from tai_grpc.load.result import HostResult, LoadResult

CALL = {"grpc_type": "unary", "grpc_service": "tai.v1.Governor", "grpc_method": "HealthCheck"}


def _samples(made: LoadResult) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in text_string_to_metric_families(to_prometheus(made)):
        assert family.documentation
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def _value(made: LoadResult, name: str, **labels: str) -> float:
    return _samples(made)[name, frozenset(labels.items())]


def test_calls_are_counted_by_status_under_the_names_that_dashboards_read() -> None:
    made = ordinary(10, 500, abandoned=3)
    assert _value(made, "grpc_client_started_total", **CALL) == 5008
    assert _value(made, "grpc_client_handled_total", **CALL, grpc_code="OK") == 5000
    assert _value(made, "grpc_client_handled_total", **CALL, grpc_code="Unavailable") == 5
    assert _value(made, "grpc_client_msg_sent_total", **CALL) == 5000
    assert _value(made, "grpc_client_msg_received_total", **CALL) == 10_000


def test_codes_are_written_as_in_go() -> None:
    made = result([interval(0, [5])], statuses=Counter(DEADLINE_EXCEEDED=1, CANCELLED=2, OK=3))
    codes = {"DeadlineExceeded": 1, "Canceled": 2, "OK": 3}
    assert {
        code: _value(made, "grpc_client_handled_total", **CALL, grpc_code=code) for code in codes
    } == codes


def test_buckets_count_the_calls_up_to_their_bound() -> None:
    made = result([interval(0, [100_000] * 3 + [800_000] * 4 + [40_000_000_000])])
    name = "grpc_client_handling_seconds_bucket"
    bounds = {"0.00025": 3, "0.0005": 3, "0.001": 7, "10": 7, "+Inf": 8}
    assert {le: _value(made, name, **CALL, le=le) for le in bounds} == bounds
    assert _value(made, "grpc_client_handling_seconds_count", **CALL) == 8
    assert _value(made, "grpc_client_handling_seconds_sum", **CALL) == pytest.approx(40.0035, rel=0.001)


def test_quantiles_are_the_percentiles_in_seconds() -> None:
    made = ordinary()
    assert _value(made, "tai_load_latency_seconds", **CALL, quantile="0.999") == pytest.approx(
        made.latencies.percentile(99.9) / 1e9
    )
    assert _value(made, "tai_load_requests_per_second", **CALL) == made.rps


def test_a_stream_is_of_its_type() -> None:
    call = {"grpc_type": "server_stream", "grpc_service": "tai.v1.Governor", "grpc_method": "StreamPolicies"}
    assert _value(ordinary(1, of=plan(method=STREAM)), "grpc_client_started_total", **call) == 500


def test_hosts_are_told_apart() -> None:
    hosts = [
        HostResult("a:1", histogram([5]), Counter(OK=1)),
        HostResult("b:2", histogram(), Counter(UNKNOWN=2)),
    ]
    made = ordinary(hosts=hosts)
    assert _value(made, "tai_load_host_handled_total", **CALL, host="b:2", grpc_code="Unknown") == 2


def test_a_run_without_a_good_call_has_no_quantiles() -> None:
    names = {name for name, _ in _samples(result([interval(0, [], failed=1)]))}
    assert "tai_load_latency_seconds" not in names
    assert "tai_load_latency_seconds_count" in names


texts = st.text(st.characters(codec="utf-8"))


@given(texts, texts)
def test_every_name_and_tag_comes_through_as_it_is(name: str, tag: str) -> None:
    made = result(of=plan(name=name, tags={"my tag!": tag}))
    (labels,) = [dict(labels) for metric, labels in _samples(made) if metric == "tai_load_run_info"]
    expected: dict[str, Any] = {"name": name, "tag_my_tag_": tag}
    assert {key: labels[key] for key in expected} == expected
