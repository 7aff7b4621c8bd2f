"""An index that hands out its lowest entries first."""

from __future__ import annotations

import heapq
from typing import Generic, Protocol, TypeVar


class Comparable(Protocol):
    def __lt__(self, other: object, /) -> bool: ...


Key = TypeVar("Key")
Order = TypeVar("Order", int, tuple[int, int])


class OrderedIndex(Generic[Key, Order]):
    """Keys by their order: a heap whose stale entries are passed over when they come up.

    Rebuilt when more than half of it is stale, so it holds at most twice its keys and a constant.
    """

    __slots__ = ("_heap", "_orders", "_sequence")

    def __init__(self) -> None:
        self._orders: dict[Key, tuple[Order, int]] = {}
        self._heap: list[tuple[Order, int, Key]] = []
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._orders)

    def set(self, key: Key, order: Order) -> None:
        """Put `key` at `order`, wherever it was before. Keys of equal order come out in the order put."""
        self._sequence += 1
        self._orders[key] = (order, self._sequence)
        heapq.heappush(self._heap, (order, self._sequence, key))
        self._compact()

    def discard(self, key: Key) -> None:
        """Take `key` out, if it is in."""
        if self._orders.pop(key, None) is not None:
            self._compact()

    def _compact(self) -> None:
        if len(self._heap) > 2 * len(self._orders) + 64:
            self._heap = [(order, sequence, key) for key, (order, sequence) in self._orders.items()]
            heapq.heapify(self._heap)

    def first(self) -> tuple[Order, Key] | None:
        """Return the lowest entry, None when there is none."""
        while self._heap:
            order, sequence, key = self._heap[0]
            if self._orders.get(key) == (order, sequence):
                return order, key
            heapq.heappop(self._heap)
        return None

    def lowest(self, limit: int, bound: Order | None = None) -> list[Key]:
        """Return up to `limit` keys in order, up to and including those at `bound`. They stay in."""
        taken: list[tuple[Order, int, Key]] = []
        while len(taken) < limit and self.first() is not None:
            if bound is not None and self._heap[0][0] > bound:
                break
            taken.append(heapq.heappop(self._heap))
        for entry in taken:
            heapq.heappush(self._heap, entry)
        return [key for _, _, key in taken]
