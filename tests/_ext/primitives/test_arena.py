import pytest

from tai_grpc._ext.primitives.arena import Memory


@pytest.mark.parametrize(("asked", "given"), [(1, 64), (64, 64), (65, 128), (1_000_000, 1_000_000)])
def test_memory_comes_in_whole_cache_lines(asked: int, given: int) -> None:
    assert Memory(asked).size == given


@pytest.mark.parametrize("size", [0, 2**64 - 1, 2**64 - 64, 2**62])
def test_a_size_that_cannot_be_is_refused(size: int) -> None:
    with pytest.raises(MemoryError, match="cannot set aside"):
        Memory(size)
