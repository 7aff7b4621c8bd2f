# cython: language_level=3
"""Threads that wait for what one of them reads, without a thread beside them.

Whoever waits first leads: it polls, and wakes those whose calls it heard of. They follow: each waits on a
lock of its own. When the leader has what it waits for itself, it wakes another one that waits, which leads
from there on. What changes while it polls it is told through a pipe.

The lock is held but for the polls. Nothing is called under it that a caller could have written.
"""

from cpython.exc cimport PyErr_CheckSignals
from cpython.pythread cimport (
    NOWAIT_LOCK, PY_LOCK_INTR, WAIT_LOCK, PyLockStatus, PyThread_acquire_lock, PyThread_allocate_lock,
    PyThread_free_lock, PyThread_get_thread_ident, PyThread_release_lock, PyThread_type_lock,
)
from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t
from posix.unistd cimport close, read, write

from tai_grpc._ext.primitives.clock cimport monotonic_ns

import socket

cdef extern from "poll.h" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd *descriptors, unsigned long count, int timeout_ms)

cdef extern from "pythread.h":
    PyLockStatus PyThread_acquire_lock_timed(PyThread_type_lock lock, long long us, int interruptible) nogil

# A poll's longest turn. Whoever has no deadline goes round again.
cdef int64_t LONGEST_TURN_NS = 600_000_000_000


cdef class Awaited:
    """Something that threads wait for."""

    cdef bint is_so(self, int wanted) noexcept:
        return True


