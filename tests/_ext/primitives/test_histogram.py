import base64
import pickle
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import example, given
from hypothesis import strategies as st

from tai_grpc._ext.primitives.histogram import LatencyHistogram
from tai_grpc.errors import ConfigError

PERCENTILES = (0.0, 0.01, 1.0, 25.0, 50.0, 90.0, 99.0, 99.9, 99.999, 100.0)
LAYOUTS = [
    (1, 60_000_000, 3),
    (1, 2, 1),
    (1, 2047, 3),
    (1, 2048, 3),
    (1, 10**12, 2),
    (1000, 10**9, 4),
    (7, 10**6, 1),
]

layouts = st.tuples(st.integers(1, 10_000), st.integers(20_000, 10**10), st.integers(1, 3))
values = st.lists(st.one_of(st.integers(0, 20_000), st.integers(0, 10**10)), max_size=200)


def recorded(layout: tuple[int, int, int], data: list[int]) -> tuple[LatencyHistogram, HdrHistogram]:
    """Ours and the oracle's, with the same data as far as it fits."""
    ours, oracle = LatencyHistogram(*layout), HdrHistogram(*layout)
    for value in data:
        if value <= layout[1]:
            ours.record(value)
            assert oracle.record_value(value)
    return ours, oracle


@given(layout=layouts, data=values)
@example(layout=(1, 60_000_000, 3), data=[0])
@example(layout=(2, 20_000, 1), data=[0, 20_001])
@example(layout=(1, 60_000_000, 3), data=[0, 1, 2047, 2048, 2049, 4095, 4096, 60_000_000])
def test_it_is_the_histogram_of_the_hdrhistogram_package(
    layout: tuple[int, int, int], data: list[int]
) -> None:
    """Counts, count, extremes, mean, percentiles and encoding, equal to the last digit and byte."""
    ours, oracle = recorded(layout, data)
    assert ours.counts.tolist() == list(oracle.counts)
    assert ours.count == oracle.get_total_count()
    assert ours.mean == oracle.get_mean_value()
    assert ours.min == oracle.get_min_value()
    if any(value <= layout[1] for value in data if value):  # of zeros alone the oracle says 0
        assert ours.max == oracle.get_max_value()
    for percentile in PERCENTILES:
        assert ours.percentile(percentile) == oracle.get_value_at_percentile(percentile)
    assert ours.percentiles(PERCENTILES) == [oracle.get_value_at_percentile(p) for p in PERCENTILES]
    assert ours.encode() == oracle.encode()


@given(
    layout=layouts,
    data=values,
    percentiles=st.lists(st.one_of(st.sampled_from(PERCENTILES), st.floats(0, 100)), max_size=20),
)
def test_percentiles_are_the_percentile_of_each_in_their_order(
    layout: tuple[int, int, int], data: list[int], percentiles: list[float]
) -> None:
    ours, _ = recorded(layout, data)
    assert ours.percentiles(iter(percentiles)) == [ours.percentile(each) for each in percentiles]


@given(
    layout=layouts,
    data=st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 30_000)), max_size=20),
)
@example(layout=(1, 20_000, 3), data=[(10, 3), (9, 3), (3, 3), (2, 3), (7, 0), (20_000, 1)])
def test_a_corrected_record_is_the_oracles(layout: tuple[int, int, int], data: list[tuple[int, int]]) -> None:
    ours, oracle = LatencyHistogram(*layout), HdrHistogram(*layout)
    for us, expected_interval in data:
        ours.record_corrected(us, expected_interval)
        assert oracle.record_corrected_value(us, expected_interval)
    assert ours.counts.tolist() == list(oracle.counts)


def test_a_corrected_record_over_the_highest_is_clamped_until_it_fits() -> None:
    histogram = LatencyHistogram(1, 1000, 3)
    histogram.record_corrected(1250, 100)
    expected = LatencyHistogram(1, 1000, 3)
    expected.record_many(range(1250, 0, -100))
    assert np.array_equal(histogram.counts, expected.counts)
    assert histogram.clamped == expected.clamped == 3


