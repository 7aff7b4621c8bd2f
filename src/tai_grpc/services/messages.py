"""The messages that more than one service answers with."""

from __future__ import annotations

from tai_grpc.stores.records import Receipt
from tai_grpc.tai.v1 import types_pb2


def receipt_message(receipt: Receipt) -> types_pb2.Receipt:
    return types_pb2.Receipt(
        id=f"receipt-{receipt.revision}",
        operation=receipt.operation,
        subject_id=receipt.subject_id,
        revision=receipt.revision,
        recorded_at_ns=receipt.recorded_at_ns,
        digest=receipt.digest,
        version=receipt.version,
    )


def health_message(health: tuple[bool, str]) -> types_pb2.HealthStatus:
    healthy, reason = health
    return types_pb2.HealthStatus(status="healthy" if healthy else "unhealthy", reason=reason)
