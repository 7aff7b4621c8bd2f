import os
import subprocess
import sys
from enum import IntEnum
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tai_grpc._ext.primitives.clock import FrozenClock
from tai_grpc._ext.primitives.keyed import MAX_KEYS, KeyedTokenBucket, siphash13
from tai_grpc.errors import ConfigError, RateLimitedError

SLOTS = 16
"""Of a table for up to 8 keys: every key may be in each of them."""


class PlainTable:
    """Buckets in a dict, in 1/16 ns: those in debt are kept, and never more than there are slots."""

    def __init__(self, rate: float, burst: int) -> None:
        self.interval = ceil(Fraction(16 * 10**9) / Fraction(rate))
        self.burst = burst
        self.now = 0
        self.arrivals: dict[int, int] = {}

    def advance(self, nanoseconds: int) -> None:
        self.now += 16 * nanoseconds
        self.arrivals = {key: arrival for key, arrival in self.arrivals.items() if arrival > self.now}

    def wait(self, key: int, n: int) -> int:
        """Nanoseconds."""
        if key not in self.arrivals and len(self.arrivals) == SLOTS:
            return -(-(min(self.arrivals.values()) - self.now) // 16)
        later = self.arrivals.get(key, self.now) - self.now
        return max(0, -(-(later + n * self.interval - self.burst * self.interval) // 16))

    def take(self, key: int, n: int) -> None:
        self.arrivals[key] = self.arrivals.get(key, self.now) + n * self.interval


@given(
    rate=st.floats(0.5, 1000.0),
    burst=st.integers(1, 4),
    max_keys=st.integers(1, 8),
    steps=st.lists(
        st.tuples(
            st.sampled_from([0, 0, 0, 1, 500_000, 10**8, 3 * 10**9]), st.integers(0, 23), st.integers(1, 4)
        ),
        max_size=150,
    ),
)
def test_it_admits_what_a_dict_of_buckets_admits(
    rate: float, burst: int, max_keys: int, steps: list[tuple[int, int, int]]
) -> None:
    """No key in debt is forgotten, every other one is as good as new, and only with 16 in debt is a 17th
    refused, for as long as the first of them is."""
    plain = PlainTable(rate, burst)
    with FrozenClock() as clock:
        table = KeyedTokenBucket(rate, burst, max_keys)
        for nanoseconds, key, wanted in steps:
            n = min(wanted, burst)
            clock.advance(nanoseconds * 1e-9)
            plain.advance(nanoseconds)
            wait = plain.wait(key, n)
            assert round(table.wait_time(key, n) * 1e9) == wait
            assert table.try_acquire(key, n) is (wait == 0)
            if wait == 0:
                plain.take(key, n)


@given(
    steps=st.lists(st.tuples(st.integers(0, 400_000_000), st.integers(0, 40)), min_size=20, max_size=150),
    burst=st.integers(1, 3),
)
def test_no_window_of_a_key_sees_more_than_its_burst_and_rate(
    steps: list[tuple[int, int]], burst: int
) -> None:
    """Also while there are more keys than slots, and each is forgotten and met again."""
    rate = 2.0
    admitted: dict[int, list[int]] = {}
    with FrozenClock() as clock:
        table = KeyedTokenBucket(rate, burst, max_keys=1)
        for nanoseconds, key in steps:
            clock.advance(nanoseconds * 1e-9)
            if table.try_acquire(key):
                admitted.setdefault(key, []).append(clock.now_ns)
    for times in admitted.values():
        for first, start in enumerate(times):
            for count, end in enumerate(times[first:], 1):
                assert count <= burst + Fraction(rate) * (end - start) / 10**9


@pytest.mark.parametrize("max_keys", [1, 8, 9, 100, 10_000])
def test_as_many_as_promised_may_be_in_debt_and_none_of_them_is_forgotten(
    clock: FrozenClock, max_keys: int
) -> None:
    table = KeyedTokenBucket(rate=1.0, burst=1, max_keys=max_keys)
    assert all(table.try_acquire(key) for key in range(max_keys))
    assert not any(table.try_acquire(key) for key in range(max_keys))
    assert {table.wait_time(key) for key in range(max_keys)} == {1.0}


def test_a_key_whose_debt_is_paid_makes_room_and_nobody_else_does(clock: FrozenClock) -> None:
    table = KeyedTokenBucket(rate=1.0, burst=2, max_keys=8)
    for key in range(SLOTS):
        assert table.try_acquire(key, 1 if key == 5 else 2)
    assert not table.try_acquire("new")
    # A slot changes hands once it has been full for 1/16 ns.
    assert table.wait_time("new") == 1.000000001, "that of key 5"
    with pytest.raises(RateLimitedError, match=r"try again in 1\.000 s") as refused:
        table.check("new")
    assert refused.value.retry_after == 1.000000001
    clock.advance(1.0)
    assert not table.try_acquire("new")
    clock.advance(1e-9)
    assert table.try_acquire("new", 2)
    assert not table.try_acquire("newer")
    assert not any(table.try_acquire(key, 2) for key in range(SLOTS)), "one of each one's tokens is back"
    assert [key for key in range(SLOTS) if not table.try_acquire(key)] == [5]


def test_a_flood_of_keys_needs_no_more_memory_and_buys_nothing(clock: FrozenClock) -> None:
    table = KeyedTokenBucket(rate=1.0, burst=1, max_keys=1000)
    size = table.size_bytes
    assert table.try_acquire("victim")
    admitted = sum(table.try_acquire(key) for key in range(100_000))
    assert 999 <= admitted < 2000, "at most as many as there are slots"
    assert not table.try_acquire("victim")
    clock.advance(1.0)
    assert table.try_acquire("victim")
    assert table.size_bytes == size == 64 + 2000 * 16


class Number(IntEnum):
    ONE = 1


def test_equal_keys_are_one_and_different_ones_are_not(clock: FrozenClock) -> None:
    table = KeyedTokenBucket(rate=1.0, burst=1, max_keys=100)
    words: list[str | bytes | int] = [
        "1",
        "",
        "\0",
        "é",
        "𝄞",
        "\udc80",
        "\u0131",
        "1\x01",
        "a" * 999,
        "a" * 1000,
    ]
    others: list[str | bytes | int] = [
        b"1",
        1,
        -1,
        b"",
        0,
        b"\0",
        "é".encode(),
        b"a" * 1000,
        2**63 - 1,
        -(2**63),
    ]
    distinct = words + others
    for key in distinct:
        assert table.try_acquire(key), key
    for key in distinct:
        assert not table.try_acquire(key), key
    assert not table.try_acquire("".join(["é"]))
    assert not table.try_acquire(Number.ONE)


def test_each_table_has_a_hash_of_its_own(clock: FrozenClock) -> None:
    """Nobody can find out offline which keys share their slots: those that are refused differ."""

    def refused() -> list[int]:
        table = KeyedTokenBucket(rate=1.0, burst=1, max_keys=100)
        return [key for key in range(2000) if not table.try_acquire(key)]

    assert refused() != refused()


@pytest.mark.parametrize("length", [*range(1, 18), 63, 64, 65, 300])
def test_the_hash_is_cpythons_own(length: int) -> None:
    """CPython hashes bytes with SipHash-1-3, too, and with the key 0 when PYTHONHASHSEED is 0."""
    data = bytes(range(256)) * 2
    code = f"import sys; assert sys.hash_info.algorithm == 'siphash13'; print(hash({data[:length]!r}))"
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    assert siphash13(0, 0, data[:length]) == int(run.stdout) % 2**64


def test_it_says_what_it_is() -> None:
    table = KeyedTokenBucket(rate=2.5, burst=7, max_keys=10)
    assert (table.rate, table.burst, table.max_keys) == (2.5, 7, 10)
    assert table.size_bytes == 64 + 3 * 128


@pytest.mark.parametrize("key", [None, 1.0, True, ("a",), bytearray(b"a"), 2**63, -(2**63) - 1])
def test_the_key_is_checked(key: str) -> None:
    table = KeyedTokenBucket(1.0, 1, 1)
    for ask in (table.try_acquire, table.check, table.wait_time):
        with pytest.raises(ConfigError, match=r"key=.*a str, bytes, or an int from -2\^63"):
            ask(key)


@pytest.mark.parametrize("n", [0, -1, 11, 2**64, 1.0, True, None, "1"])
def test_tokens_that_could_never_be_there_are_refused(n: int) -> None:
    table = KeyedTokenBucket(rate=1.0, burst=10, max_keys=1)
    for ask in (table.try_acquire, table.check, table.wait_time):
        with pytest.raises(ConfigError, match=r"n=.*an int from 1 to 10"):
            ask("key", n)
    assert table.try_acquire("key", 10)


@pytest.mark.parametrize("max_keys", [0, -1, MAX_KEYS + 1, 2**64, 1.0, True, None, "1"])
def test_the_number_of_keys_is_checked(max_keys: int) -> None:
    with pytest.raises(ConfigError, match=r"max_keys=.*an int from 1 to 100000000"):
        KeyedTokenBucket(1.0, 1, max_keys)


def test_the_rate_and_the_burst_are_checked_as_a_buckets() -> None:
    with pytest.raises(ConfigError, match=r"rate=nan: .*a number above 0"):
        KeyedTokenBucket(float("nan"), 1, 1)
    with pytest.raises(ConfigError, match=r"burst=0: .*an int from 1"):
        KeyedTokenBucket(1.0, 0, 1)
    with pytest.raises(ConfigError, match=r"burst=2: .*a year of rate="):
        KeyedTokenBucket(1 / 31_536_000, 2, 1)