def test_a_short_interval_takes_no_longer_and_never_wraps_around() -> None:
    """2^61 values by one call; the third call would pass 2^62, and counts nothing."""
    histogram = LatencyHistogram(1, 2**61, 1)
    histogram.record_corrected(2**61, 1)
    assert histogram.count == 2**61
    histogram.record_corrected(2**61, 1)
    with pytest.raises(OverflowError, match="at most 2"):
        histogram.record_corrected(2**61, 1)
    with pytest.raises(OverflowError, match="at most 2"):
        histogram.merge(histogram)
    assert histogram.count == 2**62
    back = LatencyHistogram.decode(histogram.encode())
    assert back.count == 2**62
    assert histogram.mean == pytest.approx(2**60, rel=0.1)


def test_a_pickle_is_of_the_counts() -> None:
    histogram = LatencyHistogram(1, 10**9, 2)
    for value in (0, 17, 10**8):
        histogram.record(value)
    back = pickle.loads(pickle.dumps(histogram))
    assert back.counts.tolist() == histogram.counts.tolist()
    assert (back.lowest, back.highest, back.significant_digits) == (1, 10**9, 2)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_has_the_oracles_size_and_holds_its_ends(layout: tuple[int, int, int]) -> None:
    ours, oracle = recorded(layout, [0, 1, layout[0], layout[1] - 1, layout[1]])
    assert ours.counts.tolist() == list(oracle.counts)
    assert (ours.lowest, ours.highest, ours.significant_digits) == layout
    assert ours.clamped == 0


@given(st.data(), st.integers(1, 5))
def test_every_value_keeps_its_significant_digits(data: st.DataObject, digits: int) -> None:
    value = data.draw(st.integers(0, 10**9))
    histogram = LatencyHistogram(1, 10**9, digits)
    histogram.record(value)
    assert histogram.min <= value <= histogram.max
    assert histogram.max - histogram.min <= value / 10**digits


@given(layout=layouts, data=values)
def test_what_is_encoded_is_decoded_by_both(layout: tuple[int, int, int], data: list[int]) -> None:
    ours, oracle = recorded(layout, data)
    blob = ours.encode()
    assert blob.startswith(b"HISTFAAA")
    for back in (LatencyHistogram.decode(blob), LatencyHistogram.decode(oracle.encode().decode())):
        assert (back.lowest, back.highest, back.significant_digits) == layout
        assert np.array_equal(back.counts, ours.counts)
    assert list(HdrHistogram.decode(blob).counts) == ours.counts.tolist()


def test_counts_of_any_size_are_encoded() -> None:
    histogram = LatencyHistogram(1, 1000, 3)
    histogram.record_many([1] * 100 + [2] * 10_000 + [1000])
    for _ in range(40):
        histogram.merge(histogram)
    back = LatencyHistogram.decode(histogram.encode())
    assert back.count == 10_101 * 2**40
    assert np.array_equal(back.counts, histogram.counts)
    assert list(HdrHistogram.decode(histogram.encode()).counts) == histogram.counts.tolist()


def blob_of(payload: bytes, *, header: bytes | None = None) -> bytes:
    whole = header or bytes.fromhex("1c849313") + len(payload).to_bytes(4, "big") + bytes(4)
    whole += (3).to_bytes(4, "big") + (1).to_bytes(8, "big") + (1000).to_bytes(8, "big")
    whole += bytes.fromhex("3ff0000000000000") + payload
    packed = zlib.compress(whole)
    return base64.b64encode(bytes.fromhex("1c849314") + len(packed).to_bytes(4, "big") + packed)


