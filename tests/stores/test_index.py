"""OrderedIndex against a dictionary that is sorted at every question."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tai_grpc.stores.index import OrderedIndex

KEYS = st.integers(0, 20)
ORDERS = st.integers(-3, 3)


class IndexMachine(RuleBasedStateMachine):
    """Few keys and fewer orders, so that keys move, come back and tie."""

    def __init__(self) -> None:
        super().__init__()
        self.index: OrderedIndex[int, int] = OrderedIndex()
        self.reference: dict[int, tuple[int, int]] = {}
        self.puts = 0

    def ordered(self, bound: int | None = None) -> list[int]:
        """Return the keys by order, and within one by when they were put."""
        within = [key for key, (order, _) in self.reference.items() if bound is None or order <= bound]
        return sorted(within, key=lambda key: self.reference[key])

    @rule(key=KEYS, order=ORDERS)
    def set(self, key: int, order: int) -> None:
        self.puts += 1
        self.index.set(key, order)
        self.reference[key] = (order, self.puts)

    @rule(key=KEYS)
    def discard(self, key: int) -> None:
        self.index.discard(key)
        self.reference.pop(key, None)

    @precondition(lambda self: self.reference)
    @rule(data=st.data())
    def set_again_where_it_is(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.reference)))
        self.set(key, self.reference[key][0])

    @rule(limit=st.integers(0, 25), bound=st.none() | ORDERS)
    def lowest(self, limit: int, bound: int | None) -> None:
        assert self.index.lowest(limit, bound) == self.ordered(bound)[:limit]

    @invariant()
    def same_length_and_first(self) -> None:
        assert len(self.index) == len(self.reference)
        ordered = self.ordered()
        assert self.index.first() == ((self.reference[ordered[0]][0], ordered[0]) if ordered else None)


IndexMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestIndex = IndexMachine.TestCase


def test_keys_of_one_order_come_out_as_they_were_put() -> None:
    index: OrderedIndex[str, tuple[int, int]] = OrderedIndex()
    for key, order in (("c", (1, 1)), ("a", (1, 1)), ("b", (0, 9)), ("c", (1, 1))):
        index.set(key, order)
    assert index.lowest(9) == ["b", "a", "c"]
    assert index.first() == ((0, 9), "b")


def test_the_heap_holds_at_most_twice_its_keys_and_a_constant_however_they_move_and_go() -> None:
    index: OrderedIndex[int, int] = OrderedIndex()

    def check() -> None:
        assert len(index._heap) <= 2 * len(index) + 64

    for step in range(3_000):
        index.set(step % 1_000, -step)
        check()
    for key in range(1_000):
        index.discard(key)
        check()
    assert len(index) == 0
    for step in range(1_000):
        index.set(0, step)
        check()
    assert index.first() == (999, 0)
