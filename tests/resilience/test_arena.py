import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tai_grpc._ext.primitives.clock import FrozenClock
from tai_grpc.config import CircuitBreakerConfig, Window
from tai_grpc.errors import ArenaError, ConfigError
from tai_grpc.resilience.arena import Arena
from tai_grpc.resilience.circuit_breaker import CallOutcome, CircuitState
from tai_grpc.resilience.limits import TokenBucket

SIZE = 1 << 18


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "arena"


def test_a_breaker_is_one_for_all(path: Path) -> None:
    config = CircuitBreakerConfig(failure_threshold=2, open_timeout=5.0)
    with FrozenClock() as clock:
        first, second = (Arena(path, SIZE).breaker("db", config) for _ in range(2))
        heard: list[tuple[CircuitState, CircuitState]] = []
        second.on_transition(lambda old, new: heard.append((old, new)))
        first.record_failure()
        second.record_failure()
        assert (first.state, second.state) == (CircuitState.OPEN, CircuitState.OPEN)
        assert heard == [(CircuitState.CLOSED, CircuitState.OPEN)]
        clock.advance(5.1)
        permits = [first.acquire(), second.acquire(), first.acquire(), second.acquire()]
        assert permits[3] == -1
        for permit in permits[:3]:
            second.settle(permit, CallOutcome.SUCCESS)
        assert (first.state, first.name) == (CircuitState.CLOSED, "db")


def test_a_window_is_one_for_all(path: Path) -> None:
    config = CircuitBreakerConfig(window=Window.COUNT, window_size=10, minimum_calls=10)
    first, second = (Arena(path, SIZE).breaker("db", config) for _ in range(2))
    for breaker in (first, second) * 2:
        breaker.record_success()
        breaker.record_failure()
    assert first.metrics() == second.metrics()
    first.record_success()
    assert second.state is CircuitState.CLOSED
    second.record_failure()
    assert (first.state, second.state) == (CircuitState.OPEN, CircuitState.OPEN)


async def test_a_token_bucket_is_one_for_all(path: Path) -> None:
    with FrozenClock():
        first, second = (Arena(path, SIZE).token_bucket("api", 10.0, 5) for _ in range(2))
        assert isinstance(first, TokenBucket)
        await first.acquire(3)
        assert not second.try_acquire(3)
        assert second.try_acquire(2)
        assert first.wait_time() == second.wait_time() == pytest.approx(0.1)


def test_a_retry_budget_is_one_for_all(path: Path) -> None:
    first, second = (Arena(path, SIZE).retry_budget("api", 4, 0.5) for _ in range(2))
    first.record_failure()
    second.record_failure()
    assert not first.try_retry()
    second.record_success()
    assert first.tokens == 2.5
    assert first.max_tokens == 4


def test_counter_and_histogram_are_one_for_all(path: Path) -> None:
    arenas = [Arena(path, SIZE) for _ in range(2)]
    first, second = (arena.counter("calls") for arena in arenas)
    first.add(40)
    second.add(2)
    assert first.value == second.value == 42
    one, other = (arena.histogram("us", 1, 10_000, 2) for arena in arenas)
    one.record_many([1, 10, 20_000])
    assert (other.count, other.clamped, other.max) == (3, 1, one.max)
    assert other.encode() == one.encode()
    assert other.interval_histogram().count == 3
    assert one.count == one.counts.sum() == 0


def test_what_it_is(path: Path) -> None:
    arena = Arena(path, SIZE)
    arena.counter("calls")
    arena.token_bucket("api", 10, 5)
    assert arena.entries() == {"calls": "Counter", "api": "TokenBucket rate=10 burst=5"}
    assert (arena.size, arena.path) == (SIZE, path)
    assert repr(arena) == f"<arena {path}: 2 entries in {arena.used_bytes} of {SIZE} bytes>"
    assert (Arena(None, SIZE).path, repr(Arena(None, SIZE))[:24]) == (None, "<arena in memory: 0 entr")