def test_a_hand_made_blob_is_read() -> None:
    """A count of 3, five without any, a count of 1."""
    histogram = LatencyHistogram.decode(blob_of(b"\x06\x09\x02"))
    assert histogram.counts.tolist()[:8] == [3, 0, 0, 0, 0, 0, 1, 0]
    assert histogram.count == 4


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"HISTFAAA",
        b"not base64!",
        base64.b64encode(bytes(8)),
        base64.b64encode(bytes.fromhex("1c849314") + bytes(4)),
        base64.b64encode(bytes.fromhex("1c8493140000000900") + b"not zlib"),
        LatencyHistogram().encode()[:-4],
        LatencyHistogram().encode() + b"AAAA",
        blob_of(b"", header=bytes.fromhex("1c849303") + bytes(8)),
        blob_of(b"", header=bytes.fromhex("1c84931300000001") + bytes(4)),
        blob_of(b"", header=bytes.fromhex("1c84931300000000") + b"\0\0\0\1"),
        blob_of(b"\x80"),
        blob_of(b"\xff" * 8),
        blob_of(b"\xff" * 9),
        blob_of(b"\xfe" + b"\xff" * 8),
        blob_of(b"\x02" * 5_000),
        blob_of(b"\xff" * 3),
        blob_of(b"\x02" * 100_000),
        None,
        5,
    ],
)
def test_a_blob_that_is_none_is_refused(blob: bytes) -> None:
    with pytest.raises(ValueError, match="not an HdrHistogram V2 blob"):
        LatencyHistogram.decode(blob)


@given(st.binary(max_size=60))
def test_counts_of_garbage_are_refused_or_read_but_never_beyond_the_end(payload: bytes) -> None:
    try:
        histogram = LatencyHistogram.decode(blob_of(payload))
    except ValueError as error:
        assert "counts are wrong" in str(error)
    else:
        assert histogram.count == sum(histogram.counts.tolist())


def test_what_is_over_the_highest_counts_as_the_highest_and_is_told() -> None:
    histogram = LatencyHistogram(1, 1000, 3)
    for value in (1000, 1001, 10**30):
        histogram.record(value)
    histogram.record_many(np.array([5, 2**63, 2**64 - 1], dtype=np.uint64))
    assert (histogram.count, histogram.clamped, histogram.max, histogram.min) == (6, 4, 1000, 5)


@given(
    data=st.lists(st.integers(0, 10**8), max_size=300),
    dtype=st.sampled_from(["int64", "uint32", ">i8", "uint64"]),
)
def test_record_many_is_record_for_each(data: list[int], dtype: str) -> None:
    one_by_one, at_once = LatencyHistogram(), LatencyHistogram()
    for value in data:
        one_by_one.record(value)
    array = np.repeat(np.array(data, dtype=dtype), 2)
    at_once.record_many(array[::2])
    assert np.array_equal(one_by_one.counts, at_once.counts)
    assert one_by_one.clamped == at_once.clamped


@pytest.mark.parametrize("bad", [[1, 2, -3], [1.5], ["1"], [True], [[1]], 5, None, [None], [2**70]])
def test_record_many_takes_ints_only_and_all_or_none(bad: object) -> None:
    histogram = LatencyHistogram()
    with pytest.raises(ConfigError, match="values"):
        histogram.record_many(bad)  # type: ignore[arg-type]  # what is tested
    assert histogram.count == 0


@given(first=st.lists(st.integers(0, 10**6)), second=st.lists(st.integers(0, 10**6)), layout=layouts)
def test_merge_adds_every_count(first: list[int], second: list[int], layout: tuple[int, int, int]) -> None:
    ours, theirs = LatencyHistogram(), LatencyHistogram()
    ours.record_many(first)
    theirs.record_many(second)
    ours.merge(theirs)
    both = LatencyHistogram()
    both.record_many(first + second)
    assert np.array_equal(ours.counts, both.counts)
    other = LatencyHistogram(*layout)
    other.merge(both)
    assert other.count == both.count