cdef class Shared(Awaited):
    """What the threads share: the lock, and who leads and who follows."""

    def __cinit__(self):
        self.wake_reader = self.wake_writer = -1
        self.lock = PyThread_allocate_lock()
        if self.lock is NULL:
            raise MemoryError

    def __dealloc__(self):
        self.close_pipe()
        if self.lock is not NULL:
            PyThread_free_lock(self.lock)

    cdef int open_pipe(self) except -1:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self.wake_reader = ours.detach()
        self.wake_writer = theirs.detach()
        return 0

    cdef int close_pipe(self) noexcept:
        if self.wake_reader >= 0:
            close(self.wake_reader)
            close(self.wake_writer)
            self.wake_reader = self.wake_writer = -1
        return 0

    cdef int begin_anew(self) except -1:
        self.lock = PyThread_allocate_lock()  # the old one may be held by a thread that is not here
        if self.lock is NULL:
            raise MemoryError
        self.holder = 0
        self.first_waiter = self.last_waiter = NULL
        self.led = False
        self.close_pipe()
        return 0

    # --- The lock ---

    cdef int take_lock(self) except -1:
        cdef unsigned long me = PyThread_get_thread_ident()
        if PyThread_acquire_lock(self.lock, NOWAIT_LOCK) == 0:
            if self.holder == me:
                raise RuntimeError("a finalizer that runs within a call of this connection cannot use it")
            with nogil:
                PyThread_acquire_lock(self.lock, WAIT_LOCK)
        self.holder = me
        return 0

    cdef int leave_lock(self) except -1:
        try:
            self.settle()
        finally:
            self.holder = 0
            PyThread_release_lock(self.lock)
        return 0

    cdef int settle_soon(self) except -1:
        """Now, or by whoever holds the lock when it leaves it."""
        if PyThread_acquire_lock(self.lock, NOWAIT_LOCK) != 0:
            self.holder = PyThread_get_thread_ident()
            self.leave_lock()
        return 0

    # --- Waiting: with the lock ---

    cdef int wait(self, Awaited awaited, int wanted, int64_t deadline_ns) except -1:
        try:
            while not awaited.is_so(wanted):
                if deadline_ns != 0 and monotonic_ns() >= deadline_ns:
                    return 0
                if self.led:
                    self.follow(awaited, deadline_ns)
                else:
                    self.lead(awaited, deadline_ns)
            return 1
        finally:
            self.hand_over()

    cdef int poll_for(self, Awaited awaited, int descriptor, short *events, int64_t until_ns) except -1:
        cdef pollfd descriptors[2]
        cdef int64_t turn_ns = LONGEST_TURN_NS
        cdef char[64] dust
        cdef int timeout_ms, found, failure
        if until_ns != 0:
            turn_ns = min(turn_ns, max(<int64_t>0, until_ns - monotonic_ns()))
        timeout_ms = <int>((turn_ns + 999_999) // 1_000_000)
        descriptors[0].fd = descriptor
        descriptors[0].events = events[0]
        descriptors[1].fd = self.wake_reader
        descriptors[1].events = POLLIN
        descriptors[0].revents = descriptors[1].revents = 0
        self.led = True
        self.leads_for = <void *>awaited
        try:
            self.leave_lock()
        finally:
            with nogil:
                found = poll(descriptors, 2, timeout_ms)
                failure = errno
            self.take_lock()
            self.led = False
        events[0] = descriptors[0].revents
        if found < 0:
            if failure != EINTR:
                return failure
            self.heed_signals()
        elif descriptors[1].revents != 0:
            while read(self.wake_reader, dust, 64) == 64:
                pass
        return 0

    cdef int follow(self, Awaited awaited, int64_t deadline_ns) except -1:
        """Wait until woken, or until the deadline."""
        cdef Waiter waiter
        cdef long long us = -1
        cdef PyLockStatus status
        waiter.lock = PyThread_allocate_lock()
        if waiter.lock is NULL:
            raise MemoryError
        PyThread_acquire_lock(waiter.lock, WAIT_LOCK)
        waiter.awaited = <void *>awaited
        waiter.woken = False
        waiter.next = NULL
        waiter.previous = self.last_waiter
        if self.last_waiter is NULL:
            self.first_waiter = &waiter
        else:
            self.last_waiter.next = &waiter
        self.last_waiter = &waiter
        if deadline_ns != 0:
            us = max(<int64_t>0, deadline_ns - monotonic_ns()) // 1000 + 1
        try:
            self.leave_lock()
        finally:
            with nogil:
                status = PyThread_acquire_lock_timed(waiter.lock, us, 1)
            self.take_lock()
            if waiter.previous is NULL:
                self.first_waiter = waiter.next
            else:
                waiter.previous.next = waiter.next
            if waiter.next is NULL:
                self.last_waiter = waiter.previous
            else:
                waiter.next.previous = waiter.previous
            PyThread_free_lock(waiter.lock)
        return self.heed_signals() if status == PY_LOCK_INTR else 0

    cdef int heed_signals(self) except -1:
        """Without the lock: a handler may well close the channel."""
        self.hand_over()
        try:
            self.leave_lock()
            PyErr_CheckSignals()
        finally:
            self.take_lock()
        return 0

    cdef int wake(self, Awaited awaited) noexcept:
        cdef Waiter *waiter = self.first_waiter
        if self.led and self.leads_for == <void *>awaited:
            self.poke()
        while waiter is not NULL:
            if waiter.awaited == <void *>awaited and not waiter.woken:
                waiter.woken = True
                PyThread_release_lock(waiter.lock)
            waiter = waiter.next
        return 0

    cdef int hand_over(self) noexcept:
        """If nobody leads, have one that waits do it. Those that are woken already come by themselves."""
        cdef Waiter *waiter = self.first_waiter
        if self.led:
            return 0
        while waiter is not NULL:
            if waiter.woken:
                return 0
            waiter = waiter.next
        if self.first_waiter is not NULL:
            self.first_waiter.woken = True
            PyThread_release_lock(self.first_waiter.lock)
        return 0

    cdef int poke(self) noexcept:
        """A full pipe does as well."""
        cdef char one = 1
        if self.led:
            write(self.wake_writer, &one, 1)
        return 0

    # --- Of the subclass ---

    cdef int lead(self, Awaited awaited, int64_t deadline_ns) except -1:
        return 0

    cdef int settle(self) except -1:
        return 0