def test_the_same_number_in_another_form_is_the_same_configuration(path: Path) -> None:
    arena = Arena(path, SIZE)
    arena.token_bucket("api", 10, 5).try_acquire(5)
    assert not arena.token_bucket("api", 10.0, 5).try_acquire(5)
    arena.breaker("db", CircuitBreakerConfig(open_timeout=30)).force_open()
    assert arena.breaker("db").forced_open


@pytest.mark.parametrize(
    ("ask", "differs"),
    [
        (
            lambda arena: arena.breaker("breaker", CircuitBreakerConfig(open_timeout=2.5)),
            "'breaker' has open_timeout=30, not open_timeout=2.5",
        ),
        (lambda arena: arena.token_bucket("bucket", 10, 6), "'bucket' has burst=5, not burst=6"),
        (lambda arena: arena.token_bucket("bucket", 11, 5), "'bucket' has rate=10, not rate=11"),
        (
            lambda arena: arena.retry_budget("budget", 11),
            "'budget' has max_tokens=10, not max_tokens=11",
        ),
        (
            lambda arena: arena.histogram("histogram", 1, 1000, 3),
            "'histogram' has significant_digits=2, not significant_digits=3",
        ),
        (lambda arena: arena.counter("bucket"), "'bucket' is a TokenBucket, not a Counter"),
        (
            lambda arena: arena.breaker("histogram"),
            "'histogram' is a LatencyHistogram, not a CircuitBreaker",
        ),
    ],
)
def test_another_configuration_or_kind_is_refused_and_changes_nothing(
    path: Path, ask: Callable[[Arena], object], differs: str
) -> None:
    arena = Arena(path, SIZE)
    arena.breaker("breaker")
    arena.token_bucket("bucket", 10, 5)
    arena.retry_budget("budget")
    arena.histogram("histogram", 1, 1000, 2)
    before = path.read_bytes()
    with pytest.raises(ArenaError) as caught:
        ask(Arena(path, SIZE))
    assert str(caught.value) == f"arena {path}: {differs}"
    assert path.read_bytes() == before


def test_a_full_arena_says_so(path: Path) -> None:
    arena = Arena(path, 4096)
    with pytest.raises(ArenaError, match=r"arena .* is full: 'us' takes \d+ bytes, and \d+ of 4096 are free"):
        arena.histogram("us")
    arena.counter("calls").add()


