from collections.abc import Sequence
from typing import Self

from typing_extensions import disjoint_base

from tai_grpc.status import Metadata

@disjoint_base
class Source:
    def __new__(
        cls,
        *,
        total: int | None,
        fixed: Sequence[tuple[Sequence[bytes], Metadata]] | None,
        capacity: int = 4096,
        max_bytes: int = 67_108_864,
        first: int = 0,
        step: int = 1,
        gzip: bool = False,
    ) -> Self: ...
    def feed(self, messages: Sequence[bytes], metadata: Metadata) -> bool: ...
    def wait_for_room(self, timeout: float) -> bool: ...
    def close(self) -> None: ...
    @property
    def issued(self) -> int: ...
    @property
    def fed(self) -> int: ...
    @property
    def starved(self) -> int: ...
