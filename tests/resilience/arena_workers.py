"""A program: processes on one arena, started, killed and counted from a process without threads.

    arena_workers.py kill PATH|- KILLS SEED   four workers, killed at random; - is an arena in memory
    arena_workers.py race PATH ROUNDS         four processes that make the same file at the same time
    arena_workers.py fuzz PATH ROUNDS SEED    a file with random bytes in random places, opened and used

What happened goes to stdout as JSON; whether it is right is for the tests that start it.
"""

import json
import mmap
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter as Tally
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tai_grpc._ext.primitives.breaker import CircuitBreaker
from tai_grpc._ext.primitives.histogram import LatencyHistogram
from tai_grpc.config import CircuitBreakerConfig, Window
from tai_grpc.errors import ArenaError
from tai_grpc.resilience.arena import Arena
from tai_grpc.resilience.circuit_breaker import CallOutcome

WORKERS = 4
SIZE = 1 << 23
NAMES = 4_000
MERGE_LAYOUT = (1, 100_000, 2)
MERGED_VALUES = range(0, 100_000, 100)
OPERATIONS = ("count", "record", "merge", "take", "trip", "create")
# A bucket that is mostly empty, and one that never is: rate and burst.
STEADY, VAST = (1_000.0, 100), (1.0, 31_536_000)
BY_CALLS = CircuitBreakerConfig(window=Window.COUNT, window_size=20)
BY_SECONDS = CircuitBreakerConfig(window=Window.TIME, window_size=20)
BREAKER = CircuitBreakerConfig(failure_threshold=1, open_timeout=0.001, half_open_max_calls=3)
MAX_PERMITS = 100_000
# Words of a worker: how often each operation was begun and done, tokens granted, permits, and the permits.
GRANTED, PERMITS = 2 * len(OPERATIONS), 2 * len(OPERATIONS) + 1
WORDS = PERMITS + 1 + MAX_PERMITS


class Journal:
    """What each worker says of itself, in memory that outlives it."""

    def __init__(self) -> None:
        self.words = memoryview(mmap.mmap(-1, 8 * (1 + WORKERS * WORDS))).cast("Q")

    @property
    def stopping(self) -> bool:
        return self.words[0] != 0

    def stop(self) -> None:
        self.words[0] = 1

    def of(self, worker: int) -> memoryview:
        return self.words[1 + worker * WORDS : 1 + (worker + 1) * WORDS]

    def total(self, word: int) -> int:
        return sum(self.of(worker)[word] for worker in range(WORKERS))


