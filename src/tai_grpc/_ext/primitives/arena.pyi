from typing import final

@final
class Memory:
    size: int
    def __new__(cls, size: int) -> Memory: ...
