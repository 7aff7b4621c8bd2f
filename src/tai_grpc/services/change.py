"""What a command does: the records it writes and the receipt that proves it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from tai_grpc.stores.base import Transaction
from tai_grpc.stores.records import Receipt, Record


@dataclass(frozen=True, slots=True)
class Change:
    """The records to put, in order, and the receipt; no records when it was all done before."""

    records: Sequence[Record]
    receipt: Receipt

    def apply(self, transaction: Transaction) -> Receipt:
        for record in self.records:
            transaction.put(record)
        return self.receipt


def content_digest(operation: str, content: object) -> str:
    """Return the SHA-256, in hex, of an operation and its fields in a canonical form.

    The form is JSON with sorted keys, bytes as hex: it depends on the values alone, which a serialized
    protobuf message does not promise.
    """
    form = json.dumps([operation, content], sort_keys=True, separators=(",", ":"), default=bytes.hex)
    return hashlib.sha256(form.encode()).hexdigest()
