"""The deadlines of the calls of one event loop, for compiled code.

Derive from TimerEntry, override `expired`, and `arm` the entry in the `timers_of` its loop. All of it in the
loop's own thread.
"""

from libc.stdint cimport int64_t


cdef class TimerEntry:
    cdef readonly int64_t deadline_ns  # of the clock of primitives.clock; what it was last armed with
    cdef Py_ssize_t place  # in the heap, from 1; 0: not armed

    # Called once, when the deadline has passed, with the entry disarmed; it may arm, disarm and close.
    # An error goes to the loop's exception handler.
    cdef int expired(self) except -1


cdef class Timer(TimerEntry):
    cdef object callback


cdef class Timers:
    cdef object loop_ref
    cdef list heap
    cdef object handle  # of the one timer of the loop, None: there is none
    cdef int64_t wake_ns  # when that is due
    cdef bint firing
    cdef object __weakref__

    # Arm `entry`, or move it if it is armed here. RuntimeError: the loop is closed or gone, or another one's
    # Timers hold it.
    cpdef int arm(self, TimerEntry entry, int64_t deadline_ns) except -1
    # Nothing happens if it is not armed here.
    cpdef void disarm(self, TimerEntry entry) noexcept
    # Disarm all.
    cpdef int close(self) except -1

    cdef bint _holds(self, TimerEntry entry) noexcept
    cdef void _remove(self, TimerEntry entry) noexcept
    cdef void _place(self, Py_ssize_t place) noexcept
    cdef int _schedule(self) except -1
    cdef int _fire(self) except -1
    cdef int _expire(self, TimerEntry entry) except -1


# Keep what it returns as long as there are calls: the loop keeps it only while something is armed.
cpdef Timers timers_of(object loop)
