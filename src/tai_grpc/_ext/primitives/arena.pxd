from libc.stdint cimport int64_t, uint64_t

cdef struct RegionHeader:
    char magic[8]
    uint64_t layout
    uint64_t size
    char boot[16]
    uint64_t checksum
    uint64_t reserved[2]
    # Where free bytes begin: all that changes, on a cache line of its own.
    uint64_t used
    uint64_t reserved_too[7]


cdef struct Record:
    uint64_t checksum
    uint64_t name_size
    uint64_t what_size
    uint64_t state_size


cdef class Memory:
    cdef void *data
    # The bytes, and in what is less than a cache line how far `data` is from where they were set aside.
    cdef size_t size_and_lead


cdef class Region:
    cdef Py_buffer buffer
    cdef char *base
    cdef RegionHeader *header
    cdef uint64_t *slots
    cdef size_t n_slots
    # Where the first record begins.
    cdef size_t first
    cdef readonly size_t size
    cdef str title

    cdef int create(self, bytes boot) except -1
    cdef int check(self, bytes boot) except -1
    cdef object damaged(self, str what)
    cdef const Record *record_at(self, uint64_t offset) except NULL
    cdef size_t room(self) except? 1
    cdef int64_t find(self, bytes name, uint64_t *offset) except -2
    cdef uint64_t write(self, bytes name, bytes what, Memory image) except 0
    cdef void give_back(self, uint64_t offset) noexcept
    cdef void *entry(self, object name, str what, Memory image, bint *made) except NULL
