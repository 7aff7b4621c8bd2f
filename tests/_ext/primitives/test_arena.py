import mmap
from collections.abc import Callable
from sys import byteorder

import pytest

from tai_grpc._ext.primitives.arena import LAYOUT_VERSION, Memory, Region
from tai_grpc._ext.primitives.counter import Counter
from tai_grpc._ext.primitives.retry import RetryBudget
from tai_grpc._ext.primitives.shared import share
from tai_grpc.errors import ArenaError, ConfigError

SIZE = 1 << 16
BOOT = bytes(range(16))
# Where things are: see arena.pxd.
USED_AT, DIRECTORY_AT, RECORD_BYTES = 64, 128, 32
DIRECTORY = slice(DIRECTORY_AT, DIRECTORY_AT + 8 * SIZE // 256)


def region(buffer: mmap.mmap, *, new: bool = False, boot: bytes = BOOT) -> Region:
    return Region(buffer, "arena of a test", boot, new)


@pytest.fixture
def buffer() -> mmap.mmap:
    """A region with the counter `it` in it, which has counted 1."""
    made = mmap.mmap(-1, SIZE)
    counted(region(made, new=True), "it").add()
    return made


def counted(where: Region, name: str, what: str = "Counter") -> Counter:
    counter = Counter()
    share(where, name, what, counter)
    return counter


@pytest.mark.parametrize(("asked", "given"), [(1, 64), (64, 64), (65, 128), (1_000_000, 1_000_000)])
def test_memory_comes_in_whole_cache_lines(asked: int, given: int) -> None:
    assert Memory(asked).size == given


@pytest.mark.parametrize("size", [0, 2**64 - 1, 2**64 - 64, 2**62])
def test_a_size_that_cannot_be_is_refused(size: int) -> None:
    with pytest.raises(MemoryError, match=r"cannot set aside"):
        Memory(size)


def test_an_entry_is_the_same_state_wherever_the_region_is_mapped(buffer: mmap.mmap) -> None:
    first, second = counted(region(buffer), "it"), counted(region(buffer), "it")
    first.add(10)
    second.add(100)
    assert first.value == second.value == 111
    assert region(buffer).entries() == {"it": "Counter"}


def test_a_view_keeps_the_memory(buffer: mmap.mmap) -> None:
    counter = counted(region(buffer), "it")
    with pytest.raises(BufferError):
        buffer.close()
    del buffer
    counter.add()
    assert counter.value == 2


@pytest.mark.parametrize("name", ["", "x" * 129, "é" * 65, "\ud800"])
def test_a_name_that_is_none_is_refused(buffer: mmap.mmap, name: str) -> None:
    with pytest.raises(ConfigError, match=r"name=.*1 to 128 bytes"):
        counted(region(buffer), name)


@pytest.mark.parametrize("name", ["x", "x" * 128, "é" * 64, "a name\n\0"])
def test_any_other_name_is_kept(buffer: mmap.mmap, name: str) -> None:
    counted(region(buffer), name).add(5)
    assert counted(region(buffer), name).value == 5
    assert name in region(buffer).entries()


@pytest.mark.parametrize("what", ["", "x" * 65_537])
def test_a_text_that_would_not_be_found_again_is_refused(buffer: mmap.mmap, what: str) -> None:
    with pytest.raises(ConfigError, match=r"what="):
        counted(region(buffer), "other", what)
    assert region(buffer).entries() == {"it": "Counter"}


def test_what_differs_is_named(buffer: mmap.mmap) -> None:
    where = region(buffer)
    counted(where, "set", "Counter a=1 b=2 c=3")
    with pytest.raises(ArenaError, match=r"^arena of a test: 'set' has b=2, not b=5$"):
        counted(where, "set", "Counter a=1 b=5 c=3")
    with pytest.raises(ArenaError, match=r"^arena of a test: 'it' is a Counter, not a Gauge$"):
        counted(where, "it", "Gauge a=1")
    with pytest.raises(ArenaError, match=r"'it' has no more settings, not a=1"):
        counted(where, "it", "Counter a=1")


def test_a_full_region_says_so_and_keeps_working(buffer: mmap.mmap) -> None:
    where = region(buffer)
    made = 0
    with pytest.raises(ArenaError, match=r"is full: 'n\d+' takes 576 bytes, and \d+ of 65536 are free"):
        while True:
            counted(where, f"n{made}").add(made + 1)
            made += 1
    assert made == (SIZE - DIRECTORY.stop) // 576 - 1
    assert [counted(where, f"n{n}").value for n in range(made)] == list(range(1, made + 1))
    assert len(region(buffer).entries()) == made + 1


def test_a_full_directory_says_so() -> None:
    """No entry is small enough to fill the directory first; so the words are taken away here."""
    made = mmap.mmap(-1, 4096)
    where = region(made, new=True)
    counted(where, "it")
    record = find(made, b"itCounter") - RECORD_BYTES
    overwrite(made, DIRECTORY_AT, record.to_bytes(8, byteorder) * 16)
    with pytest.raises(ArenaError, match=r"is full: it has 16 entries, with other names"):
        counted(where, "other")
    assert counted(where, "it").value == 0


def test_threads_that_make_the_same_entries_at_once_share_them(
    hammer: Callable[[Callable[[], None]], list[None]],
) -> None:
    where = region(mmap.mmap(-1, 1 << 20), new=True)

    def work() -> None:
        for n in range(500):
            counted(where, f"{n}").add()

    hammer(work)
    assert [counted(where, f"{n}").value for n in range(500)] == [8] * 500


def overwrite(buffer: mmap.mmap, at: int, data: bytes) -> None:
    buffer[at : at + len(data)] = data


def find(buffer: mmap.mmap, data: bytes) -> int:
    at = bytes(buffer).find(data)
    assert at >= 0
    return at


def test_what_is_no_region_is_refused(buffer: mmap.mmap) -> None:
    with pytest.raises(ArenaError, match=r"^arena of a test is not an arena: it does not begin as one$"):
        region(mmap.mmap(-1, SIZE))
    overwrite(buffer, 3, b"?")
    with pytest.raises(ArenaError, match=r"is not an arena"):
        region(buffer)


def test_another_layout_version_is_named(buffer: mmap.mmap) -> None:
    overwrite(buffer, 8, (LAYOUT_VERSION + 1).to_bytes(8, byteorder))
    with pytest.raises(ArenaError, match=f"layout version {LAYOUT_VERSION + 1}, not {LAYOUT_VERSION}"):
        region(buffer)


def test_another_size_is_named(buffer: mmap.mmap) -> None:
    shorter = mmap.mmap(-1, SIZE // 2)
    shorter[:] = buffer[: SIZE // 2]
    with pytest.raises(ArenaError, match=r"was made with size=65536, but has 32768 bytes"):
        region(shorter)


def test_another_boot_is_named(buffer: mmap.mmap) -> None:
    with pytest.raises(ArenaError, match=r"before this machine was last booted"):
        region(buffer, boot=bytes(16))


@pytest.mark.parametrize("used", [0, 63, SIZE + 64, 2**64 - 1, 2**63, SIZE // 2 + 1])
def test_an_end_that_cannot_be_is_refused(buffer: mmap.mmap, used: int) -> None:
    overwrite(buffer, USED_AT, used.to_bytes(8, byteorder))
    with pytest.raises(ArenaError, match=f"is damaged: {used} bytes of it are in use"):
        region(buffer)


def test_every_byte_of_header_and_record_is_guarded(buffer: mmap.mmap) -> None:
    """One flipped bit, wherever it is in what never changes, is noticed."""
    record = find(buffer, b"itCounter") - RECORD_BYTES
    for at in [*range(48), *range(record, record + RECORD_BYTES + len(b"itCounter"))]:
        was = buffer[at]
        buffer[at] = was ^ 0x10
        with pytest.raises(ArenaError, match=r"not an arena|layout version|damaged"):
            region(buffer)
        buffer[at] = was
    assert counted(region(buffer), "it").value == 1


@pytest.mark.parametrize("word", [1, 64, 2**64 - 64, 2**63, SIZE, SIZE - 64, DIRECTORY.stop + 64])
def test_a_directory_word_that_leads_nowhere_is_refused(buffer: mmap.mmap, word: int) -> None:
    where = region(buffer)
    directory = bytes(buffer[DIRECTORY])
    record = find(buffer, b"itCounter") - RECORD_BYTES
    at = DIRECTORY_AT + directory.index(record.to_bytes(8, byteorder))
    overwrite(buffer, at, word.to_bytes(8, byteorder))
    with pytest.raises(ArenaError, match=f"is damaged: there is no entry at {word}"):
        region(buffer)
    with pytest.raises(ArenaError, match=f"is damaged: there is no entry at {word}"):
        counted(where, "it")


def test_an_entry_in_the_wrong_place_is_refused(buffer: mmap.mmap) -> None:
    directory = bytes(buffer[DIRECTORY])
    record = (find(buffer, b"itCounter") - RECORD_BYTES).to_bytes(8, byteorder)
    at = directory.index(record)
    overwrite(buffer, DIRECTORY_AT + at, bytes(8))
    overwrite(buffer, DIRECTORY_AT + (at + 64) % len(directory), record)
    with pytest.raises(ArenaError, match=r"its directory is wrong"):
        region(buffer)


def test_a_state_of_another_size_is_of_another_release(buffer: mmap.mmap) -> None:
    with pytest.raises(ArenaError, match=r"'it' has 512 bytes, not 64: it is of another release"):
        share(region(buffer), "it", "Counter", RetryBudget())


@pytest.mark.parametrize("size", [1, 4095])
def test_a_buffer_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ConfigError, match=r"buffer=.*4096 to 1099511627776 bytes"):
        region(mmap.mmap(-1, size), new=True)


def test_a_buffer_or_boot_that_is_none_is_refused() -> None:
    with pytest.raises((BufferError, TypeError)):
        Region(bytes(SIZE), "arena of a test", BOOT, new=True)
    with pytest.raises(ConfigError, match=r"boot=.*16 bytes"):
        region(mmap.mmap(-1, SIZE), new=True, boot=b"short")
    with pytest.raises(ConfigError, match=r"from a cache line on"):
        Region(memoryview(mmap.mmap(-1, SIZE))[8:], "arena of a test", BOOT, new=True)


def test_what_has_no_state_cannot_be_shared(buffer: mmap.mmap) -> None:
    with pytest.raises(TypeError, match=r"str cannot be shared"):
        share(region(buffer), "other", "str", "x")  # type: ignore[arg-type]  # what is tested
