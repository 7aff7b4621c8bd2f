"""What the calls of a run send."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tai_grpc.status import Metadata


@dataclass(frozen=True, slots=True)
class Request:
    """What one call sends: one serialized message, or those of a stream, and its metadata."""

    messages: tuple[bytes, ...]
    metadata: Metadata = ()


class RequestSource(Protocol):
    """Where the requests of a run come from."""

    @property
    def fixed(self) -> Sequence[Request] | None:
        """The requests when they are the same all the time, call N sending number N modulo how many there are;
        None when each call's is rendered from templates.
        """

    def render(self, number: int) -> Request:
        """Return the request of call `number`, from 0."""
