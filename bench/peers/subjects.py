"""What is compared, and what a module says about its package."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

SUBJECTS = {
    "call": "a function that does nothing, called through a closed breaker",
    "refuse": "a call that an open breaker refuses",
    "take": "a token taken",
    "take_keyed": "a token taken by one of many keys",
    "take_async": "a token taken by a task",
    "enter": "a place among the calls that may run at once, taken and given back",
    "record": "a latency recorded",
    "percentile": "the 99.9th percentile of 100,000 latencies",
    "count": "a success counted by a retry budget",
    "backoff": "the wait before a retry, with full jitter",
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


@dataclass(frozen=True)
class Peer:
    """A package as pip knows it, and what it does of the SUBJECTS in the way its users would write it."""

    package: str
    calls: Mapping[str, Call]
    breaker: NewBreaker | None = None


def call(statement: str, **names: object) -> Call:
    return Call(statement, names)
