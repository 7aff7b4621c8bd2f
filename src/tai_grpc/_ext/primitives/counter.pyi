from typing import Self

from typing_extensions import disjoint_base

@disjoint_base
class Counter:
    def __new__(cls) -> Self: ...
    @property
    def value(self) -> int: ...
    def add(self, n: int = 1) -> None: ...