@given(first=values, second=values, layout=layouts)
def test_merge_is_the_oracles_add(first: list[int], second: list[int], layout: tuple[int, int, int]) -> None:
    ours, oracle = recorded((1, 10**10, 3), first)
    others, oracles_other = recorded(layout, second)
    ours.merge(others)
    oracle.add(oracles_other)
    assert ours.counts.tolist() == list(oracle.counts)


@given(first=values, second=values, layout=layouts)
@example(first=[5], second=[30_000, 7], layout=(1, 20_000, 1))
def test_subtract_undoes_merge(first: list[int], second: list[int], layout: tuple[int, int, int]) -> None:
    """In any layout, clamped values and all."""
    histogram, other = LatencyHistogram(*layout), LatencyHistogram(1, 10**10, 3)
    histogram.record_many(first)
    other.record_many(second)
    before, clamped = histogram.counts.copy(), histogram.clamped
    histogram.merge(other)
    histogram.subtract(other)
    assert np.array_equal(histogram.counts, before)
    assert histogram.clamped == clamped
    histogram.subtract(histogram)
    assert (histogram.count, histogram.clamped) == (0, 0)


def test_subtract_never_goes_below_zero_and_then_changes_nothing() -> None:
    histogram, other = LatencyHistogram(1, 1000, 3), LatencyHistogram(1, 1000, 3)
    histogram.record_many([1, 1, 2, 3, 700])
    other.record_many([1, 2, 700, 700])
    before = histogram.counts.copy()
    with pytest.raises(ConfigError, match=r"other=.*at most what this one counts: 1 of the value 700, not 2"):
        histogram.subtract(other)
    assert np.array_equal(histogram.counts, before)
    other.reset()
    other.record(5000)
    histogram.record(1000)
    with pytest.raises(ConfigError, match="0 above `highest`, not 1"):
        histogram.subtract(other)
    assert histogram.count == 6
    with pytest.raises(ConfigError, match="other=None: expected a LatencyHistogram"):
        histogram.subtract(None)  # type: ignore[arg-type]  # what is tested


def test_an_interval_takes_the_counts_along() -> None:
    histogram = LatencyHistogram(2, 1000, 2)
    histogram.record_many([1, 500, 5000])
    interval = histogram.interval_histogram()
    assert (interval.lowest, interval.highest, interval.significant_digits) == (2, 1000, 2)
    assert (interval.count, interval.clamped, histogram.count, histogram.clamped) == (3, 1, 0, 0)
    histogram.record(7)
    assert histogram.interval_histogram().count == 1
    assert interval.count == 3


def test_merge_takes_the_clamped_along() -> None:
    small, large = LatencyHistogram(1, 1000, 3), LatencyHistogram(1, 10_000, 3)
    large.record_many([500, 5000, 50_000])
    small.merge(large)
    assert (small.count, small.clamped, small.max) == (3, 3, 1000)
    with pytest.raises(ConfigError, match="other=None: expected a LatencyHistogram"):
        small.merge(None)  # type: ignore[arg-type]  # what is tested


def test_counts_are_the_live_counts_and_cannot_be_written() -> None:
    histogram = LatencyHistogram()
    counts = histogram.counts
    assert counts[7] == 0
    histogram.record(7)
    assert counts[7] == 1
    with pytest.raises(ValueError, match="read-only"):
        counts[7] = 2
    with pytest.raises(ValueError, match="WRITEABLE"):
        counts.flags.writeable = True
    view = memoryview(histogram)
    assert (view.readonly, view.format, view.shape) == (True, "q", (len(counts),))
    del histogram
    assert counts[7] == 1, "the view keeps the memory"


def test_reset_forgets_everything() -> None:
    histogram = LatencyHistogram(1, 1000, 3)
    histogram.record_many([1, 500, 5000])
    histogram.reset()
    assert (histogram.count, histogram.clamped, histogram.counts.sum()) == (0, 0, 0)


