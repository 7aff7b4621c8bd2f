"""What every breaker is asked: what a call costs, and how many threads it lets in at once."""

import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from bench.peers.subjects import FAILURES, NEVER_SECONDS, Call, Function, NewBreaker, call

THREADS = 20
RECOVERY_SECONDS = 0.2
CALL_SECONDS = 0.05


def nothing() -> None:
    pass


def breaker_calls(breaker: NewBreaker) -> Mapping[str, Call]:
    admitted = 0

    def fail() -> None:
        nonlocal admitted
        admitted += 1
        raise ConnectionError

    refused = breaker(NEVER_SECONDS)(fail)
    _fail(refused)
    return {
        "call": call("guarded()", guarded=breaker(NEVER_SECONDS)(nothing)),
        "refuse": Call(
            "try: refused()\nexcept Exception: pass", {"refused": refused}, lambda: admitted == FAILURES
        ),
    }


def inside_at_once(breaker: NewBreaker) -> dict[str, int]:
    """How many of 20 threads, which call at the same time, were inside the function together."""
    closed = Watched()
    _call_in_threads(breaker(NEVER_SECONDS)(closed.call))

    half_open = Watched()
    guarded = breaker(RECOVERY_SECONDS)(half_open.call)
    half_open.fails = True
    _fail(guarded)
    half_open.fails = False
    time.sleep(2 * RECOVERY_SECONDS)
    _call_in_threads(guarded)
    return {"closed": closed.most, "half_open": half_open.most}


class Watched:
    """A function that takes a while and knows the most threads that it has seen at once."""

    def __init__(self) -> None:
        self.fails = False
        self.most = 0
        self._inside = 0
        self._lock = threading.Lock()

    def call(self) -> None:
        if self.fails:
            raise ConnectionError
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)
        time.sleep(CALL_SECONDS)
        with self._lock:
            self._inside -= 1


def _fail(guarded: Function) -> None:
    for _ in range(FAILURES):
        with suppress(Exception):
            guarded()


def _call_in_threads(guarded: Function) -> None:
    start = threading.Barrier(THREADS)

    def work() -> None:
        start.wait()
        with suppress(Exception):  # each package refuses with an error of its own
            guarded()

    with ThreadPoolExecutor(THREADS) as pool:
        for _ in range(THREADS):
            pool.submit(work)
