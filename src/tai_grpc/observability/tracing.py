"""Trace context: W3C `traceparent`, with `x-trace-id` as a second name for the trace id.

The context of the call being served travels in a context variable, so the calls that its handler makes
carry the same trace id.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Final

# https://www.w3.org/TR/trace-context/#traceparent-header; a version after 00 may append fields.
_TRACEPARENT: Final = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)
_HEX_ID: Final = re.compile(r"(?!0{32})[0-9a-f]{32}")
_ALIAS: Final = re.compile(r"[\x21-\x7e]{1,128}")
_SAMPLED: Final = 1
# "sampled" and, of level 2, "random trace id"; the others are reserved and must not be passed on.
_KNOWN_FLAGS: Final = 3


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
        return cls(secrets.token_hex(16), secrets.token_hex(8))

    @classmethod
    def from_metadata(cls, metadata: Iterable[tuple[str, str | bytes]]) -> TraceContext | None:
        """Read the caller's span; None when there is none, or none that is well-formed.

        An `x-trace-id` alone starts a trace: it is the trace id if it has that form; any other printable text
        (up to 128 characters) gives its SHA-256's first half, so that every service derives the same one.
        """
        found: dict[str, list[str]] = {"traceparent": [], "x-trace-id": []}
        for key, value in metadata:
            if key in found and isinstance(value, str):
                found[key].append(value)
        # One that is there twice says nothing: which of the two would it be?
        parent, alias = (values[0] if len(values) == 1 else "" for values in found.values())
        if not _ALIAS.fullmatch(alias):
            alias = ""
        match = _TRACEPARENT.fullmatch(parent)
        if match is not None and not (match[1] == "00" and match[5]):
            flags = int(match[4], 16) & _KNOWN_FLAGS
            return cls(match[2], match[3], flags, "" if alias == match[2] else alias)
        if not alias:
            return None
        if _HEX_ID.fullmatch(alias):
            return cls(alias, secrets.token_hex(8))
        return cls(hashlib.sha256(alias.encode()).hexdigest()[:32], secrets.token_hex(8), alias=alias)

    def child(self) -> TraceContext:
        """Return the context of a span below this one."""
        return replace(self, span_id=secrets.token_hex(8))

    def to_metadata(self) -> tuple[tuple[str, str], ...]:
        """Return what a call carries to its server."""
        return (
            ("traceparent", f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"),
            ("x-trace-id", self.alias or self.trace_id),
        )


CURRENT_TRACE: Final[ContextVar[TraceContext | None]] = ContextVar("tai_grpc_trace", default=None)


def current_trace() -> TraceContext | None:
    """Return the context of the call being served, None outside of one."""
    return CURRENT_TRACE.get()


@contextmanager
def trace_scope(trace: TraceContext | None) -> Iterator[None]:
    """Make `trace` the current one."""
    token = CURRENT_TRACE.set(trace)
    try:
        yield
    finally:
        CURRENT_TRACE.reset(token)
