# cython: language_level=3, freethreading_compatible=True, boundscheck=False, wraparound=False, cdivision=True
"""Where the primitives keep their state: memory of this process, or a region that processes share.

A primitive is a pointer into such memory and a reference to its owner.

A region is a header, a directory, and records, one for each name:

    header: what it is, sealed by a checksum | `used`: where free bytes begin
    directory: a power of two of words, each 0 or the offset of a record
    record: checksum | sizes | name | what it is, as text | from the next cache line on: the state

An entry is made in three steps: bytes are set aside by a compare-and-swap of `used`; the record is written
there, where nobody looks yet; and one compare-and-swap of a directory word from 0 to its offset publishes
it. A word never changes again, and who looks for a name passes the same words in the same order, from the
name's hash on to the first 0: so a name has one record, whoever makes it at the same time. A process that is
killed at any of these steps leaves at worst bytes set aside for nothing; no step waits for another process.
"""

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport uint8_t
from libc.string cimport memcmp, memcpy, memset

from tai_grpc._ext.primitives.atomics cimport cas_u64, load_u64

from tai_grpc.checks import check_type
from tai_grpc.errors import ArenaError, ConfigError

cdef extern from *:
    size_t CACHE_LINE "((size_t)64)"
    # What Python's allocators give begins at a multiple of it.
    size_t PYTHON_ALIGNS "(2 * sizeof(void *))"
    size_t SIZE_MAX

MIN_ARENA_BYTES = 4096
MAX_ARENA_BYTES = 2**40

MAX_NAME_BYTES = 128
"""How long the name of an entry may be, in UTF-8."""

LAYOUT_VERSION = 1
"""Raised by every change of what the bytes mean: of this module's structs, or of a primitive's state."""

cdef bytes _MAGIC = b"taiarena"
cdef size_t MAX_NAME = 128
cdef size_t MAX_WHAT = 1 << 16
# A directory word for this many bytes: fewer than nearly every entry takes.
cdef size_t BYTES_PER_SLOT = 256


cdef inline size_t _whole_lines(size_t size) noexcept nogil:
    return (size + CACHE_LINE - 1) & ~(CACHE_LINE - 1)


cdef inline uint64_t _fnv(const void *data, size_t size, uint64_t seed) noexcept nogil:
    """FNV-1a (Fowler, Noll, Vo): two inputs of one size that differ in one byte never agree."""
    cdef const uint8_t *byte = <const uint8_t *>data
    cdef size_t i
    cdef uint64_t result = seed ^ <uint64_t>0xCBF29CE484222325
    for i in range(size):
        result = (result ^ byte[i]) * <uint64_t>0x100000001B3
    return result


@cython.final
cdef class Memory:
    """`size` zeroed bytes of this process, aligned to a cache line, kept as long as somebody refers to them.

    Raises:
        MemoryError: there is no room for them.
    """

    def __cinit__(self, size_t size):
        cdef char *start
        cdef size_t lead
        if size == 0 or size > SIZE_MAX - 2 * CACHE_LINE:
            raise MemoryError(f"cannot set aside {size} bytes")
        size = _whole_lines(size)
        # Not posix_memalign, which takes a hundred bytes more for one cache line.
        start = <char *>PyMem_Calloc(1, size + CACHE_LINE - PYTHON_ALIGNS)
        if start is NULL:
            raise MemoryError(f"cannot set aside {size} bytes")
        lead = <size_t>-<Py_ssize_t>start & (CACHE_LINE - 1)
        self.data = start + lead
        self.size_and_lead = size | lead

    def __dealloc__(self):
        if self.data is not NULL:
            PyMem_Free(<char *>self.data - (self.size_and_lead & (CACHE_LINE - 1)))

    @property
    def size(self):
        """How many bytes there are: whole cache lines."""
        return self.size_and_lead & ~(CACHE_LINE - 1)


cdef inline uint64_t _header_checksum(const RegionHeader *header) noexcept nogil:
    return _fnv(header, <size_t>(<char *>&header.checksum - <char *>header), 0)


cdef inline size_t _head_size(const Record *record) noexcept nogil:
    """From the start of a record to its state."""
    return _whole_lines(sizeof(Record) + record.name_size + record.what_size)


cdef inline uint64_t _record_checksum(const Record *record, uint64_t offset) noexcept nogil:
    """Of all but the state, and of where it is."""
    cdef size_t skipped = sizeof(record.checksum)
    cdef size_t size = sizeof(Record) + record.name_size + record.what_size - skipped
    return _fnv(<const char *>record + skipped, size, offset)


