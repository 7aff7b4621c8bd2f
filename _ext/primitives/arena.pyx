# cython: language_level=3, freethreading_compatible=True
"""Where the primitives keep their state: a primitive is a pointer into such memory and a reference to it."""

cimport cython
from libc.stdlib cimport free
from libc.string cimport memset
from posix.stdlib cimport posix_memalign

cdef extern from *:
    size_t CACHE_LINE "((size_t)64)"
    size_t SIZE_MAX


@cython.final
cdef class Memory:
    """`size` zeroed bytes of this process, aligned to a cache line, kept as long as somebody refers to them.

    Raises:
        MemoryError: there is no room for them.
    """

    def __cinit__(self, size_t size):
        if size == 0 or size > SIZE_MAX - CACHE_LINE:
            raise MemoryError(f"cannot set aside {size} bytes")
        size = (size + CACHE_LINE - 1) & ~(CACHE_LINE - 1)
        if posix_memalign(&self.data, CACHE_LINE, size) != 0:
            self.data = NULL
            raise MemoryError(f"cannot set aside {size} bytes")
        memset(self.data, 0, size)
        self.size = size

    def __dealloc__(self):
        free(self.data)
