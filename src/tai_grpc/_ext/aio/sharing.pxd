"""Threads that wait for what one of them reads. See sharing.pyx."""

from cpython.pythread cimport PyThread_type_lock
from libc.stdint cimport int64_t

cdef extern from "poll.h" nogil:
    const short POLLIN
    const short POLLOUT


# Something that threads wait for.
cdef class Awaited:
    # Whether what is wanted of it, a number of the subclass's, is so. With the lock.
    cdef bint is_so(self, int wanted) noexcept


# A thread that waits while another one reads for it. It lies on that thread's stack.
cdef struct Waiter:
    PyThread_type_lock lock
    Waiter *previous
    Waiter *next
    void *awaited
    bint woken


# A subclass gives `lead` and `settle`; as an Awaited it is what is to be so of the whole.
cdef class Shared(Awaited):
    cdef PyThread_type_lock lock  # around all that follows, and what the subclass has
    cdef unsigned long holder  # of the lock; 0: nobody
    cdef Waiter *first_waiter
    cdef Waiter *last_waiter
    cdef bint led  # a thread polls
    cdef void *leads_for  # the Awaited that that thread itself waits for
    cdef int wake_reader  # -1: closed
    cdef int wake_writer

    cdef int open_pipe(self) except -1
    cdef int close_pipe(self) noexcept
    cdef int begin_anew(self) except -1  # in the child of a fork, where only this thread is; closes the pipe
    cdef int take_lock(self) except -1
    cdef int leave_lock(self) except -1
    cdef int settle_soon(self) except -1  # from anywhere, a finalizer too: have `settle` called
    # With the lock. 1: it is so; 0: the deadline (of the primitives' clock, 0: none) has passed. Raises what
    # a signal's handler raises.
    cdef int wait(self, Awaited awaited, int wanted, int64_t deadline_ns) except -1
    cdef int follow(self, Awaited awaited, int64_t deadline_ns) except -1
    cdef int heed_signals(self) except -1
    cdef int wake(self, Awaited awaited) noexcept  # whoever waits for it
    cdef int hand_over(self) noexcept
    cdef int poke(self) noexcept  # end the leader's poll
    # For `lead`: wait without the lock until the descriptor is ready or something else is to be looked at, at
    # the latest at `until_ns` (0: never). `events` become those that are so. Returns an errno; 0: none.
    cdef int poll_for(self, Awaited awaited, int descriptor, short *events, int64_t until_ns) except -1
    # Of the subclass, with the lock. One turn of the leader, for all; it polls until the deadline at most.
    cdef int lead(self, Awaited awaited, int64_t deadline_ns) except -1
    # What others could not do without the lock. From its last look on no other thread may run.
    cdef int settle(self) except -1
