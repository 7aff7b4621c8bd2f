cdef class Noop:
    pass
