"""Trace context: W3C `traceparent`, with `x-trace-id` as a second name for the trace id.

The context of the call being served travels in a context variable, so the calls that its handler makes
carry the same trace id.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, Protocol

# https://www.w3.org/TR/trace-context/#traceparent-header; a version after 00 may append fields.
_TRACEPARENT: Final = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)
_HEX_ID: Final = re.compile(r"(?!0{32})[0-9a-f]{32}")
_ALIAS: Final = re.compile(r"[\x21-\x7e]{1,128}")
_SAMPLED: Final = 1
# "sampled" and, of level 2, "random trace id"; the others are reserved and must not be passed on.
_KNOWN_FLAGS: Final = 3

_spans: Final[list[str]] = []
"""Random ids of spans: 256 at a time, as asking the system for each would cost more than all else here."""
os.register_at_fork(after_in_child=_spans.clear)


def _random_span() -> str:
    while True:
        try:
            return _spans.pop()
        except IndexError:
            digits = os.urandom(8 * 256).hex()
            _spans.extend(digits[at : at + 16] for at in range(0, len(digits), 16))


def _random_trace() -> str:
    return _random_span() + _random_span()


@dataclass(frozen=True, slots=True)
class TraceContext:
    """One hop of a trace: 32 hex digits for the whole, 16 for this span, and the W3C flags.

    `alias` is the `x-trace-id` that the trace came with, "" when that is the trace id itself.
    """

    trace_id: str
    span_id: str
    flags: int = _SAMPLED
    alias: str = ""

    @classmethod
    def new(cls) -> TraceContext:
        """Start a trace."""
        return cls(_random_trace(), _random_span())

    @classmethod
    def from_metadata(cls, metadata: Iterable[tuple[str, str | bytes]]) -> TraceContext | None:
        """Read the caller's span; None when there is none, or none that is well-formed.

        An `x-trace-id` alone starts a trace: it is the trace id if it has that form; any other printable text
        (up to 128 characters) gives its SHA-256's first half, so that every service derives the same one.
        """
        parent = alias = ""
        parents = aliases = 0
        for key, value in metadata:
            if key == "traceparent" and isinstance(value, str):
                parent = value
                parents += 1
            elif key == "x-trace-id" and isinstance(value, str):
                alias = value
                aliases += 1
        # One that is there twice says nothing: which of the two would it be?
        if parents != 1:
            parent = ""
        if aliases != 1 or not _ALIAS.fullmatch(alias):
            alias = ""
        match = _TRACEPARENT.fullmatch(parent)
        if match is not None and not (match[1] == "00" and match[5]):
            flags = int(match[4], 16) & _KNOWN_FLAGS
            return cls(match[2], match[3], flags, "" if alias == match[2] else alias)
        if not alias:
            return None
        if _HEX_ID.fullmatch(alias):
            return cls(alias, _random_span())
        return cls(hashlib.sha256(alias.encode()).hexdigest()[:32], _random_span(), alias=alias)

    def child(self) -> TraceContext:
        """Return the context of a span below this one."""
        return TraceContext(self.trace_id, _random_span(), self.flags, self.alias)

    def to_metadata(self) -> tuple[tuple[str, str], ...]:
        """Return what a call carries to its server."""
        return (
            ("traceparent", f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"),
            ("x-trace-id", self.alias or self.trace_id),
        )


class _Served(Protocol):
    """What is asked of a servicer context."""

    def invocation_metadata(self) -> Any: ...


class ServedTrace:
    """The trace of a call being served: taken up from its caller, or started, when somebody first asks.

    Most calls end before anybody does.
    """

    __slots__ = ("_call", "_trace")

    _resolving = threading.Lock()

    def __init__(self, call: _Served) -> None:
        self._call = call
        self._trace: TraceContext | None = None

    def resolve(self) -> TraceContext:
        if self._trace is None:
            parent = TraceContext.from_metadata(self._call.invocation_metadata() or ())
            trace = parent.child() if parent else TraceContext.new()
            with self._resolving:  # a handler's threads may ask at the same time
                self._trace = self._trace or trace
        return self._trace

    # As the calls that its handler makes read it.

    @property
    def trace_id(self) -> str:
        return self.resolve().trace_id

    @property
    def flags(self) -> int:
        return self.resolve().flags

    @property
    def alias(self) -> str:
        return self.resolve().alias


CURRENT_TRACE: Final[ContextVar[TraceContext | ServedTrace | None]] = ContextVar(
    "tai_grpc_trace", default=None
)


def current_trace() -> TraceContext | None:
    """Return the context of the call being served, None outside of one."""
    trace = CURRENT_TRACE.get()
    return trace.resolve() if isinstance(trace, ServedTrace) else trace


@contextmanager
def trace_scope(trace: TraceContext | None) -> Iterator[None]:
    """Make `trace` the current one."""
    token = CURRENT_TRACE.set(trace)
    try:
        yield
    finally:
        CURRENT_TRACE.reset(token)