cdef class Region:
    """A directory of named states in a writable buffer that other processes may map too.

    `title` begins the messages of errors; `boot` (16 bytes) names the boot whose monotonic clock the states
    are written in. The buffer, MIN_ARENA_BYTES to MAX_ARENA_BYTES long, begins on a cache line. `new` says
    that it is zeroed and becomes a region here; otherwise it is checked to be one.

    Raises:
        ArenaError: it is not a region, or is damaged, or of another layout or boot.
    """

    def __cinit__(self, buffer, str title not None, bytes boot not None, bint new):
        if len(boot) != sizeof(self.header.boot):
            raise ConfigError("boot", boot, "16 bytes")
        PyObject_GetBuffer(buffer, &self.buffer, PyBUF_WRITABLE)
        self.size = <size_t>self.buffer.len
        self.title = title
        self.base = <char *>self.buffer.buf
        self.header = <RegionHeader *>self.base
        self.slots = <uint64_t *>(self.base + sizeof(RegionHeader))
        if not MIN_ARENA_BYTES <= self.size <= MAX_ARENA_BYTES or <size_t>self.base % CACHE_LINE != 0:
            accepted = f"{MIN_ARENA_BYTES} to {MAX_ARENA_BYTES} bytes from a cache line on"
            raise ConfigError("buffer", buffer, accepted)
        self.n_slots = 1
        while self.n_slots * 2 <= self.size // BYTES_PER_SLOT:
            self.n_slots *= 2
        self.first = _whole_lines(sizeof(RegionHeader) + self.n_slots * sizeof(uint64_t))
        if new:
            self.create(boot)
        else:
            self.check(boot)

    def __dealloc__(self):
        if self.base is not NULL:
            PyBuffer_Release(&self.buffer)

    cdef int create(self, bytes boot) except -1:
        memcpy(self.header.magic, PyBytes_AS_STRING(_MAGIC), sizeof(self.header.magic))
        memcpy(self.header.boot, PyBytes_AS_STRING(boot), sizeof(self.header.boot))
        self.header.layout = LAYOUT_VERSION
        self.header.size = self.size
        self.header.checksum = _header_checksum(self.header)
        self.header.used = self.first
        return 0

    cdef int check(self, bytes boot) except -1:
        """Check everything but the states, so that no offset or size in it is trusted unread."""
        cdef uint64_t offset, i
        cdef const Record *record
        cdef RegionHeader header = self.header[0]
        if memcmp(header.magic, PyBytes_AS_STRING(_MAGIC), sizeof(header.magic)) != 0:
            raise ArenaError(f"{self.title} is not an arena: it does not begin as one")
        if header.layout != LAYOUT_VERSION:
            raise ArenaError(
                f"{self.title} is of layout version {header.layout}, not {LAYOUT_VERSION}: another release "
                f"made it; remove it when that uses it no more"
            )
        if header.checksum != _header_checksum(&header):
            raise self.damaged("its header's checksum is wrong")
        if header.size != self.size:
            raise ArenaError(f"{self.title} was made with size={header.size}, but has {self.size} bytes")
        if memcmp(header.boot, PyBytes_AS_STRING(boot), sizeof(header.boot)) != 0:
            raise ArenaError(
                f"{self.title} was made before this machine was last booted: its times mean nothing now; "
                f"remove it"
            )
        for i in range(self.n_slots):
            offset = load_u64(&self.slots[i])
            if offset != 0:
                record = self.record_at(offset)
                if self.find(_name_of(record), &offset) != i:
                    raise self.damaged(f"its directory is wrong at word {i}")
        self.room()
        return 0

    cdef object damaged(self, str what):
        """The error that says so."""
        return ArenaError(f"{self.title} is damaged: {what}; remove it when nobody uses it")

    cdef const Record *record_at(self, uint64_t offset) except NULL:
        """The record at `offset`, when there can be and is one."""
        cdef uint64_t used = self.size - self.room()
        cdef const Record *record
        if offset % CACHE_LINE == 0 and self.first <= offset and offset < used:
            record = <const Record *>(self.base + offset)
            used -= offset
            if (
                1 <= record.name_size <= MAX_NAME
                and 1 <= record.what_size <= MAX_WHAT
                and _head_size(record) <= used
                and record.state_size % CACHE_LINE == 0
                and 1 <= record.state_size <= used - _head_size(record)
                and record.checksum == _record_checksum(record, offset)
            ):
                return record
        raise self.damaged(f"there is no entry at {offset}")

    cdef size_t room(self) except? 1:
        """How many bytes are free."""
        cdef uint64_t used = load_u64(&self.header.used)
        if used < self.first or used > self.size or used % CACHE_LINE != 0:
            raise self.damaged(f"{used} bytes of it are in use")
        return self.size - used

    cdef int64_t find(self, bytes name, uint64_t *offset) except -2:
        """The index of the word of `name`, or of the first 0 where it would be, or -1: there is neither.

        Sets `offset` to what that word is.
        """
        cdef uint64_t mask = self.n_slots - 1
        cdef uint64_t start = _fnv(PyBytes_AS_STRING(name), <size_t>PyBytes_GET_SIZE(name), 0)
        cdef uint64_t i, index
        for i in range(self.n_slots):
            index = (start + i) & mask
            offset[0] = load_u64(&self.slots[index])
            if offset[0] == 0 or _name_of(self.record_at(offset[0])) == name:
                return <int64_t>index
        return -1

    cdef uint64_t write(self, bytes name, bytes what, Memory image) except 0:
        """Set bytes aside and make a record of them, which nobody knows of; return its offset."""
        cdef Record head
        cdef Record *record
        cdef uint64_t offset, need, used
        head.name_size = <uint64_t>len(name)
        head.what_size = <uint64_t>len(what)
        head.state_size = image.size
        need = _head_size(&head) + head.state_size
        offset = load_u64(&self.header.used)
        while True:
            used = self.size - self.room()
            if need > self.size - used:
                raise ArenaError(
                    f"{self.title} is full: {name.decode()!r} takes {need} bytes, and {self.size - used} of "
                    f"{self.size} are free"
                )
            offset = used
            if cas_u64(&self.header.used, &used, offset + need):
                break
        record = <Record *>(self.base + offset)
        memset(record, 0, _head_size(&head))
        record[0] = head
        memcpy(<char *>record + sizeof(Record), PyBytes_AS_STRING(name), head.name_size)
        memcpy(<char *>record + sizeof(Record) + head.name_size, PyBytes_AS_STRING(what), head.what_size)
        record.checksum = _record_checksum(record, offset)
        memcpy(<char *>record + _head_size(record), image.data, image.size)
        return offset

    cdef void give_back(self, uint64_t offset) noexcept:
        """Undo `write`, as long as nobody has set aside bytes behind it."""
        cdef const Record *record = <const Record *>(self.base + offset)
        cdef uint64_t end = offset + _head_size(record) + record.state_size
        cas_u64(&self.header.used, &end, offset)

    cdef void *entry(self, object name, str what, Memory image, bint *made) except NULL:
        """The state called `name`; when there is none, a copy of `image`, and `made` is set.

        `what` says what it is: a kind, then FIELD=VALUE for its configuration, with spaces between.

        Raises:
            ConfigError: `name` is not a str of 1 to 128 bytes in UTF-8.
            ArenaError: the region is full or damaged, or `name` is something else there.
        """
        cdef bytes key = _key(name)
        cdef bytes wanted = what.encode()
        cdef uint64_t written = 0
        cdef uint64_t offset = 0
        cdef int64_t index
        cdef const Record *record
        if not 1 <= len(wanted) <= MAX_WHAT:
            raise ConfigError("what", what, f"1 to {MAX_WHAT} bytes in UTF-8")
        try:
            while True:
                index = self.find(key, &offset)
                if index < 0:
                    raise ArenaError(f"{self.title} is full: it has {self.n_slots} entries, with other names")
                if offset != 0:
                    break
                if written == 0:
                    written = self.write(key, wanted, image)
                # When another process, or thread, is first, it may have been with this name: look again.
                if cas_u64(&self.slots[index], &offset, written):
                    offset = written
                    written = 0
                    made[0] = True
                    break
        finally:
            if written != 0:
                self.give_back(written)
        record = self.record_at(offset)
        there = _what_of(record)
        if there != wanted:
            raise ArenaError(f"{self.title}: {name!r} {_difference(there.decode(errors='replace'), what)}")
        if record.state_size != image.size:
            raise ArenaError(
                f"{self.title}: {name!r} has {record.state_size} bytes, not {image.size}: it is of another "
                f"release"
            )
        return <char *>record + _head_size(record)

    @property
    def used_bytes(self):
        """How many bytes are in use; those that were set aside for nothing count too."""
        return self.size - self.room()

    def entries(self):
        """What each name is, with its configuration, as text."""
        cdef uint64_t offset, i
        cdef const Record *record
        result = {}
        for i in range(self.n_slots):
            offset = load_u64(&self.slots[i])
            if offset != 0:
                record = self.record_at(offset)
                result[_name_of(record).decode()] = _what_of(record).decode()
        return result


cdef bytes _name_of(const Record *record):
    return PyBytes_FromStringAndSize(<const char *>record + sizeof(Record), <Py_ssize_t>record.name_size)


cdef bytes _what_of(const Record *record):
    cdef const char *what = <const char *>record + sizeof(Record) + record.name_size
    return PyBytes_FromStringAndSize(what, <Py_ssize_t>record.what_size)


cdef str _difference(str there, str asked):
    """What an entry is, and what was asked for: their kinds when these differ, else the fields that do."""
    theirs, ours = there.split(), asked.split()
    if theirs[:1] != ours[:1]:
        return f"is a {theirs[0] if theirs else 'nothing'}, not a {ours[0]}"
    there = " ".join([field for field in theirs if field not in ours])
    asked = " ".join([field for field in ours if field not in theirs])
    return f"has {there or 'no more settings'}, not {asked or 'no more settings'}"


cdef bytes _key(object name):
    check_type("name", name, str)
    try:
        key = name.encode()
    except UnicodeEncodeError:
        key = b""
    if not 1 <= len(key) <= MAX_NAME_BYTES:
        raise ConfigError("name", name, f"a str of 1 to {MAX_NAME_BYTES} bytes in UTF-8")
    return key
