"""Memory that processes share: see `Arena`."""

from __future__ import annotations

import mmap
import os
import stat
from contextlib import contextmanager
from dataclasses import fields
from enum import Enum
from pathlib import Path
from tempfile import mkstemp
from typing import TYPE_CHECKING, Final
from uuid import UUID

from tai_grpc._ext.primitives.arena import MAX_ARENA_BYTES, MAX_NAME_BYTES, MIN_ARENA_BYTES, Region
from tai_grpc._ext.primitives.breaker import CircuitBreaker
from tai_grpc._ext.primitives.counter import Counter
from tai_grpc._ext.primitives.histogram import LatencyHistogram
from tai_grpc._ext.primitives.retry import RetryBudget
from tai_grpc._ext.primitives.shared import share
from tai_grpc.checks import check_int
from tai_grpc.config import CircuitBreakerConfig
from tai_grpc.errors import ArenaError, ConfigError
from tai_grpc.resilience.limits import TokenBucket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

__all__ = ["MAX_ARENA_BYTES", "MAX_NAME_BYTES", "MIN_ARENA_BYTES", "Arena"]

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_NO_BOOT: Final = bytes(16)


class Arena(Region):
    """Breakers, buckets, budgets, counters and histograms in `size` bytes (4096 to 2^40) of shared memory.

    With `path` None, the memory is shared with the processes that are forked after this one made it. With
    a path, it is a file, made by whoever comes first, that any process of this user may open with the same
    `size`; a directory in memory such as /dev/shm is the best place for it. The same name and configuration
    is the same state in every process:

        arena = Arena("/dev/shm/orders", 1 << 20)
        breaker = arena.breaker("database", CircuitBreakerConfig(failure_threshold=10))

    Names are 1 to 128 bytes in UTF-8; there is room for an entry in each 512 bytes, and entries are never
    removed. An entry takes its state (a breaker, token bucket or budget at least 64 bytes, a counter 512, a
    histogram of the default layout 139 KB) and 64 bytes or more for its name and configuration.

    There is no lock: all state changes by atomic operations, so a process that is killed at any moment
    blocks nobody, and each count, take and transition is made or not. What many of them make up may be half
    done (`merge`, `subtract`; an `interval_histogram` is lost with its process), the bytes of an entry that
    it was making stay unused, and a file that it was making stays beside its place as .NAME.*

    Callbacks of a breaker hear of the transitions that their own process makes.

    A file lasts longer than its processes, but not than the machine's uptime, in which all times are
    measured: one that is left from an earlier boot is refused. It must not be shortened while it is open:
    the system kills processes (SIGBUS) that reach for memory which is gone.

    Raises:
        ConfigError: `path` is neither a path nor None, or `size` is outside its range.
        ArenaError: the file is not an arena, is damaged or truncated, or is of another size, layout version
            or boot. The message names it and says what differs.
        OSError: it cannot be opened or made.
    """

    __slots__ = ("path",)

    path: Path | None

    def __new__(cls, path: str | os.PathLike[str] | None, size: int) -> Self:
        check_int("size", size, MIN_ARENA_BYTES, MAX_ARENA_BYTES)
        if path is None:
            arena = super().__new__(cls, mmap.mmap(-1, size), "arena in memory", _NO_BOOT, new=True)
            arena.path = None
            return arena
        if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
            accepted = "a path that is not empty, or None for memory that forked processes share"
            raise ConfigError("path", path, accepted)
        # The file itself, so that a link which leads nowhere yet is no obstacle.
        where = Path(path).resolve()
        title, boot = f"arena {where}", _boot_id()
        while True:
            # Made under another name and linked to its own when it is complete: so nobody ever opens half an
            # arena, and of two that are made at the same time one is used.
            try:
                arena = super().__new__(cls, _map(where, size, title), title, boot, new=False)
            except FileNotFoundError:
                with _new_file(where, size) as (mapped, publish):
                    arena = super().__new__(cls, mapped, title, boot, new=True)
                    if not publish():
                        continue
            arena.path = where
            return arena

    def __init__(self, path: str | os.PathLike[str] | None, size: int) -> None:
        """All is done by `__new__`; this only names the arguments."""

    def __repr__(self) -> str:
        title = "arena in memory" if self.path is None else f"arena {self.path}"
        return f"<{title}: {len(self.entries())} entries in {self.used_bytes} of {self.size} bytes>"

    def breaker(self, name: str, config: CircuitBreakerConfig | None = None) -> CircuitBreaker:
        """The breaker called `name`. `config.outcome_of`, a function, may be another in each process.

        Raises:
            ConfigError: an argument is outside its range.
            ArenaError: the arena is full or damaged, or has another thing or configuration by this name.
        """
        breaker = CircuitBreaker(config, name=name)
        share(self, name, _breaker_text(config or CircuitBreakerConfig()), breaker)
        return breaker

    def token_bucket(self, name: str, rate: float, burst: int) -> TokenBucket:
        """The token bucket called `name`, which all processes take from; errors as for `breaker`."""
        bucket = TokenBucket(rate, burst)
        share(self, name, _text("TokenBucket", rate=bucket.rate, burst=burst), bucket)
        return bucket

    def retry_budget(self, name: str, max_tokens: int = 10, token_ratio: float = 0.1) -> RetryBudget:
        """The retry budget called `name`; errors as for `breaker`."""
        budget = RetryBudget(max_tokens, token_ratio)
        share(self, name, _text("RetryBudget", max_tokens=max_tokens, token_ratio=token_ratio), budget)
        return budget

    def counter(self, name: str) -> Counter:
        """The counter called `name`; errors as for `breaker`."""
        counter = Counter()
        share(self, name, _text("Counter"), counter)
        return counter

    def histogram(
        self, name: str, lowest: int = 1, highest: int = 60_000_000, significant_digits: int = 3
    ) -> LatencyHistogram:
        """The histogram called `name`; errors as for `breaker`."""
        histogram = LatencyHistogram(lowest, highest, significant_digits)
        settings = {"lowest": lowest, "highest": highest, "significant_digits": significant_digits}
        share(self, name, _text("LatencyHistogram", **settings), histogram)
        return histogram


