"""Numbers that come from Python, checked without making objects."""

from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from libc.stdint cimport INT64_MAX, int64_t


cdef inline int64_t natural(object number) noexcept:
    """`number` when it is an int and not negative (INT64_MAX when it is more than that), -1 for all else.

    What is out of the caller's range goes to config.check_int: that words the error, and takes what is an
    int by inheritance.
    """
    cdef int overflow
    cdef int64_t value
    if not PyLong_CheckExact(number):
        return -1
    value = PyLong_AsLongLongAndOverflow(number, &overflow)
    if overflow > 0:
        return INT64_MAX
    return value if value >= 0 else -1
