"""What is compared, and what a module says about its package."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Subject:
    """What is done, and a call of a `tai_grpc._ext.primitives.noop.Noop` with the arguments that ours has."""

    what: str
    noop: str


SUBJECTS = {
    "call": Subject("a function that does nothing, called through a closed breaker", "noop.nothing()"),
    "refuse": Subject("a call that an open breaker refuses", "noop.nothing()"),
    "take": Subject("a token taken", "noop.optional()"),
    "take_keyed": Subject("a token taken by one of many keys", "noop.one('client-7')"),
    "take_async": Subject("a token taken by a task", "noop.optional()"),
    "enter": Subject(
        "a place among the calls that may run at once, taken and given back",
        "noop.nothing(); noop.three(None, None, None)",
    ),
    "record": Subject("a latency recorded", "noop.one(12345)"),
    "percentile": Subject("the 99.9th percentile of 100,000 latencies", "noop.one(99.9)"),
    "count": Subject("a success counted by a retry budget", "noop.nothing()"),
    "backoff": Subject("the wait before a retry, with full jitter", "noop.nothing()"),
}

FAILURES = 5
"""After how many failures in a row every breaker here opens."""

HALF_OPEN_CALLS = 3
"""How many calls a half-open breaker admits, where that can be said."""

RATE = 10**9
"""Tokens a second, where a token is always there."""

NEVER_SECONDS = 3600.0
"""As a breaker's recovery time: it stays open while it is measured."""

Function = Callable[[], object]

NewBreaker = Callable[[float], Callable[[Function], Function]]
"""Makes a breaker, as a decorator, that tries again so many seconds after it has opened."""


@dataclass(frozen=True)
class Call:
    """A statement, and the names in it. One that awaits is run by a task."""

    statement: str
    names: Mapping[str, object]
    holds: Callable[[], bool] = lambda: True
    """Whether it did what it is measured for, as far as that can be seen afterwards."""


@dataclass(frozen=True)
class Peer:
    """A package as pip knows it, and what it does of the SUBJECTS in the way its users would write it."""

    package: str
    calls: Mapping[str, Call]
    breaker: NewBreaker | None = None
    note: str = ""
    """In what it differs from what the others do."""


def call(statement: str, **names: object) -> Call:
    return Call(statement, names)
