from typing import Final, Self, final

from _typeshed import WriteableBuffer
from typing_extensions import disjoint_base

MIN_ARENA_BYTES: Final[int]
MAX_ARENA_BYTES: Final[int]
MAX_NAME_BYTES: Final[int]
LAYOUT_VERSION: Final[int]

@final
class Memory:
    size: int
    def __new__(cls, size: int) -> Memory: ...

@disjoint_base
class Region:
    size: int
    def __new__(cls, buffer: WriteableBuffer, title: str, boot: bytes, new: bool) -> Self: ...
    @property
    def used_bytes(self) -> int: ...
    def entries(self) -> dict[str, str]: ...