def spoiled(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda path: os.truncate(path, SIZE - 1),
            f"has {SIZE - 1} bytes, not size={SIZE}: it was truncated",
        ),
        (lambda path: os.truncate(path, 0), "has 0 bytes"),
        (lambda path: path.write_bytes(os.urandom(SIZE)), "is not an arena"),
        (lambda path: path.write_bytes(bytes(SIZE)), "is not an arena"),
        (lambda path: spoiled(path, 8, b"\x07"), "layout version 7, not 1"),
        (lambda path: spoiled(path, 16, b"\x01"), "is damaged: its header's checksum is wrong"),
        (lambda path: spoiled(path, 64, b"\x01"), "is damaged: .* bytes of it are in use"),
        (lambda path: spoiled(path, 128, b"\x01" * 8192), "is damaged: there is no entry"),
    ],
)
def test_a_file_that_is_no_arena_is_refused(
    path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    Arena(path, SIZE).counter("calls")
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(ArenaError, match=f"^arena {path} .*{message}"):
        Arena(path, SIZE)
    assert path.read_bytes() == before


def test_errors_of_the_system_name_the_path_that_was_given(tmp_path: Path) -> None:
    """And not that of the file which becomes the arena, nor its folder."""
    for path in (tmp_path / "missing" / "x", tmp_path / "plain" / "x"):
        (tmp_path / "plain").touch()
        with pytest.raises(OSError, match=f"directory: '{path}'$") as refused:
            Arena(path, SIZE)
        assert refused.value.filename == str(path)


def test_no_name_is_not_the_working_folder() -> None:
    with pytest.raises(ConfigError, match=r"^path='': expected a path that is not empty"):
        Arena("", SIZE)


def test_another_size_is_refused(path: Path) -> None:
    Arena(path, SIZE)
    with pytest.raises(ArenaError, match=f"has {SIZE} bytes, not size={2 * SIZE}"):
        Arena(path, 2 * SIZE)


def test_a_file_of_an_earlier_boot_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = path.with_name("boot_id")
    earlier.write_text("00000000-0000-0000-0000-000000000001\n")
    with monkeypatch.context() as patch:
        patch.setattr("tai_grpc.resilience.arena._BOOT_ID", earlier)
        Arena(path, SIZE)
        Arena(path, SIZE)
    with pytest.raises(ArenaError, match=f"arena {path} was made before this machine was last booted"):
        Arena(path, SIZE)


@pytest.mark.parametrize("content", [None, "", "no id\n"])
def test_without_a_boot_id_there_is_no_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    none = path.with_name("boot_id")
    if content is not None:
        none.write_text(content)
    monkeypatch.setattr("tai_grpc.resilience.arena._BOOT_ID", none)
    with pytest.raises(ArenaError, match=f"needs {none}"):
        Arena(path, SIZE)
    Arena(None, SIZE).counter("calls").add()


def test_what_is_no_plain_file_is_refused(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(ArenaError, match=r"is not a plain file"):
        Arena(path, SIZE)
    with pytest.raises(IsADirectoryError):
        Arena(path.parent, SIZE)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        Arena(path / "below" / "nothing", SIZE)


def test_a_link_is_followed_even_before_it_leads_anywhere(path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to(path)
    Arena(link, SIZE).counter("calls").add()
    assert Arena(path, SIZE).counter("calls").value == 1


@pytest.mark.parametrize("size", [4095, 2**40 + 1, 0, -1, 4096.0, True, None, "4096"])
def test_a_wrong_size_is_refused(path: Path, size: int) -> None:
    with pytest.raises(ConfigError, match=r"size=.*an int from 4096 to 1099511627776"):
        Arena(path, size)
    assert not path.exists()


@pytest.mark.parametrize("wrong", [5, b"/tmp/arena", True])
def test_a_wrong_path_is_refused(wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"path=.*a path that is not empty, or None"):
        Arena(wrong, SIZE)


@pytest.mark.parametrize("name", ["", "x" * 129, 5, None, b"x"])
def test_a_wrong_name_is_refused(name: str) -> None:
    arena = Arena(None, SIZE)
    for make in (arena.counter, arena.breaker, arena.histogram, arena.retry_budget):
        with pytest.raises(ConfigError, match=r"name="):
            make(name)
    assert arena.entries() == {}


def test_wrong_configurations_are_refused_before_anything_is_made() -> None:
    arena = Arena(None, SIZE)
    with pytest.raises(ConfigError, match=r"rate="):
        arena.token_bucket("x", 0, 5)
    with pytest.raises(ConfigError, match=r"significant_digits="):
        arena.histogram("x", significant_digits=6)
    with pytest.raises(ConfigError, match=r"max_tokens="):
        arena.retry_budget("x", 0)
    with pytest.raises(ConfigError, match=r"config="):
        arena.breaker("x", 5)  # type: ignore[arg-type]  # what is tested
    assert arena.entries() == {}


def test_a_file_is_for_its_owner_alone_and_outlives_the_arena(path: Path) -> None:
    Arena(path, SIZE).counter("calls").add(7)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["arena"]
    program = (
        "from tai_grpc.resilience import Arena\n"
        f"calls = Arena({str(path)!r}, {SIZE}).counter('calls')\n"
        "calls.add()\n"
        "print(calls.value)"
    )
    spawned = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert spawned.stdout == "8\n"
    assert Arena(path, SIZE).counter("calls").value == 8
