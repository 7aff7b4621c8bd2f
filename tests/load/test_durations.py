import pytest

from tai_grpc.load.durations import format_duration, parse_duration
from tai_grpc.load.errors import RequestError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("20s", 20),
        ("1m30s", 90),
        ("250ms", 0.25),
        ("1h", 3600),
        ("1.5s", 1.5),
        ("10us", 1e-5),
        ("5", 5),
        (".5", 0.5),
    ],
)
def test_a_go_duration_is_read_as_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "20 s", "-5s", "20x", "1s2", "nan", "inf", "1e3", "s20"])
def test_anything_else_is_refused_and_an_example_given(text: str) -> None:
    with pytest.raises(RequestError, match="write it like 20s"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("ns", "text"),
    [(0, "0 ns"), (999, "999 ns"), (1_000, "1.00 us"), (2_500_000, "2.50 ms"), (61e9, "61.00 s")],
)
def test_a_duration_is_shown_in_the_largest_unit_that_fits(ns: float, text: str) -> None:
    assert format_duration(ns) == text
