from typing import Self

from typing_extensions import disjoint_base

@disjoint_base
class TlsContext:
    def __new__(
        cls,
        *,
        ca: bytes | None = None,
        certificate: bytes | None = None,
        key: bytes | None = None,
        verify: bool = True,
    ) -> Self: ...
    @property
    def verifies(self) -> bool: ...