def fork(work: Callable[[], None]) -> int:
    """Run `work` in a new process, which exits with 1 when it raises; return its id."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


def operations(arena: Arena, mine: memoryview) -> list[Callable[[], object]]:
    """The operations of a worker, in the order of OPERATIONS."""
    breaker, window = arena.breaker("breaker", BREAKER), arena.breaker("window", BY_CALLS)
    steady, vast = arena.token_bucket("steady", *STEADY), arena.token_bucket("vast", *VAST)
    histogram = arena.histogram("record")
    merged, many = arena.histogram("merge", *MERGE_LAYOUT), LatencyHistogram(*MERGE_LAYOUT)
    for value in MERGED_VALUES:
        many.record(value)

    def take() -> None:
        assert vast.try_acquire()
        if steady.try_acquire():
            mine[GRANTED] += 1

    def trip() -> None:
        window.record_failure()
        window.record_success()
        permit = breaker.acquire()
        if permit >= 0 and mine[PERMITS] < MAX_PERMITS:
            mine[PERMITS + 1 + mine[PERMITS]] = permit
            mine[PERMITS] += 1
            if mine[PERMITS] % 2:  # the others are never reported
                breaker.settle(permit, CallOutcome.FAILURE)

    def create() -> None:
        """The same names in the same order in every worker: they often make one at the same time."""
        n = mine[2 * OPERATIONS.index("create")] % NAMES
        if n % 2:
            arena.counter(f"entry {n}").add()
        else:
            arena.histogram(f"entry {n}", 1, 1000, 1).record(n % 1000)

    return [
        arena.counter("count").add,
        lambda: histogram.record(12_345),
        lambda: merged.merge(many),
        take,
        trip,
        create,
    ]


def running(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def work(opened: Callable[[], Arena], journal: Journal, worker: int) -> None:
    mine = journal.of(worker)
    steps = list(enumerate(operations(opened(), mine)))
    while not journal.stopping:
        for i, operation in steps:
            mine[2 * i] += 1
            operation()
            mine[2 * i + 1] += 1


def kill(path: str, kills: int, seed: int) -> dict[str, Any]:
    rng = random.Random(seed)
    began = time.monotonic()
    arena = Arena(None if path == "-" else path, SIZE)
    first_era = arena.breaker("breaker", BREAKER).acquire()
    journal = Journal()

    def opened() -> Arena:
        return arena if path == "-" else Arena(path, SIZE)

    def start(worker: int) -> int:
        return fork(lambda: work(opened, journal, worker))

    workers = [start(worker) for worker in range(WORKERS)]
    ends: Tally[int] = Tally()
    for _ in range(kills):
        worker = rng.randrange(WORKERS)
        # Until it works, a kill would tell nothing; from then on, any moment is as good.
        steps = journal.of(worker)[1]
        while journal.of(worker)[1] == steps and running(workers[worker]):
            time.sleep(0.0005)
        time.sleep(rng.uniform(0, 0.01))
        os.kill(workers[worker], signal.SIGKILL)
        ends[os.waitpid(workers[worker], 0)[1]] += 1
        workers[worker] = start(worker)
    journal.stop()
    last = [os.waitpid(pid, 0)[1] for pid in workers]
    vast_taken = arena.token_bucket("vast", *VAST).wait_time(VAST[1]) * VAST[0]
    elapsed = time.monotonic() - began
    permits: Tally[int] = Tally()
    for worker in range(WORKERS):
        mine = journal.of(worker)
        permits.update(mine[PERMITS + 1 : PERMITS + 1 + mine[PERMITS]].tolist())
    permits.pop(first_era, None)
    entries = arena.entries()
    created = [
        arena.counter(name).value if what == "Counter" else arena.histogram(name, 1, 1000, 1).count
        for name, what in entries.items()
        if name.startswith("entry ")
    ]
    return {
        "killed_ends": dict(ends),
        "last_ends": last,
        "elapsed": elapsed,
        "begun": {name: journal.total(2 * i) for i, name in enumerate(OPERATIONS)},
        "done": {name: journal.total(2 * i + 1) for i, name in enumerate(OPERATIONS)},
        "count": arena.counter("count").value,
        "record": arena.histogram("record").count,
        "merge": arena.histogram("merge", *MERGE_LAYOUT).count,
        "vast_taken": vast_taken,
        "granted": journal.total(GRANTED),
        "half_open_eras": len(permits),
        "most_permits": max(permits.values(), default=0),
        "created": len(created),
        "created_total": sum(created),
        "breaker_works": works(arena.breaker("breaker", BREAKER)),
        "window_calls": window_calls(arena.breaker("window", BY_CALLS)),
    }


def works(breaker: CircuitBreaker) -> bool:
    """Whether it closes, trips and closes again."""
    breaker.reset()
    admitted = breaker.is_call_allowed()
    breaker.record_failure()
    refused = not breaker.is_call_allowed()
    breaker.reset()
    return admitted and refused and breaker.is_call_allowed()


def window_calls(breaker: CircuitBreaker) -> int:
    """How many calls its window knows, once it is full of them."""
    breaker.reset()
    for _ in range(30):
        breaker.record_success()
    return breaker.metrics().calls


def fail(breaker: CircuitBreaker) -> None:
    for _ in range(30):
        breaker.record_failure()


def race(path: str, rounds: int) -> dict[str, Any]:
    """Each round: nobody has the file, everybody makes it, and everybody counts in it."""
    ready = memoryview(mmap.mmap(-1, 8 * WORKERS)).cast("Q")
    values = []
    for n in range(1, rounds + 1):

        def make(worker: int, n: int = n) -> None:
            ready[worker] = n
            while any(ready[other] < n for other in range(WORKERS)):
                os.sched_yield()
            arena = Arena(path, 1 << 16)
            for entry in range(20):
                arena.counter(f"{entry}").add()

        def start(worker: int, make: Callable[[int], None] = make) -> int:
            return fork(lambda: make(worker))

        ends = [os.waitpid(pid, 0)[1] for pid in [start(worker) for worker in range(WORKERS)]]
        arena = Arena(path, 1 << 16)
        values.append([*ends, *(arena.counter(f"{entry}").value for entry in range(20))])
        Path(path).unlink()
    return {"values": values, "left": [each.name for each in Path(path).parent.iterdir()]}


def spoil(data: bytes, rng: random.Random) -> bytes:
    """`data` with one to eight spans of it overwritten, anywhere or where it hurts most."""
    spoiled = bytearray(data)
    used = int.from_bytes(data[64:72], sys.byteorder)
    for _ in range(rng.randint(1, 8)):
        start = rng.choice([rng.randrange(128), rng.randrange(used), rng.randrange(len(data))])
        size = rng.choice([1, 1, 1, 8, 64, 4096])
        end = min(start + size, len(data))
        kind = rng.randrange(4)
        if kind == 0:
            spoiled[start] ^= 1 << rng.randrange(8)
        elif kind == 1:
            spoiled[start:end] = rng.randbytes(end - start)
        elif kind == 2:
            spoiled[start:end] = rng.choice([b"\0", b"\xff", b"\x7f"]) * (end - start)
        else:
            source = rng.randrange(len(data) - (end - start) + 1)
            spoiled[start:end] = data[source : source + end - start]
    if rng.randrange(10) == 0:
        del spoiled[rng.randrange(len(spoiled)) :]
    return bytes(spoiled)


def use(arena: Arena) -> int:
    """Everything that an entry can do; how many entries are refused."""
    refused = 0
    steps: list[Callable[[], object]] = [
        lambda: works(arena.breaker("breaker")),
        lambda: fail(arena.breaker("calls", BY_CALLS)),
        lambda: fail(arena.breaker("seconds", BY_SECONDS)),
        lambda: arena.token_bucket("bucket", 5, 5).try_acquire(),
        lambda: arena.token_bucket("bucket", 5, 5).wait_time(5),
        lambda: arena.counter("counter").add(),
        lambda: repr(arena.counter("counter")),
        lambda: arena.retry_budget("budget").record_failure(),
        lambda: arena.retry_budget("budget").record_success(),
        lambda: arena.histogram("histogram", 1, 10_000, 2).record(10_000),
        lambda: repr(arena.histogram("histogram", 1, 10_000, 2)),
        lambda: arena.histogram("histogram", 1, 10_000, 2).percentiles([0, 50, 100]),
        lambda: arena.histogram("histogram", 1, 10_000, 2).encode(),
        lambda: arena.counter("new").add(),
        arena.entries,
        lambda: repr(arena),
    ]
    for step in steps:
        try:
            step()
        except ArenaError:
            refused += 1
        except OverflowError as error:  # a counter whose stripe was made nearly full
            if "counter is full" not in str(error):
                raise
    return refused


def fuzz(path: str, rounds: int, seed: int) -> dict[str, Any]:
    rng = random.Random(seed)
    good = Arena(path, 1 << 15)
    assert use(good) == 0
    data = Path(path).read_bytes()
    seen: Tally[str] = Tally()
    for _ in range(rounds):
        Path(path).write_bytes(spoil(data, rng))
        try:
            arena = Arena(path, 1 << 15)
        except ArenaError as error:
            assert str(error).startswith(f"arena {path} "), error
            seen["refused"] += 1
        else:
            seen["with refused entries" if use(arena) else "opened"] += 1
            del arena
    return dict(seen)


if __name__ == "__main__":
    command, where, *numbers = sys.argv[1:]
    commands: dict[str, Callable[..., dict[str, Any]]] = {"kill": kill, "race": race, "fuzz": fuzz}
    json.dump(commands[command](where, *map(int, numbers)), sys.stdout)