def _text(kind: str, **settings: object) -> str:
    """One text for one configuration: 30 and 30.0 are the same."""
    return " ".join([kind, *(f"{name}={_value(value)}" for name, value in settings.items())])


def _value(value: object) -> str:
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return repr(value)


def _breaker_text(config: CircuitBreakerConfig) -> str:
    names = [field.name for field in fields(config) if field.name != "outcome_of"]
    return _text("CircuitBreaker", **{name: getattr(config, name) for name in names})


def _boot_id() -> bytes:
    try:
        return UUID(_BOOT_ID.read_text().strip()).bytes
    except (OSError, ValueError) as error:
        raise ArenaError(f"an arena in a file needs {_BOOT_ID} (Linux): {error}") from error


def _map(path: Path, size: int, title: str) -> mmap.mmap:
    """Map the file, which must be a plain one of `size` bytes."""
    # O_NONBLOCK: a pipe by this name must not keep us waiting for its other end.
    file = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise ArenaError(f"{title} is not an arena: it is not a plain file")
        if status.st_size != size:
            differs = f"{status.st_size} bytes, not size={size}"
            raise ArenaError(
                f"{title} has {differs}: it was truncated, or made with another size, or is not an arena"
            )
        return mmap.mmap(file, size)
    finally:
        os.close(file)


@contextmanager
def _new_file(path: Path, size: int) -> Iterator[tuple[mmap.mmap, Callable[[], bool]]]:
    """A mapped file of `size` zeros, and what gives it the name `path` unless there is such a file.

    Errors name `path`: the name that the file has meanwhile says nothing to whoever asked for it.
    """
    try:
        file, temporary = mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error

    def publish() -> bool:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        return True

    try:
        # Not ftruncate: a disk that is full must be an error here, and no SIGBUS later.
        try:
            os.posix_fallocate(file, 0, size)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
        yield mmap.mmap(file, size), publish
    finally:
        os.close(file)
        Path(temporary).unlink()
