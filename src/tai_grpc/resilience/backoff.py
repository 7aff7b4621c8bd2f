"""How long to wait before the next attempt: see `Backoff`. Nothing here sleeps or reads a clock."""

from tai_grpc._ext.primitives.backoff import Backoff, backoff

__all__ = ["Backoff", "backoff"]
