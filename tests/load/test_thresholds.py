"""What makes a run fail."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from load.report.results import histogram, interval, result
from tai_grpc.load.errors import RequestError
from tai_grpc.load.result import LoadResult
from tai_grpc.load.thresholds import FORMS, breaches, parse_threshold


@pytest.fixture(autouse=True)
def transport() -> None:
    """Thresholds are the same on each transport: here no test runs twice."""


def _run(**changes: Any) -> LoadResult:
    """100 calls a second; 97 take 1 ms, 2 take 8 ms, 1 takes 50 ms, and 1 failed."""
    latencies = [1_000_000] * 97 + [8_000_000] * 2 + [50_000_000]
    return result([interval(0, latencies, failed=1)], **changes)


def _fails(text: str, made: LoadResult) -> bool:
    return parse_threshold(text).breach(made) is not None


@pytest.mark.parametrize(
    ("text", "fails"),
    [
        *(("p50>1.1ms", False), ("p50>900us", True), ("p99>5ms", True), ("p99<5ms", False)),
        *(("p99.9>=10ms", True), ("p99.9>=1s", False), ("p100<1s", True), ("p0>0.9ms", True)),
        *(("avg>1ms", True), ("average>2ms", False), ("avg<1ms", False)),
        *(("max>49ms", True), ("slowest>51ms", False), ("min<2ms", True), ("fastest>2ms", False)),
        *(("errors>0.9%", True), ("errors>1%", False), ("errors>=1", True), ("errors>1", False)),
        *(("rps<101", False), ("rps<102", True), ("rps>=101", True)),
        *(("count<101", False), ("count<=101", True), ("missed>0", False), ("missed>0%", False)),
        *((" p99 > 5ms ", True), ("p99>1m30s", False)),
    ],
)
def test_a_run_fails_when_the_expression_is_true_of_it(text: str, *, fails: bool) -> None:
    assert _fails(text, _run()) is fails


def test_missed_sends_count_against_those_that_were_due() -> None:
    made = _run(missed=101)
    assert _fails("missed>100", made)
    assert _fails("missed>49%", made)
    assert not _fails("missed>50%", made)


@pytest.mark.parametrize("sign", [">", ">=", "<", "<="])
@pytest.mark.parametrize("name", ["p99", "avg", "min", "max", "p0"])
def test_latencies_fail_when_no_call_succeeded(name: str, sign: str) -> None:
    made = result([interval(0, [], failed=5)])
    breach = parse_threshold(f"{name}{sign}1h").breach(made)
    assert str(breach) == f"{name}{sign}1h: not known, as no call succeeded"


def test_a_share_fails_when_no_call_ended() -> None:
    assert _fails("errors>50%", result())
    assert not _fails("errors>0", result())
    assert _fails("rps<1", result())


def test_what_failed_is_told_with_what_was_measured_in_order() -> None:
    texts = ["p99>5ms", "rps>1000", "errors>0.1%", "count<5000", "p99.9>5ms"]
    found = breaches(map(parse_threshold, texts), _run())
    assert [str(breach) for breach in found] == [
        "p99>5ms: it was 8.00 ms",
        "errors>0.1%: it was 0.9901% (1 of 101)",
        "count<5000: it was 101",
        "p99.9>5ms: it was 50.00 ms",
    ]


@pytest.mark.parametrize(
    "text",
    [
        *("", "p99", ">5ms", "p99=5ms", "p99==5ms", "p99!=5ms", "p99>", "p99>5ms,p50>1ms", "99>5ms"),
        *("p>5ms", "p101>5ms", "p9.9.9>5ms", "p99>5", "p99>5mss", "p99>-5ms", "p99>5%", "avg>x", "avg9>5ms"),
        *("rps<10k", "rps<5ms", "rps<nan", "count>5%", "errors>101%", "errors>%", "errors>1e3", "errors9>1"),
        *("speed>5", "P99>5ms", "p99>5ms p50", "p99>inf", "missed>0x1", "p99><5ms", "p99>5 ms"),
    ],
)
def test_what_is_no_threshold_is_one_clear_line(text: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_threshold(text)
    message = str(caught.value)
    assert repr(text) in message
    assert "\n" not in message


def test_what_cannot_be_read_names_all_forms() -> None:
    with pytest.raises(
        RequestError, match="'latency>5ms': 'latency' is no figure of a run: write NAME"
    ) as caught:
        parse_threshold("latency>5ms")
    assert FORMS in str(caught.value)


@given(st.text(max_size=12))
def test_any_text_is_a_threshold_or_a_request_error(text: str) -> None:
    try:
        threshold = parse_threshold(text)
    except RequestError:
        return
    threshold.breach(_run())


@given(
    st.lists(st.integers(1, 10**12), min_size=1, max_size=50),
    st.floats(0, 100),
    st.integers(1, 10**9),
)
def test_a_percentile_above_its_limit_fails_and_one_below_does_not(
    values: list[int], percentage: float, limit_us: int
) -> None:
    latencies = histogram(values)
    made = result(latencies=latencies, statuses=Counter(OK=len(values)))
    above = latencies.percentile(float(f"{percentage:.6f}")) > limit_us * 1000
    assert _fails(f"p{percentage:.6f}>{limit_us}us", made) is above
    assert _fails(f"p{percentage:.6f}<={limit_us}us", made) is not above
