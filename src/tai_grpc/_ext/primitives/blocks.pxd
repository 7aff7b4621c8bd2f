"""The `with` blocks of breakers and limiters: see blocks.pyx."""

from libc.stdint cimport int64_t


cdef class Block:
    # What it was entered on.
    cdef object owner
    # What that wants to know when it ends.
    cdef int64_t permit
    cdef int64_t started_ns
    # 1 once it has ended, which contexts that were copied from its own do not show. Atomic.
    cdef int64_t ended


cdef Block block_enter(object owner, int64_t permit, int64_t started_ns)
cdef Block block_leave(object owner)
cdef void block_end(Block block) noexcept
