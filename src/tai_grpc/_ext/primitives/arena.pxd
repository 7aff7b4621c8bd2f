cdef class Memory:
    cdef void *data
    cdef readonly size_t size