def test_an_empty_one_says_zero() -> None:
    histogram = LatencyHistogram()
    empty = (histogram.count, histogram.min, histogram.max, histogram.mean, histogram.percentile(99.9))
    assert empty == (0, 0, 0, 0.0, 0)
    assert repr(histogram) == "<LatencyHistogram count=0 min=0 max=0>"


def test_eight_threads_lose_no_record(hammer: Callable[[Callable[[], None]], list[None]]) -> None:
    """A million records each: nine tenths of them at once, which leaves the others running."""
    histogram = LatencyHistogram()
    data = np.arange(100_000)

    def work() -> None:
        for value in range(100_000):
            histogram.record(value)
        for _ in range(9):
            histogram.record_many(data)

    hammer(work)
    alone = LatencyHistogram()
    for _ in range(8 * 10):
        alone.record_many(data)
    assert np.array_equal(histogram.counts, alone.counts)


def test_intervals_taken_while_eight_threads_record_hold_every_record_once(
    hammer: Callable[[Callable[[], None]], list[None]],
) -> None:
    histogram = LatencyHistogram(1, 10_000, 2)
    data = np.arange(20_000)
    intervals: list[LatencyHistogram] = []

    def work() -> None:
        for value in range(5_000):
            histogram.record(value)
            if value % 100 == 0:
                intervals.append(histogram.interval_histogram())
                histogram.record_many(data)

    hammer(work)
    total = histogram.interval_histogram()
    for interval in intervals:
        total.merge(interval)
    alone = LatencyHistogram(1, 10_000, 2)
    for _ in range(8):
        alone.record_many(data[:5_000])
        for _ in range(50):
            alone.record_many(data)
    assert np.array_equal(total.counts, alone.counts)
    assert total.clamped == alone.clamped
    assert histogram.count == 0


@pytest.mark.parametrize("us", [-1, -(2**70), 1.0, True, None, "1"])
def test_a_wrong_value_is_refused(us: int) -> None:
    histogram = LatencyHistogram()
    with pytest.raises(ConfigError, match=r"us=.*an int of at least 0"):
        histogram.record(us)
    with pytest.raises(ConfigError, match=r"us=.*an int of at least 0"):
        histogram.record_corrected(us, 1)
    with pytest.raises(ConfigError, match=r"expected_interval=.*an int of at least 0"):
        histogram.record_corrected(1, us)
    assert histogram.count == 0


@pytest.mark.parametrize("percentile", [-0.1, 100.1, float("nan"), float("inf"), True, None, "50"])
def test_a_wrong_percentile_is_refused(percentile: float) -> None:
    with pytest.raises(ConfigError, match=r"percentile=.*a number from 0 to 100"):
        LatencyHistogram().percentile(percentile)
    with pytest.raises(ConfigError, match=r"percentiles\[1\]=.*a number from 0 to 100"):
        LatencyHistogram().percentiles([50, percentile])


@pytest.mark.parametrize(
    ("layout", "field"),
    [
        ((0, 1000, 3), "lowest"),
        ((-1, 1000, 3), "lowest"),
        ((2**40 + 1, 2**60, 3), "lowest"),
        ((True, 1000, 3), "lowest"),
        ((1.0, 1000, 3), "lowest"),
        ((501, 1000, 3), "highest"),
        ((1, 1, 3), "highest"),
        ((1, 2**61 + 1, 3), "highest"),
        ((1, 2.5, 3), "highest"),
        ((1, None, 3), "highest"),
        ((1, 1000, 0), "significant_digits"),
        ((1, 1000, 6), "significant_digits"),
        ((1, 1000, "3"), "significant_digits"),
    ],
)
def test_the_layout_is_checked(layout: tuple[int, int, int], field: str) -> None:
    with pytest.raises(ConfigError, match=f"{field}=.*an int from"):
        LatencyHistogram(*layout)
